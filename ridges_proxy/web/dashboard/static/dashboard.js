// Draws the charts from the figures in the page, and again whenever the page has newer ones.
"use strict";

(() => {
  const section = document.querySelector(".charts");
  if (!section) return;

  const COLOURS = ["--spent", "--held", "--bad", "--accent", "--faint"];
  const FIXED = { ok: "--spent", p50: "--spent", p95: "--held", p99: "--bad" };
  const drawn = new Map();
  const hour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  /** The lines of a chart: name and values. */
  function lines(chart, figures) {
    const found = figures[chart];
    return Array.isArray(found) ? { [chart]: found } : found;
  }

  function options(host, names, figures) {
    const lines = { stroke: colour("--line"), width: 1 };
    const axis = { stroke: colour("--ink"), grid: lines, ticks: lines };
    const clock = (_, moments) => moments.map((moment) => hour.format(new Date(moment * 1000)));
    return {
      width: host.clientWidth,
      height: 150,
      legend: { show: names[0] !== host.dataset.chart },
      axes: [{ ...axis, space: 60, values: clock }, { ...axis, size: 56 }],
      scales: { x: { range: () => [figures.since, figures.until] }, y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] } },
      series: [
        {},
        ...names.map((name, index) => ({
          label: name,
          stroke: colour(FIXED[name] ?? COLOURS[index % COLOURS.length]),
          width: 2,
          points: { show: true, size: 4 },
        })),
      ],
    };
  }

  function draw() {
    const data = document.getElementById("chart-data");
    if (!data) return;
    const figures = JSON.parse(data.textContent);
    for (const host of section.querySelectorAll("[data-chart]")) {
      const found = lines(host.dataset.chart, figures);
      const names = Object.keys(found);
      const rows = [figures.times, ...names.map((name) => found[name])];
      const known = drawn.get(host);
      if (known && known.names.join() === names.join()) {
        Object.assign(known.figures, figures);
        known.plot.setData(rows);
      } else {
        known?.plot.destroy();
        drawn.set(host, { names, figures, plot: new uPlot(options(host, names, figures), rows, host) });
      }
    }
  }

  /** Draw all anew, in the colours and the width of now. */
  function redraw() {
    for (const { plot } of drawn.values()) plot.destroy();
    drawn.clear();
    draw();
  }

  section.hidden = false;
  draw();
  document.addEventListener("htmx:after:swap", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  let waiting;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(redraw, 150);
  });
})();
