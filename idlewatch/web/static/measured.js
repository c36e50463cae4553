"use strict";
// What is only looked at when somebody asks: what a stop would wipe, and the saved copies.
(() => {
  const { el, show, size } = page;

  function table(head, rows) {
    return el("table", {},
      el("thead", {}, el("tr", {}, ...head.map((name, i) => el("th", { scope: "col", class: i ? "n" : null }, name)))),
      el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((cell, i) => el("td", { class: i ? "n" : "path" }, cell))))));
  }

  const drawn = {
    loss(found) {
      if (found.nothing) return [el("p", {}, "Nothing would be lost.")];
      const parts = [
        el("p", { class: "big" }, size(found.total_bytes)),
        el("p", { class: "faint" }, "in " + found.files + " files under " + found.root),
        table(["folder", "files", "size"], found.by_folder.slice(0, 10).map((one) => [one.path, String(one.files), size(one.bytes)])),
      ];
      const left = found.excluded.filter((one) => one.bytes);
      if (left.length) parts.push(table(["left out on purpose", "size"], left.map((one) => [one.rule, size(one.bytes)])));
      if (found.errors.length) {
        parts.push(el("p", { class: "bad" }, "Can't be read, so a save would not be whole:"));
        parts.push(table(["path", "why"], found.errors.slice(0, 10).map((one) => [one.path, one.error])));
      }
      return parts;
    },
    snapshots({ snapshots: found }) {
      if (!found.length) return [el("p", {}, "There is none yet.")];
      return [table(["snapshot", "files", "size"], found.map((one) => [
        el("span", {}, one.id, el("span", { class: "tag" }, page.at(Date.parse(one.created_at) / 1000, true))),
        String(one.files), size(one.archive_bytes)])),
      el("p", { class: "faint small" }, el("code", {}, "idlewatch restore ID"), " brings one back.")];
    },
  };

  async function follow(what) {
    const told = await page.ask("api/measured?" + new URLSearchParams({ what }));
    if (told.state === "running") { setTimeout(() => follow(what).catch((error) => failed(what, error)), 700); return; }
    document.querySelector(`[data-measure="${what}"]`).disabled = false;
    if (told.state === "done") show(what, ...drawn[what](told.answer));
    else failed(what, new Error(told.why || "no answer"));
  }

  function failed(what, error) {
    document.querySelector(`[data-measure="${what}"]`).disabled = false;
    show(what, el("p", { class: "bad" }, String(error.message || error)));
  }

  for (const button of document.querySelectorAll("[data-measure]")) {
    button.addEventListener("click", () => {
      const what = button.dataset.measure;
      button.disabled = true;
      show(what, el("p", { class: "faint" }, "Looking…"));
      page.act("measure", { csrf: page.csrf, what }).then(() => follow(what)).catch((error) => failed(what, error));
    });
  }
})();
