"use strict";
// What is true now: polled as often as the daemon looks, not at all while nobody sees the page.
(() => {
  const { el, show, span, clock } = page;
  const NOT_CONFIRMED = "STOP NOT CONFIRMED";
  let last = null, heardAt = 0, timer = 0, whyAt = 0;

  const nowS = () => last.now_s + (performance.now() - heardAt) / 1000;

  function stateWords(live) {
    const status = live.status, holds = live.holds.length;
    if (!live.running) return [live.lives ? "The daemon hangs, or is only starting" : "Nothing guards this Pod", "alarm", live.not_running];
    const unproven = (status.troubles || {})[NOT_CONFIRMED];
    if (unproven) return ["Stop not confirmed: it still runs", "alarm", unproven];
    const left = status.acts_at_s === null ? null : status.acts_at_s - nowS();
    if (status.phase === "warned") return ["Saves and stops in " + clock(left === null ? 0 : left), "ending", status.reason];
    if (status.phase === "saving") return ["Saving, then it stops", "ending", status.reason];
    if (status.phase === "last look") return ["A last look, then it stops", "ending", status.reason];
    if (status.phase === "stopping") return ["Stopping", "ending", status.reason];
    if (holds) return ["Held for " + span(Math.max(...live.holds.map((hold) => hold.until_s)) - nowS()), "", status.reason];
    if (status.idle_for_s > 0) return ["Idle for " + span(status.idle_for_s), "", status.reason];
    return ["In use", "", status.reason];
  }

  function drawState() {
    if (!last) return;
    const [words, kind, reason] = stateWords(last);
    const hero = document.querySelector(".hero"), heading = document.getElementById("state");
    hero.className = "hero " + kind;
    if (heading.textContent !== words) heading.textContent = words;
    const why = kind === "ending" && last.status.why && !reason.includes(last.status.why) ? ": " + last.status.why : "";
    show("reason", (reason || "") + why);
    document.title = words + " · idlewatch";
    drawRoad(last);
    document.getElementById("stop-link").hidden = !last.running || last.stop_asked !== null || last.status.phase === "stopping";
    document.getElementById("cancel").hidden = last.stop_asked === null;
    const age = (performance.now() - heardAt) / 1000;
    show("heard", age < 15 ? (last.running ? "live" : "nothing new comes from the daemon") : "last heard " + span(age) + " ago");
  }

  function drawRoad(live) {
    const status = live.status, road = document.getElementById("road");
    const quiet = status.idle_after_s ?? live.limits.idle_after_s, warn = live.limits.warn_for_s;
    const ending = status.phase !== "watching";
    road.hidden = !live.running || !quiet || status.phase === "stopping" || (ending && status.cause !== "idle");
    if (road.hidden) return;
    document.querySelector(".road-quiet").style.flex = quiet + " 0 0";
    document.querySelector(".road-warn").style.flex = Math.max(warn, quiet / 8) + " 0 0";
    const left = status.acts_at_s === null ? 0 : status.acts_at_s - nowS();
    const done = ending ? 1 : Math.min(1, status.idle_for_s / quiet);
    document.getElementById("quiet-done").style.width = done * 100 + "%";
    document.getElementById("warn-done").style.width = (ending ? Math.min(1, Math.max(0, 1 - left / warn)) * 100 : 0) + "%";
    const bar = document.getElementById("road-bar");
    bar.setAttribute("aria-valuemax", quiet);
    bar.setAttribute("aria-valuenow", Math.round(Math.min(quiet, status.idle_for_s)));
    const learned = status.learned_why ? " (" + status.learned_why + ")" : "";
    show("marks", "warning after " + span(quiet) + learned + ", save and stop " + span(warn) + " later");
  }

  function drawTop(live) {
    const status = live.status, mode = document.getElementById("mode");
    show("pod", status.pod_id || "");
    mode.hidden = status.mode !== "observe";
    mode.textContent = "only observes";
    const up = live.running && status.started_s !== null;
    show("uptime", up ? "up " + span(live.now_s - status.started_s) : "");
    const spent = status.spent_usd, price = status.usd_per_hour;
    show("cost", price ? "$" + (spent || 0).toFixed(2) + " so far · $" + price.toFixed(2) + "/h" : "");
    show("before", status.previous_stop ? "Before this start: " + status.previous_stop : "");
  }

  function drawTroubles(live) {
    const heading = live.running ? NOT_CONFIRMED : null; // told above, in large
    const others = Object.entries(live.status.troubles || {}).filter(([name]) => name !== heading);
    const told = others.map(([name, text]) => el("li", {}, el("b", {}, name), " " + text));
    for (const problem of live.problems) told.push(el("li", {}, el("b", {}, "settings"), " " + problem));
    document.getElementById("troubles").hidden = !told.length;
    show("troubles", ...told);
  }

  function drawSignals(live) {
    show("h-signals", live.running ? "Signals" : "Signals, as they were seen last");
    const rows = Object.entries(live.status.signals || {}).map(([name, said]) => {
      const bars = said.bars && said.activity !== "active";
      const tag = bars ? "keeps the warning away" : said.pauses ? "the clock stands still" : null;
      const verdict = el("span", { class: "verdict " + said.activity + (bars ? " bars" : "") }, said.activity);
      return el("tr", {},
        el("td", {}, name),
        el("td", {}, verdict),
        el("td", { class: "why" }, said.reason, tag && el("span", { class: "tag" }, tag)),
        el("td", { class: "n", "data-word": "for" }, span(live.now_s - said.since_s)),
        el("td", { class: "n", "data-word": "read" }, span(live.now_s - said.read_s) + " ago"));
    });
    show("signals", ...(rows.length ? rows : [el("tr", {}, el("td", { colspan: 5, class: "faint" }, "nothing was read yet"))]));
  }

  function drawHolds(live) {
    const rows = live.holds.map((hold) => {
      const form = el("form", { method: "post", action: "release", "data-act": true },
        el("input", { type: "hidden", name: "csrf", value: page.csrf }),
        el("input", { type: "hidden", name: "id", value: hold.id }),
        el("button", { "aria-label": "Release the hold of " + hold.who }, "Release"));
      return el("li", {}, el("div", { class: "grow" }, hold.reason || "no reason given",
        el("span", { class: "tag" }, hold.who + " · " + span(hold.until_s - nowS()) + " left")), form);
    });
    show("holds", ...(rows.length ? rows : [el("li", { class: "faint" }, "None.")]));
  }

  function drawAdvice(live) {
    const found = live.running ? live.status.advice || [] : [];
    document.getElementById("advice-box").hidden = !found.length;
    show("advice", ...found.map((one) => el("li", {}, page.sentence(one.text) + ". ",
      one.usd_per_day && el("b", {}, "$" + one.usd_per_hour.toFixed(2) + " an hour, $" + one.usd_per_day.toFixed(2) + " a day"),
      el("span", { class: "tag" }, page.sentence(one.remedy)))));
  }

  const STAGES = { scan: "Looking at the disk", write: "Writing", verify: "Reading it back", commit: "Finishing" };

  function saveWords(save, now) {
    if (save.state !== "running") {
      return (save.state === "done" ? page.sentence(save.text) : "Not saved: " + save.text) + " (" + span(now - save.ended_s) + " ago, asked for by " + save.who + ")";
    }
    const progress = save.progress;
    if (!progress) return "Beginning to save…";
    const whole = progress.total_bytes, far = page.size(progress.done_bytes) + (whole ? " of " + page.size(whole) : "");
    const rate = progress.bytes_s ? ", " + page.size(progress.bytes_s) + "/s" : "";
    const left = progress.left_s === null ? "" : ", " + span(progress.left_s) + " left";
    return (STAGES[progress.stage] || progress.stage) + ": " + far + rate + left;
  }

  function drawSave(live, before) {
    const save = live.status.save, running = save !== null && save !== undefined && save.state === "running";
    const waiting = live.save_asked !== null;
    document.querySelector("#save button").disabled = running || waiting || !live.running || live.status.mode === "observe";
    document.getElementById("saving").hidden = !save && !waiting;
    document.getElementById("save-bar").hidden = !running;
    if (running || waiting) show("save-said");
    if (waiting && !running) show("save-words", "Asked for; the daemon begins with its next look…");
    else if (save) show("save-words", saveWords(save, live.now_s));
    document.getElementById("save-words").classList.toggle("bad", Boolean(save) && save.state === "failed" && !waiting);
    const progress = running ? save.progress : null, known = progress && progress.total_bytes && progress.stage !== "scan";
    document.getElementById("save-bar").classList.toggle("unsure", !known);
    document.getElementById("save-done").style.width = known ? Math.min(100, progress.done_bytes / progress.total_bytes * 100) + "%" : "";
    const ended = before && before.status.save && before.status.save.state === "running" && !running;
    if (ended) document.dispatchEvent(new Event("happened"));
    if (ended && save && save.state === "done") document.querySelector("[data-measure=snapshots]").click();
  }

  async function drawWhy() {
    const why = await page.ask("api/why");
    const rows = (why ? why.keepers : []).map((keeper) => {
      const without = keeper.without_it_stopped_at;
      const tag = without ? "without it stopped at " + page.at(Date.parse(without) / 1000, true) : null;
      return el("li", {}, el("b", {}, keeper.name), " " + keeper.reason, tag && el("span", { class: "tag" }, tag));
    });
    const none = why ? "Nothing but the time that is still to pass." : "Not known: no daemon says it now.";
    show("keepers", ...(rows.length ? rows : [el("li", { class: "faint" }, none)]));
  }

  async function look() {
    clearTimeout(timer);
    let everyS = 5;
    try {
      const live = await page.ask("api/status");
      const before = last, changed = !last || last.status.phase !== live.status.phase || last.holds.length !== live.holds.length;
      if (before && (before.holds.length !== live.holds.length || before.status.phase !== live.status.phase)) document.dispatchEvent(new Event("happened"));
      [last, heardAt] = [live, performance.now()];
      everyS = live.save_asked || (live.status.save || {}).state === "running" ? 2 : Math.max(2, live.status.interval_s || 5);
      drawTop(live); drawTroubles(live); drawSignals(live); drawHolds(live); drawSave(live, before); drawAdvice(live); drawState();
      if (changed || performance.now() - whyAt > 20000) { whyAt = performance.now(); await drawWhy(); }
    } catch (error) {
      show("heard", String(error.message || error));
    }
    if (!document.hidden) timer = setTimeout(look, everyS * 1000);
  }

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!("act" in form.dataset)) return;
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      page.say(await page.act(form.getAttribute("action"), new FormData(form)), false, form.dataset.said);
    } catch (error) {
      page.say(String(error.message || error), true, form.dataset.said);
    }
    button.disabled = false;
    await look();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  setInterval(drawState, 1000);
  look();
})();
