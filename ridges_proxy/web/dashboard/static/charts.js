// Draws the charts from the data in the page, and redraws them after each refresh of the page.
"use strict";

(() => {
  const section = document.querySelector(".charts");
  if (!section) return;

  const HEIGHT = 150;
  const COUNT_STEPS = [1, 2, 5].flatMap((digit) => [...Array(12)].map((_, power) => digit * 10 ** power)).sort((a, b) => a - b);
  const charts = new Map();
  const timeFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const numberFormat = new Intl.NumberFormat("en", { maximumSignificantDigits: 4, maximumFractionDigits: 20 });

  const clock = (seconds) => timeFormat.format(new Date(seconds * 1000));

  /** A value with the unit of its chart. */
  function text(value, unit) {
    if (value == null) return "–";
    const number = numberFormat.format(value);
    return unit === "$" ? `$${number}` : unit ? `${number} ${unit}` : number;
  }

  const isStacked = (host) => host.dataset.kind === "bars";

  /** The rows of a chart: one number for each bar, or null. */
  const rowsOf = (host, figures) => figures[host.dataset.chart].map(([, row]) => row);
  const namesOf = (host, figures) => figures[host.dataset.chart].map(([name]) => name);
  const isEmpty = (host, figures) => rowsOf(host, figures).every((row) => row.every((value) => !value));

  /** The top of a stack of bars: the sum of the first rows. */
  const top = (rows, count, index) => rows.slice(0, count).reduce((sum, row) => sum + row[index], 0);
  const tops = (state, host, count) => {
    const rows = rowsOf(host, state.figures);
    return rows[0].map((value, index) => (value === null ? null : top(rows, count, index)));
  };

  /** A series of stacked bars: each from the top of the one below, as wide as its time. */
  function bars(state, host, name, index) {
    const { colour, fill, named } = chartColours;
    const filled = fill(name, index);
    const open = named("--raised");
    const isLast = (at) => at === state.figures.times.length - 1;
    const each = (value) => state.figures.times.map((_, at) => value(at));
    return {
      width: 1,
      fill: filled,
      paths: uPlot.paths.bars({
        gap: host.clientWidth / state.figures.times.length < 4 ? 0 : 1,
        disp: {
          x0: { unit: 1, values: () => state.figures.times },
          size: { unit: 1, values: () => [state.figures.bar_seconds] },
          y0: { unit: 1, values: () => tops(state, host, index) },
          y1: { unit: 1, values: () => tops(state, host, index + 1) },
          fill: { unit: 3, values: () => each((at) => (isLast(at) ? open : filled)) },
          stroke: { unit: 3, values: () => each(() => colour(name, index)) },
        },
      }),
      points: { show: false },
    };
  }

  /** The values without a neighbour. They have no line, so they are shown as points. */
  const isolated = (row) => row.flatMap((value, at) => (value !== null && (row[at - 1] ?? null) === null && (row[at + 1] ?? null) === null ? [at] : []));

  const line = (name) => ({
    width: 2,
    dash: chartColours.dash(name),
    points: { size: 5, filter: (plot, index, areAllShown) => (areAllShown ? null : isolated(plot.data[index])) },
  });

  function series(state, host, name, index) {
    return {
      label: name,
      stroke: chartColours.colour(name, index),
      value: (_, value) => text(value, host.dataset.unit),
      ...(isStacked(host) ? bars(state, host, name, index) : line(name)),
    };
  }

  /** The highest value of a chart. */
  function highest(state, host) {
    const rows = rowsOf(host, state.figures);
    const all = isStacked(host) ? tops(state, host, rows.length) : rows.flat();
    return Math.max(...all);
  }

  function axes(host) {
    const grid = { stroke: chartColours.named("--line"), width: 1 };
    const axis = { stroke: chartColours.named("--ink"), grid, ticks: grid, font: "12px system-ui, sans-serif" };
    const isCount = isStacked(host) && !host.dataset.unit;
    return [
      { ...axis, size: 28, space: 60, values: (_, times) => times.map(clock) },
      {
        ...axis,
        ...(isCount ? { incrs: COUNT_STEPS } : {}),
        values: (_, values) => values.map((value) => text(value, host.dataset.unit)),
        size: (_, values) => 20 + 7 * Math.max(2, ...(values ?? []).map((value) => value.length)),
      },
    ];
  }

  /** Have the name of an error in a legend lead to its calls. */
  function linkToCalls(label, url) {
    if (!url) return;
    const link = document.createElement("a");
    link.href = url;
    link.textContent = label.textContent;
    link.addEventListener("click", (event) => event.stopPropagation()); // uPlot would hide the series
    label.replaceChildren(link);
  }

  function options(state, host) {
    const names = namesOf(host, state.figures);
    const { bar_seconds: step } = state.figures;
    const inLegend = (plot, part, index) => plot.root.querySelectorAll(`.u-legend .u-${part}`)[index];
    const describe = (plot, name, index) => {
      chartColours.mark(inLegend(plot, "marker", index + 1), name, index, isStacked(host));
      linkToCalls(inLegend(plot, "label", index + 1), state.figures.links[name]);
    };
    return {
      width: host.clientWidth,
      height: HEIGHT,
      axes: axes(host),
      cursor: { y: false, drag: { x: false }, points: { show: !isStacked(host) }, dataIdx: (plot, _, nearest, time) => barAt(state, nearest, time) },
      scales: {
        x: { range: () => [state.figures.times[0], state.figures.times.at(-1) + step] },
        y: { range: () => [0, highest(state, host) * 1.1 || 1] },
      },
      series: [
        { label: "Time", value: (_, time) => (time == null ? "–" : `${clock(time)} to ${clock(time + step)}`) },
        ...names.map((name, index) => series(state, host, name, index)),
      ],
      hooks: { drawClear: [(plot) => shadeUnknown(plot, state)], ready: [(plot) => names.forEach((name, index) => describe(plot, name, index))] },
    };
  }

  /** Shade the times of which nothing is known: without a bar they would look like zeros. */
  function shadeUnknown({ ctx, bbox, valToPos }, { figures }) {
    ctx.fillStyle = chartColours.unknown();
    figures.times.forEach((time, at) => {
      if (figures.usd[0][1][at] !== null) return;
      const left = valToPos(time, "x", true);
      ctx.fillRect(left, bbox.top, valToPos(time + figures.bar_seconds, "x", true) - left, bbox.height);
    });
  }

  /** The bar under the pointer. uPlot gives the nearest start of a bar, which may be that of the next one. */
  const barAt = (state, nearest, time) => (state.figures.times[nearest] > time ? Math.max(0, nearest - 1) : nearest);

  const dataOf = (host, figures) => [figures.times, ...rowsOf(host, figures)];

  function drawOne(host, figures) {
    const names = namesOf(host, figures).join();
    const drawn = charts.get(host);
    host.hidden = isEmpty(host, figures);
    host.nextElementSibling.hidden = !host.hidden;
    if (drawn?.names === names && !host.hidden) {
      drawn.state.figures = figures;
      drawn.plot.setData(dataOf(host, figures));
      return;
    }
    drawn?.plot.destroy();
    charts.delete(host);
    if (host.hidden) return;
    const state = { figures };
    charts.set(host, { names, state, plot: new uPlot(options(state, host), dataOf(host, figures), host) });
  }

  function draw() {
    const data = document.getElementById("chart-data");
    if (!data) return;
    const figures = JSON.parse(data.textContent);
    for (const host of section.querySelectorAll("[data-chart]")) drawOne(host, figures);
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
