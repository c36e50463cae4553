"use strict";
// What was seen: one lane of verdicts a signal, and charts; dragging over one zooms into all of them.
(() => {
  const { el, show } = page;
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const LANE = 22, LINES = 8, FEW = 4, SYNC = uPlot.sync("past");
  let range = "6h", zoom = null, shown = null, timer = 0, drawn = [], asked = 0;
  const narrow = () => innerWidth < 640;

  function address(name) {
    return "api/" + name + "?" + new URLSearchParams(zoom ? { from: zoom[0], to: zoom[1] } : { range });
  }

  async function load() {
    clearTimeout(timer);
    const mine = ++asked;
    press();
    try {
      const [timeline, series] = await Promise.all([page.ask(address("timeline")), page.ask(address("series"))]);
      if (mine !== asked) return;
      shown = { timeline, series };
      draw();
    } catch (error) {
      show("window", String(error.message || error));
    }
    const everyS = Math.max(10, shown ? shown.series.step_s : 10);
    if (!zoom && !document.hidden) timer = setTimeout(load, everyS * 1000);
  }

  function draw() {
    for (const chart of drawn) chart.destroy();
    drawn = [];
    const { timeline, series } = shown;
    drawHead(timeline, series);
    show("charts", ...series.charts.map((chart) => drawChart(chart, series, timeline)));
    drawLanes(timeline);
    drawEvents(timeline.events);
  }

  function press() {
    for (const button of document.querySelectorAll(".ranges [data-range]")) {
      button.setAttribute("aria-pressed", String(!zoom && button.dataset.range === range));
    }
  }

  function drawHead(timeline, series) {
    const day = timeline.to - timeline.from > 20 * 3600 || new Date(timeline.to * 1000).toDateString() !== new Date().toDateString();
    const words = page.at(timeline.from, day) + " to " + page.at(timeline.to, day) + ", a point is " + page.span(series.step_s);
    const more = series.sampled ? "; from evenly spread readings, the lanes are exact" : "";
    show("window", words + more + (zoom ? ". " : ". Drag over a chart to zoom."),
      ...(zoom ? [el("button", { type: "button", class: "back", "data-range": range }, "Back to " + range)] : []));
  }

  function options(width, height, from, to, more) {
    const axis = { stroke: style("faint"), font: "12px " + style("sans"), grid: { stroke: style("line-soft"), width: 1 }, ticks: { show: false } };
    return {
      width, height,
      padding: [8, 22, 0, 0], // half of the last time's label stands beyond the last instant
      legend: { show: false },
      cursor: { sync: { key: SYNC.key }, drag: { x: true, y: false, setScale: false }, points: { size: 6 }, y: false },
      scales: { x: { time: true, range: [from, to] }, y: more.y },
      axes: [{ ...axis, size: 28, space: narrow() ? 64 : 80, values: clockTicks, show: more.clock !== false },
        { ...axis, size: narrow() ? 62 : 74, gap: 6, ...more.axis }],
      series: [{}, ...more.series],
      hooks: { ...more.hooks, setSelect: [zoomed], ready: [touched] },
    };
  }

  function clockTicks(chart, splits, _axis, _space, stepS) {
    let before = "";
    return splits.map((at) => {
      const when = new Date(at * 1000), day = when.toLocaleDateString([], { day: "numeric", month: "short" });
      const first = day !== before;
      before = day;
      if (stepS >= 86400) return day;
      const time = when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false, ...(stepS < 60 ? { second: "2-digit" } : {}) });
      return first && time.startsWith("00:00") ? day : time;
    });
  }

  function zoomed(chart) {
    if (chart.select.width < 6) return;
    const from = chart.posToVal(chart.select.left, "x"), to = chart.posToVal(chart.select.left + chart.select.width, "x");
    chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    if (to - from >= 30) { zoom = [from, to]; load(); }
  }

  function touched(chart) {
    const follow = (event) => {
      const box = chart.over.getBoundingClientRect(), touch = event.touches[0];
      chart.setCursor({ left: touch.clientX - box.left, top: touch.clientY - box.top });
    };
    chart.over.addEventListener("touchstart", follow, { passive: true });
    chart.over.addEventListener("touchmove", follow, { passive: true });
  }

  function drawChart(chart, series, timeline) {
    if (chart.lines.length > FEW) return drawHeat(chart, series, timeline);
    const values = chart.lines.map((line) => el("b", {}, ""));
    const many = chart.lines.length > 1;
    const legend = el("span", { class: "legend" }, ...chart.lines.map((line, i) =>
      el("span", { class: "line-" + (i % LINES + 1) }, many ? line.name + " " : "", values[i])));
    const place = el("div", { role: "img", "aria-label": chart.title + " in " + chart.unit + " over the span that is shown" });
    const box = el("div", { class: "chart" }, el("h3", {}, chart.title, legend), place);
    const told = (index) => chart.lines.forEach((line, i) => {
      const value = line.values[index];
      values[i].textContent = (value === null || value === undefined ? "–" : page.figure(value)) + " " + chart.unit;
    });
    const newest = () => { const at = chart.lines[0].values.findLastIndex((value) => value !== null); told(at); };
    const highest = Math.max(...chart.lines.flatMap((line) => line.values.map((value) => value || 0)));
    const lines = chart.lines.map((line, i) => {
      const colour = style("l" + (i % LINES + 1));
      return { label: line.name, stroke: colour, width: 1.4, fill: many ? undefined : colour + "22", points: { show: false } };
    });
    requestAnimationFrame(() => {
      if (!place.isConnected) return;
      drawn.push(new uPlot(options(place.clientWidth, 150, timeline.from, timeline.to, {
        y: { range: [0, (chart.top || highest * 1.15 || 1) * 1.02] },
        series: lines,
        hooks: { setCursor: [(u) => (u.cursor.idx === null || u.cursor.idx === undefined ? newest() : told(u.cursor.idx))] },
      }), [series.at, ...chart.lines.map((line) => line.values)], place));
      newest();
    });
    return box;
  }

  // More lines than can be told apart are rows, each point as dark as it is high: one busy GPU of eight is seen at once.
  function drawHeat(chart, series, timeline) {
    const rows = chart.lines.length, shown = " " + chart.unit, says = el("b", {}, "");
    const place = el("div", { role: "img", "aria-label": chart.title + " in " + chart.unit + ", a row a GPU, over the span that is shown" });
    const box = el("div", { class: "chart" }, el("h3", {}, chart.title, el("span", { class: "legend heat" }, says)), place);
    const top = chart.top || Math.max(...chart.lines.flatMap((line) => line.values.map((value) => value || 0))) || 1;
    const newest = () => {
      const at = Math.max(...chart.lines.map((line) => line.values.findLastIndex((value) => value !== null)));
      const last = chart.lines.map((line) => line.values[at]).filter((value) => value !== null && value !== undefined);
      says.textContent = last.length ? page.figure(Math.min(...last)) + " to " + page.figure(Math.max(...last)) + shown : "–";
    };
    const paint = (u) => {
      const draw = u.ctx, { left, top: above, width, height } = u.bbox, row = height / rows, half = series.step_s / 2;
      const ground = style("line-soft"), ink = style("l1");
      draw.save();
      draw.beginPath(); draw.rect(left, above, width, height); draw.clip();
      chart.lines.forEach((line, i) => line.values.forEach((value, at) => {
        if (value === null) return;
        const from = Math.round(u.valToPos(series.at[at] - half, "x", true)); // whole pixels: none is painted twice
        const wide = Math.round(u.valToPos(series.at[at] + half, "x", true)) - from;
        draw.globalAlpha = 1; draw.fillStyle = ground; draw.fillRect(from, above + i * row + 1, wide, row - 2);
        draw.globalAlpha = Math.min(1, value / top); draw.fillStyle = ink; draw.fillRect(from, above + i * row + 1, wide, row - 2);
      }));
      draw.restore();
    };
    const hover = (u) => {
      const { left, top: down, idx } = u.cursor;
      if (idx === null || idx === undefined || left < 0 || down < 0 || !u.over.matches(":hover")) { newest(); return; }
      const line = chart.lines[Math.min(rows - 1, Math.floor(down / (u.over.clientHeight / rows)))], value = line.values[idx];
      says.textContent = line.name + " " + (value === null ? "–" : page.figure(value) + shown) + ", " + page.at(series.at[idx], timeline.to - timeline.from > 20 * 3600);
    };
    requestAnimationFrame(() => {
      if (!place.isConnected) return;
      drawn.push(new uPlot(options(place.clientWidth, Math.max(150, rows * 15 + 36), timeline.from, timeline.to, {
        y: { range: [0, rows] },
        axis: { splits: () => chart.lines.map((_, i) => rows - i - 0.5), values: () => chart.lines.map((line) => line.name), grid: { show: false }, filter: (_u, splits) => splits },
        series: [{ show: true, points: { show: false } }],
        hooks: { draw: [paint], setCursor: [hover] },
      }), [series.at, series.at.map(() => null)], place));
      newest();
    });
    return box;
  }

  function colourOf(verdict, bars) {
    if (verdict === "active" || verdict === "held" || verdict === "unknown") return style(verdict);
    return bars ? style("bars") : style(verdict === "absent" ? "absent" : "quiet");
  }

  const WORDS = { hold: "holds" };

  function drawLanes(timeline) {
    const place = document.getElementById("lanes"), order = (name) => ["hold", "gpu", "host"].indexOf(name) + 1 || 9;
    const lanes = [...timeline.lanes].sort((a, b) => order(a.name) - order(b.name) || a.name.localeCompare(b.name));
    place.replaceChildren();
    if (!lanes.length) { place.append(el("p", { class: "faint" }, "Nothing was seen in this span.")); return; }
    const rows = lanes.length, spansAt = (row) => lanes[row].spans;
    const colours = new Map();
    const colour = (span) => {
      const key = span[2] + span[3];
      if (!colours.has(key)) colours.set(key, colourOf(span[2], span[3]));
      return colours.get(key);
    };
    const paint = (chart) => {
      const draw = chart.ctx, { left, top, width, height } = chart.bbox, row = height / rows;
      draw.save();
      draw.beginPath(); draw.rect(left, top, width, height); draw.clip();
      lanes.forEach((lane, i) => lane.spans.forEach((span) => {
        const from = chart.valToPos(span[0], "x", true), to = chart.valToPos(span[1], "x", true);
        const thin = span[2] === "absent" ? 0.46 : 0.2;
        draw.fillStyle = colour(span);
        draw.fillRect(from, top + (i + thin) * row, Math.max(devicePixelRatio, to - from), row * (1 - 2 * thin));
      }));
      draw.restore();
    };
    const hover = (chart) => {
      const { left, top } = chart.cursor;
      if (left === undefined || left < 0 || top === undefined || top < 0 || !chart.over.matches(":hover")) return;
      const row = Math.min(rows - 1, Math.floor(top / (chart.over.clientHeight / rows))), at = chart.posToVal(left, "x");
      const slack = chart.posToVal(left + 2, "x") - at;
      const span = spansAt(row).find((one) => at >= one[0] - slack && at <= one[1] + slack);
      laneSays(lanes[row].name, span, at);
    };
    let at = [timeline.to, 0];
    const step = (timeline.to - timeline.from) / 60;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const read = (chart) => {
      const [when, row] = at, slack = step / 2;
      laneSays(lanes[row].name, spansAt(row).find((one) => when >= one[0] - slack && when <= one[1] + slack), when);
      chart.setCursor({ left: chart.valToPos(when, "x"), top: (row + 0.5) * chart.over.clientHeight / rows });
    };
    place.tabIndex = 0;
    place.onkeydown = (event) => {
      const move = moves[event.key];
      if (!move) return;
      event.preventDefault();
      at = [Math.min(timeline.to, Math.max(timeline.from, at[0] + move[0])), Math.min(rows - 1, Math.max(0, at[1] + move[1]))];
      read(lanesChart);
    };
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", "Verdicts of " + lanes.map((lane) => lane.name).join(", ") + " over the span that is shown, read with the arrow keys; the events below tell what came of them");
    const lanesChart = new uPlot(options(place.clientWidth, rows * LANE + 36, timeline.from, timeline.to, {
      y: { range: [0, rows] },
      axis: {
        splits: () => lanes.map((_, i) => rows - i - 0.5),
        values: () => lanes.map((lane) => WORDS[lane.name] || lane.name),
        grid: { show: false }, filter: (_chart, splits) => splits,
      },
      series: [{ show: true, points: { show: false } }],
      hooks: { draw: [paint], setCursor: [hover] },
    }), [[timeline.from, timeline.to], [null, null]], place);
    drawn.push(lanesChart);
  }

  function laneSays(name, span, at) {
    if (!span) { show("lane-says", el("b", {}, name), " " + page.at(at, true) + (name === "hold" ? ": no hold" : ": nobody looked")); return; }
    const [from, to, verdict, bars, reason, spans] = span;
    const merged = spans > 1 ? " (the strongest of " + spans + " that are too short to be shown)" : "";
    const more = bars && verdict !== "active" ? ", keeps the warning away" : "";
    show("lane-says", el("b", {}, (WORDS[name] || name) + " " + verdict), more + " · " + page.at(from, true) + " to " + page.at(to) +
      " (" + page.span(to - from) + ")" + merged, el("br"), reason);
  }

  function drawEvents(events) {
    const kinds = (kind) => (kind === "alarm" || kind.endsWith("failed") ? "alarm" : kind === "stop" || kind === "warn" ? "end" : "");
    const rows = events.map((event) => el("tr", { class: kinds(event.kind) },
      el("td", {}, page.at(event.at, true)), el("td", {}, event.kind), el("td", {}, event.text)));
    show("events", ...(rows.length ? rows : [el("tr", {}, el("td", { class: "faint" }, "None in this span."))]));
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-range], [data-step]");
    if (!button) return;
    if (button.dataset.range) { range = button.dataset.range; zoom = null; } else if (shown) {
      const { from, to } = shown.timeline, by = (to - from) / 2 * Number(button.dataset.step);
      zoom = [from + by, to + by];
      if (zoom[1] > Date.now() / 1000) zoom = null;
    }
    show("window", "Looking…");
    load();
  });
  let width = innerWidth;
  addEventListener("resize", () => { if (shown && innerWidth !== width) { width = innerWidth; draw(); } });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (shown) draw(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) load(); });
  document.addEventListener("happened", () => { if (!zoom) load(); });
  load();
})();
