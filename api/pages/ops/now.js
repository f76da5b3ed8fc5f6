// How is it going, is anything wrong, who waits: the lamp, the tiles, the alerts.

import { byId, count, make, many, seconds } from "./dom.js";

/** So long without an answer, and the page says so. */
const SILENT_S = 4;

const words = (kind) => kind.replaceAll("_", " ");

/** A tile's name, number, what it means, and how it stands: good, warn or bad. */
function tilesOf(figures, looks) {
  const point = looks.points.at(-1), rates = point.rates;
  const [p50, p99] = [point.p50, point.p99];
  const kinds = Object.entries(point.refused ?? {}).sort((a, b) => b[1] - a[1]).slice(0, 2).map(([kind, each]) => `${words(kind)} ${count(each)}`);
  const due = (figures.money ?? []).filter((each) => each.count);
  const owed = due.find((each) => each.kind === "owed")?.count ?? 0, oldest = Math.max(0, ...due.map((each) => each.oldest_s));
  const drifted = figures.shards.reduce((sum, shard) => sum + (shard.drifted ?? 0), 0), uncounted = figures.shards.some((shard) => shard.drifted === null);
  const parked = figures.shards.reduce((sum, shard) => sum + shard.parked, 0), holds = figures.shards.reduce((sum, shard) => sum + shard.holds, 0);
  const shut = figures.shards.filter((shard) => shard.gate !== "open");
  return [
    ["Admitted / s", rates ? count(rates.admitted) : "…", `${count(figures.counters.admitted)} in all`, ""],
    ["Confirmed / s", rates ? count(rates.confirmed) : "…", `${count(figures.counters.confirmed)} in all`, ""],
    ["Refused / s", rates ? count(rates.refused) : "…", kinds.join(", ") || "none now", ""],
    ["Who waits", count(point.backlog), point.backlog ? `the oldest for ${seconds(point.oldest)}` : `${many(holds, "hold")} to be paid`, point.oldest > 10 ? "bad" : ""],
    ["99 % committed in", p99 === null ? "none" : seconds(p99), p50 === null ? "of the last minute" : `half within ${seconds(p50)}`, p99 > 30 ? "warn" : ""],
    ["Money due", figures.money ? count(due.reduce((sum, each) => sum + each.count, 0)) : "not known",
      due.length ? `${due.map((each) => `${each.kind} ${each.count}`).join(", ")}; oldest ${seconds(oldest)}` : "nothing", owed ? "warn" : oldest > 900 ? "bad" : ""],
    ["Drift", uncounted && !drifted ? "…" : count(drifted), uncounted && !drifted ? "not counted yet" : many(drifted, "event"), drifted ? "warn" : ""],
    ["Parked", count(parked), parked ? "wait for a word" : "nobody", parked ? "warn" : ""],
    ["Workers", figures.workers ? count(figures.workers.length) : "not known", shut.length ? `gate of shard ${shut.map((each) => `${each.shard} ${each.gate}`).join(", ")}` : "gates are open",
      shut.length || figures.workers?.length === 0 ? "bad" : ""],
  ];
}

export function showTiles(figures, looks) {
  const tiles = tilesOf(figures, looks), place = byId("tiles");
  if (place.children.length !== tiles.length) place.replaceChildren(...tiles.map(() => make("div", {}, make("dt"), make("dd"), make("dd"))));
  tiles.forEach(([name, value, more, state], at) => {
    const tile = place.children[at];
    tile.className = state;
    [name, value, more].forEach((text, which) => { if (tile.children[which].textContent !== text) tile.children[which].textContent = text; });
  });
}

/** The one sentence. Said anew only when it changes, for whoever listens to the page. */
export function showLamp(figures, alerts, silentFor) {
  let text, state;
  const firing = (alerts ?? []).filter((alert) => alert.state === "firing"), pending = (alerts ?? []).filter((alert) => alert.state === "pending");
  if (silentFor > SILENT_S) [text, state] = [`No answer for ${Math.max(SILENT_S, Math.floor(silentFor / 5) * 5)} s. What is shown is as it was then; sales may go on.`, "bad"];
  else if (!figures) [text, state] = ["Looking …", ""];
  else if (firing.some((alert) => alert.severity === "page")) [text, state] = [`Somebody has to act now: ${firing[0].summary}`, "bad"];
  else if (firing.length) [text, state] = [`${many(firing.length, "thing needs", "things need")} a look: ${firing[0].summary}`, "warn"];
  else if (pending.length) [text, state] = [`It may be about to go wrong: ${pending[0].summary}`, "warn"];
  else if (!alerts) [text, state] = ["The alerts are not known yet.", ""];
  else {
    const selling = (figures.sales ?? []).filter((sale) => sale.on_sale), paused = selling.filter((sale) => sale.status === "paused");
    text = `All is well. ${many(selling.length - paused.length, "event is", "events are")} on sale${paused.length ? `, ${paused.length} paused` : ""}.`;
    state = "good";
  }
  const lamp = byId("lamp");
  if (lamp.textContent !== text) lamp.textContent = text;
  lamp.className = state;
}

export function showAlerts(alerts) {
  const loud = alerts.filter((alert) => alert.state === "firing" || alert.state === "pending"), unknown = alerts.filter((alert) => alert.state === "unknown");
  const items = loud.map((alert) => make("li", { class: alert.state === "firing" ? alert.severity : "pending" },
    make("strong", {}, alert.name.replace("Boxoffice", "")), ` ${alert.summary} `,
    make("span", { class: "quiet" }, alert.state === "pending" ? `Not yet for ${seconds(alert.for_s)}. ` : "", "What to do: ", make("code", {}, alert.runbook))));
  if (!loud.length) items.push(make("li", {}, `Nothing. ${alerts.length - unknown.length} rules are quiet.`));
  items.push(make("li", { class: "quiet" }, make("details", {}, make("summary", {}, `${unknown.length} rules cannot be told here`),
    unknown.map((alert) => make("p", {}, `${alert.name.replace("Boxoffice", "")}: ${alert.summary}`)))));
  const place = byId("alerts"), text = JSON.stringify(alerts.map((alert) => [alert.name, alert.state, alert.summary]));
  if (place.dataset.shown === text) return;
  place.dataset.shown = text;
  place.replaceChildren(...items);
}
