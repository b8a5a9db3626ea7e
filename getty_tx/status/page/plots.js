// The moving plots: two minutes of each number, drawn by uPlot in the colours of the page.
"use strict";

const KEPT = 120;

function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  for (const [unit, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (size >= unit) return (value / unit).toPrecision(3) + letter;
  }
  return size >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toPrecision(3);
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

class Plot {
  // series: [label, name of the colour], one for each value of add().
  constructor(parent, title, series) {
    this.box = document.createElement("div");
    this.box.className = "plot";
    const heading = document.createElement("h3");
    heading.textContent = title;
    this.box.append(heading);
    parent.append(this.box);
    this.series = series;
    this.data = [[], ...series.map(() => [])];
    this.draw();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.plot.setSize(this.size())).observe(parent);
  }

  size() {
    return { width: Math.max(200, this.box.clientWidth - 20), height: 120 };
  }

  draw() {
    if (this.plot) this.plot.destroy();
    const axis = { stroke: () => colour("--faint"), grid: { stroke: () => colour("--line"), width: 1 },
      ticks: { stroke: () => colour("--line"), width: 1 } };
    this.plot = new uPlot({
      ...this.size(),
      cursor: { y: false },
      scales: {
        x: { range: (u, first, last) => (last === null ? [0, KEPT] : [last - KEPT, last]) },
        y: { range: (u, least, most) => [0, most > 0 ? most * 1.1 : 1] },
      },
      axes: [{ ...axis, size: 26 }, { ...axis, size: 52, values: (u, ticks) => ticks.map(short) }],
      series: [{}, ...this.series.map(([label, name]) => ({
        label, stroke: () => colour(name), width: 1.5, spanGaps: true, value: (u, value) => short(value),
      }))],
    }, this.data, this.box);
  }

  add(time, values) {
    this.data[0].push(time);
    values.forEach((value, place) => this.data[place + 1].push(value));
    if (this.data[0].length > KEPT) this.data.forEach((row) => row.shift());
    this.plot.setData(this.data);
  }
}
