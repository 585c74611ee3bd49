// Draws the charts from the data in the page, and redraws them after each refresh of the page.
"use strict";

(() => {
  const section = document.querySelector(".charts");
  if (!section) return;

  const COLOURS = ["--spent", "--held", "--bad", "--accent", "--faint"];
  const COLOUR_OF = { ok: "--spent", p50: "--spent", p95: "--held", p99: "--bad" };
  const charts = new Map();
  const timeFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  /** The lines of a chart: values by name. */
  function lines(chart, figures) {
    const values = figures[chart];
    return Array.isArray(values) ? { [chart]: values } : values;
  }

  function options(host, names, figures) {
    const grid = { stroke: colour("--line"), width: 1 };
    const axis = { stroke: colour("--ink"), grid, ticks: grid };
    const clock = (_, times) => times.map((time) => timeFormat.format(new Date(time * 1000)));
    return {
      width: host.clientWidth,
      height: 150,
      legend: { show: names[0] !== host.dataset.chart },
      axes: [{ ...axis, space: 60, values: clock }, { ...axis, size: 56 }],
      scales: { x: { range: () => [figures.since, figures.until] }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
      series: [
        {},
        ...names.map((name, index) => ({
          label: name,
          stroke: colour(COLOUR_OF[name] ?? COLOURS[index % COLOURS.length]),
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
      const values = lines(host.dataset.chart, figures);
      const names = Object.keys(values);
      const rows = [figures.times, ...names.map((name) => values[name])];
      const chart = charts.get(host);
      if (chart && chart.names.join() === names.join()) {
        Object.assign(chart.figures, figures);
        chart.plot.setData(rows);
      } else {
        chart?.plot.destroy();
        charts.set(host, { names, figures, plot: new uPlot(options(host, names, figures), rows, host) });
      }
    }
  }

  /** Draw all charts again, with the current colours and width. */
  function redraw() {
    for (const { plot } of charts.values()) plot.destroy();
    charts.clear();
    draw();
  }

  section.hidden = false;
  draw();
  document.addEventListener("htmx:after:swap", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  let timer;
  addEventListener("resize", () => {
    clearTimeout(timer);
    timer = setTimeout(redraw, 150);
  });
})();
