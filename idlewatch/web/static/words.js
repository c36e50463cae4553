"use strict";
// What the other scripts share: elements made as text only, spans and instants as people read them, and asking.
const page = {
  csrf: document.body.dataset.csrf,

  el(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  },

  show(id, ...children) {
    document.getElementById(id).replaceChildren(...children);
  },

  span(seconds) {
    const parts = [];
    let left = Math.max(0, Math.round(seconds));
    for (const [unit, size] of [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]]) {
      const number = Math.floor(left / size);
      left -= number * size;
      if (number) parts.push(number + unit);
    }
    return parts.slice(0, 2).join(" ") || "0s";
  },

  clock(seconds) {
    const left = Math.max(0, Math.round(seconds));
    return Math.floor(left / 60) + ":" + String(left % 60).padStart(2, "0");
  },

  at(wall, withDay) {
    const day = withDay ? { weekday: "short", day: "numeric", month: "short" } : {};
    return new Date(wall * 1000).toLocaleString([], { ...day, hour: "2-digit", minute: "2-digit", hour12: false });
  },

  size(bytes) {
    let amount = bytes;
    for (const unit of ["B", "KB", "MB", "GB"]) {
      if (amount < 1000) return (unit === "B" ? amount.toFixed(0) : amount.toFixed(1)) + " " + unit;
      amount /= 1000;
    }
    return amount.toFixed(1) + " TB";
  },

  figure(value) {
    const size = Math.abs(value);
    return value.toFixed(size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : 2);
  },

  sentence(text) {
    return text.charAt(0).toUpperCase() + text.slice(1);
  },

  async ask(address) {
    const answer = await fetch(address, { headers: { Accept: "application/json" }, cache: "no-store" });
    if (answer.status === 401) throw new Error("signed out: open the link that `idlewatch web --link` prints");
    if (!answer.ok) throw new Error((await answer.text()).trim() || "the page answered " + answer.status);
    return answer.json();
  },

  async act(address, fields) {
    const body = new URLSearchParams(fields);
    const answer = await fetch(address, { method: "POST", body, headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error((await answer.text()).trim() || "the page answered " + answer.status);
    return (await answer.json()).said;
  },

  say(text, bad, id) {
    const said = document.getElementById(id || "said");
    said.textContent = text;
    said.classList.toggle("bad", Boolean(bad));
  },
};
