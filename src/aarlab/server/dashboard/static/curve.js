// The live curve: the figure against research hours. Colours, dashes and marks come with words beside them.
"use strict";
(() => {
  const EVERY_MS = 5000;
  const DASHES = [[], [8, 4], [2, 3]];
  const figure = document.querySelector("figure.curve");
  if (!figure || !window.uPlot) return;
  const box = figure.querySelector(".plot");
  const legend = figure.querySelector(".legend");
  const waiting = figure.querySelector(".waiting");
  const hidden = new Set();
  const state = { tag: null };
  let plot = null;
  let data = null;

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // The look is the server's, so that an AAR has one colour here and in the report.
  const style = (one) => ({
    stroke: colour(`--series-${one.look.hue + 1}`),
    dash: DASHES[one.look.turn % DASHES.length],
    width: one.role === "control" ? 1.5 : 2.25,
  });
  const shown = (value) => (value == null ? "–" : (value >= 0 ? "+" : "−") + Math.abs(value).toFixed(2));

  // One x for all: each point in a row of its own, columns per series.
  const aligned = () => {
    const tables = [[data.frontier.map((p) => p[0]), data.frontier.map((p) => p[1])]];
    for (const one of data.series) tables.push([one.best.map((p) => p[0]), one.best.map((p) => p[1])]);
    for (const one of data.series) {
      const dots = new Map(one.dots);
      const xs = [...dots.keys()].sort((a, b) => a - b);
      tables.push([xs, xs.map((x) => dots.get(x))]);
    }
    return uPlot.join(tables.map(([xs, ys]) => (xs.length ? unique(xs, ys) : [[0], [null]])));
  };
  const unique = (xs, ys) => {
    const last = new Map();
    xs.forEach((x, i) => last.set(x, ys[i]));
    const keys = [...last.keys()].sort((a, b) => a - b);
    return [keys, keys.map((x) => last.get(x))];
  };

  const marks = (u) => {
    const ratio = devicePixelRatio;
    u.ctx.save();
    u.ctx.beginPath();
    u.ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    u.ctx.clip();
    for (const one of data.baselines) {
      const x = Math.max(u.valToPos(one.hour, "x", true), u.bbox.left + 6 * ratio);
      const y = u.valToPos(one.pgr, "y", true);
      const r = 4.5 * ratio;
      u.ctx.fillStyle = colour("--ink");
      u.ctx.strokeStyle = colour("--paper");
      u.ctx.lineWidth = ratio;
      u.ctx.beginPath();
      if (one.role === "human") u.ctx.rect(x - r, y - r, 2 * r, 2 * r);
      else { u.ctx.moveTo(x, y - 1.3 * r); u.ctx.lineTo(x + r, y + r); u.ctx.lineTo(x - r, y + r); u.ctx.closePath(); }
      u.ctx.fill();
      u.ctx.stroke();
    }
    u.ctx.restore();
  };

  const steps = [-4, -3, -2, -1, 0, 1, 2, 3, 4].flatMap((power) => [1, 2, 5].map((n) => n * 10 ** power));
  const short = (one) => one.aar.slice(0, 16);
  const widest = () => {
    const ctx = document.createElement("canvas").getContext("2d");
    ctx.font = `12px ${colour("--sans")}`;
    return Math.max(0, ...data.series.map((one) => ctx.measureText(short(one)).width));
  };

  const labels = (u) => {
    const ratio = devicePixelRatio;
    const gap = 13 * ratio;
    const wanted = data.series.map((one, i) => ({ name: one.aar, text: short(one), last: one.best.at(-1), at: i }))
      .filter((one) => one.last && !hidden.has(one.name))
      .map((one) => ({ ...one, y: u.valToPos(one.last[1], "y", true) }))
      .sort((a, b) => a.y - b.y);
    wanted.forEach((one, i) => { if (i) one.y = Math.max(one.y, wanted[i - 1].y + gap); });
    u.ctx.save();
    u.ctx.font = `${12 * ratio}px ${colour("--sans")}`;
    u.ctx.textBaseline = "middle";
    u.ctx.textAlign = "left";
    for (const one of wanted) {
      u.ctx.fillStyle = style(data.series[one.at]).stroke;
      u.ctx.fillText(one.text, u.bbox.left + u.bbox.width + 6 * ratio, one.y);
    }
    u.ctx.restore();
  };

  const options = () => {
    const step = uPlot.paths.stepped({ align: 1 });
    const axis = (label) => ({
      label, stroke: colour("--muted"), font: `12px ${colour("--sans")}`, labelFont: `12px ${colour("--sans")}`,
      grid: { stroke: colour("--faint"), width: 1 }, ticks: { stroke: colour("--faint"), width: 1 },
    });
    const lines = data.series.map((one, i) => ({ label: one.aar, spanGaps: true, paths: step, points: { show: false }, show: !hidden.has(one.aar), ...style(one) }));
    const dots = data.series.map((one, i) => ({
      label: `${one.aar} submissions`, paths: () => null, show: !hidden.has(one.aar), stroke: style(one).stroke,
      points: { show: true, size: 4, width: 1, stroke: style(one).stroke, fill: colour("--paper") },
    }));
    const frontier = { label: "frontier", stroke: colour("--ink"), width: 5, spanGaps: true, paths: step, points: { show: false } };
    return {
      width: box.clientWidth, height: Math.max(240, Math.min(380, box.clientWidth * 0.5)),
      padding: [10, box.clientWidth > 600 ? Math.ceil(widest()) + 14 : 12, 0, 0],
      legend: { show: false }, cursor: { points: { size: 5 }, drag: { x: true, y: false } },
      scales: { x: { time: false, range: (_u, _low, high) => [0, (high || 1) * 1.01] }, y: { range: (_u, low, high) => [Math.max(Math.min(low ?? 0, 0), -0.6) - 0.05, Math.max(high ?? 0, 0.5) + 0.08] } },
      axes: [{ ...axis("research hours of all AARs together"), incrs: steps, values: (_u, at) => at.map((hours) => +hours.toFixed(4)) }, axis(figure.dataset.figure)],
      series: [{}, frontier, ...lines, ...dots],
      hooks: { draw: [marks, (u) => { if (box.clientWidth > 600) labels(u); }], setCursor: [(u) => names(u.cursor.idx)] },
    };
  };

  const swatch = (one, index) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("width", "22");
    svg.setAttribute("height", "8");
    svg.setAttribute("aria-hidden", "true");
    const line = document.createElementNS(svg.namespaceURI, "line");
    const look = index < 0 ? { stroke: colour("--ink"), dash: [], width: 4 } : style(one);
    for (const [k, v] of Object.entries({ x1: 0, x2: 22, y1: 4, y2: 4, stroke: look.stroke, "stroke-width": look.width, "stroke-dasharray": look.dash.join(" ") })) line.setAttribute(k, v);
    svg.append(line);
    return svg;
  };
  const bestAt = (steps, hour) => {
    let found = null;
    for (const [x, y] of steps) { if (hour != null && x > hour) break; found = y; }
    return found;
  };
  const names = (index) => {
    const hour = index == null ? null : plot.data[0][index];
    [...legend.children].forEach((button, i) => {
      const steps = i === 0 ? data.frontier : data.series[i - 1].best;
      button.querySelector("output").textContent = shown(bestAt(steps, hour));
    });
  };
  const drawLegend = () => {
    const entries = [{ aar: "frontier", role: "" }, ...data.series];
    const focused = [...legend.children].indexOf(document.activeElement);
    legend.replaceChildren(...entries.map((one, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", String(!hidden.has(one.aar)));
      button.append(swatch(one, i - 1), one.aar + (one.role === "control" ? " (control)" : ""), document.createElement("output"));
      button.addEventListener("click", () => {
        if (i === 0) return;
        hidden.has(one.aar) ? hidden.delete(one.aar) : hidden.add(one.aar);
        draw();
      });
      return button;
    }));
    if (focused >= 0) legend.children[focused]?.focus();
  };

  const draw = () => {
    if (!data || !box.clientWidth) return;
    if (plot) plot.destroy();
    drawLegend();
    plot = new uPlot(options(), aligned(), box);
    names(null);
    const top = data.frontier.at(-1);
    box.setAttribute("aria-label", top ? `${figure.dataset.figure} on ${data.task} against research hours: the frontier is at ${shown(top[1])} after ${top[0].toFixed(1)} hours` : "No submission is scored yet");
    waiting.textContent = data.waiting ? `${data.waiting} submissions are still being scored.` : "";
  };
  const look = async () => {
    if (!document.hidden) {
      const fresh = await window.aarlabFetch(figure.dataset.src, state);
      if (fresh) { data = fresh; draw(); }
    }
    setTimeout(look, data && data.waiting ? 1000 : EVERY_MS);
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  let resized = null;
  addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(draw, 150); });
  look();
})();
