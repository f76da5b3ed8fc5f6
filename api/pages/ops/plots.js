// The last five minutes, drawn by uPlot where it was installed; else a sentence and the table below.

import { byId, clock, count, make, seconds, table } from "./dom.js";

const WANTED = [
  { title: "Bookings a second", series: [["admitted", "--accent"], ["confirmed", "--sold", [6, 4]], ["refused", "--bad"]],
    of: (point) => [point.rates?.admitted, point.rates?.confirmed, point.rates?.refused] },
  { title: "Backlog: bookings that wait", series: [["waiting", "--pending"]], of: (point) => [point.backlog] },
  { title: "Accepted to committed, seconds", series: [["half within", "--accent"], ["99 % within", "--pending"]],
    of: (point) => [point.p50, point.p99] },
];
const HEIGHT = 160;

let drawn = null;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function draw(place, wanted) {
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  const figure = make("figure", {}, make("figcaption", {}, wanted.title));
  place.append(figure);
  const plot = new globalThis.uPlot({
    width: Math.max(120, figure.clientWidth - 16), height: HEIGHT, legend: { live: false }, cursor: { drag: { x: false, y: false } },
    axes: [{ ...axis, space: 90, values: (_, ticks) => ticks.map((tick) => clock(tick * 1000).slice(0, 5)) }, { ...axis, size: 44 }],
    scales: { y: { range: (_, low, high) => [0, Math.max(1, high || 0) * 1.1] } },
    series: [{ value: (_, at) => (at ? clock(at * 1000) : "") },
      ...wanted.series.map(([label, stroke, dash]) => ({ label, stroke: colour(stroke), dash, width: 2, points: { show: false },
        value: (_, each) => (each === null || each === undefined ? "" : count(Math.round(each * 100) / 100)) }))],
  }, [[], ...wanted.series.map(() => [])], figure);
  plot.root.setAttribute("aria-hidden", "true");
  return { plot, wanted, figure };
}

function begin() {
  const place = byId("plots");
  if (!globalThis.uPlot) {
    place.replaceChildren(make("p", { class: "plain" },
      "Plots are missing here: what draws them was not installed with this process. The figures are below, as a table."));
    byId("figures-table").open = true;
    return [];
  }
  place.replaceChildren();
  return WANTED.map((wanted) => draw(place, wanted));
}

function redraw() { if (drawn?.length) { for (const { plot } of drawn) plot.destroy(); drawn = null; } }

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("resize", () => { for (const { plot, figure } of drawn ?? []) plot.setSize({ width: Math.max(120, figure.clientWidth - 16), height: HEIGHT }); });

/** Show these looks. */
export function plotAll(looks) {
  drawn ??= begin();
  for (const { plot, wanted } of drawn) {
    const columns = looks.points.map(wanted.of);
    plot.setData([looks.points.map((point) => point.at), ...wanted.series.map((_, at) => columns.map((column) => column[at] ?? null))]);
  }
  const details = byId("figures-table");
  if (details.open) details.querySelector("div").replaceChildren(asTable(looks));
}

function asTable(looks) {
  const right = (text) => ({ text, number: true });
  const heads = ["at", "admitted a second", "confirmed a second", "refused a second", "backlog", "half within", "99 % within"];
  const rows = looks.points.slice(-60).reverse().map((point) => [clock(point.at * 1000),
    ...["admitted", "confirmed", "refused"].map((name) => (point.rates ? count(point.rates[name]) : "")), count(point.backlog),
    ...[point.p50, point.p99].map((each) => (each === null ? "none" : seconds(each)))]);
  return table(heads.map((head, at) => (at ? right(head) : head)), rows, "Figures of the last minute");
}
