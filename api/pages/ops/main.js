// The page of operators: who is signed in, which view is shown, and when it looks again.

import { beginBookings, find, showParked } from "./bookings.js";
import { call, fine, why } from "./call.js";
import { byId, clock, day, make, many, table } from "./dom.js";
import { Looks } from "./figures.js";
import { showAlerts, showLamp, showTiles } from "./now.js";
import { plotAll } from "./plots.js";
import { mountRush } from "./rush.js";
import { changesOf, showSales } from "./sales.js";

const EVERY_MS = 1000, ALERTS_EVERY = 5, SLOWEST_MS = 8000;
const VIEWS = ["now", "bookings", "parked", "history"];

let looks = new Looks(), alerts = null, answeredAt = performance.now(), round = 0, timer = 0, generation = 0;

byId("no-script").hidden = true;

// ---------------------------------------------------------------------- signing in and out

function atTheDoor(sentence = "") {
  generation += 1;
  clearTimeout(timer);
  byId("room").hidden = true;
  byId("door").hidden = false;
  byId("sign-in-says").textContent = sentence;
  if (byId("ask").open) byId("ask-no").click();
  byId("api-key").focus();
}

function inTheRoom(session) {
  if (!byId("rush").childElementCount) mountRush(byId("rush"), call);
  looks = new Looks();
  alerts = null;
  round = 0;
  byId("door").hidden = true;
  byId("room").hidden = false;
  byId("signed-in").textContent = `Signed in as ${session.api_key}`;
  generation += 1;
  answeredAt = performance.now();
  showLamp(null, null, 0);
  view();
  look(generation);
}

byId("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const input = byId("api-key"), button = event.target.querySelector("button");
  button.disabled = true;
  const answer = await call("POST", "/ops/session", { api_key: input.value.trim() });
  button.disabled = false;
  if (!fine(answer)) {
    byId("sign-in-says").textContent = answer.status === 401 ? "This is no key that is good now." : answer.status ? why(answer) : "No answer came. Try again.";
    return;
  }
  input.value = "";
  inTheRoom(answer.body);
});

byId("sign-out").addEventListener("click", async () => {
  const answer = await call("DELETE", "/ops/session");
  atTheDoor(fine(answer) ? "You are signed out." : "No answer came: you may still be signed in. Close the browser, or try again.");
});

document.addEventListener("signed-out", () => { if (byId("door").hidden) atTheDoor("You are not signed in any more: the session is over, or its key is not good now."); });

// ---------------------------------------------------------------------- looking, again and again

async function look(mine) {
  const asked = performance.now();
  const answer = await call("GET", "/v1/ops/figures");
  if (mine !== generation) return;
  if (fine(answer)) {
    answeredAt = performance.now();
    const point = looks.add(answer.body);
    if (point) {
      [point.p50, point.p99] = looks.commit();
      show(answer.body);
    }
    if (round % ALERTS_EVERY === 0) {
      const told = await call("GET", "/v1/ops/alerts");
      if (mine !== generation) return;
      if (fine(told)) { alerts = told.body.data; showAlerts(alerts); }
    }
    round += 1;
  }
  showLamp(looks.last, alerts, (performance.now() - answeredAt) / 1000);
  // Whoever answers slowly is asked more seldom.
  const pause = fine(answer) ? Math.min(SLOWEST_MS, Math.max(EVERY_MS, 2 * (performance.now() - asked))) : 3 * EVERY_MS;
  timer = setTimeout(() => look(mine), document.hidden ? 10 * EVERY_MS : pause);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden && !byId("room").hidden) { clearTimeout(timer); generation += 1; look(generation); } });

function show(figures) {
  byId("as-of").textContent = `as of ${clock(figures.at)}`;
  showTiles(figures, looks);
  plotAll(looks);
  showSales(figures.sales);
  const parked = figures.shards.reduce((sum, shard) => sum + shard.parked, 0), badge = byId("parked-count");
  badge.hidden = !parked;
  badge.textContent = parked;
}

document.addEventListener("changed", () => { clearTimeout(timer); generation += 1; look(generation); view(false); });

// ---------------------------------------------------------------------- views

async function showHistory() {
  const answer = await call("GET", "/v1/ops/history?limit=100"), says = byId("history-says");
  if (!fine(answer)) { says.textContent = why(answer); return; }
  const { data } = answer.body;
  says.textContent = data.length ? `The last ${many(data.length, "deed")}.` : "Nobody has done anything yet.";
  byId("history-list").replaceChildren(...(data.length ? [table(["when", "who", "what", "of", "why, from and to", "outcome"], data.map((deed) => [
    day(deed.at), deed.by, deed.verb.replaceAll("_", " "),
    deed.booking_id ? make("a", { href: `#bookings=${deed.booking_id}` }, deed.booking_id) : deed.event_id ?? "",
    [deed.reason, changesOf(deed.changes)].filter(Boolean).join("; "), deed.outcome ?? "under way, or cut off"]), "Who did what")] : []));
}

/** The view's name and its text; nothing of a hash that nobody can read. */
function hash() {
  try { return decodeURIComponent(location.hash.slice(1)).split("="); } catch { return []; }
}

function view(focus = true) {
  const [name, text] = hash();
  const chosen = VIEWS.includes(name) ? name : "now";
  for (const each of VIEWS) byId(each).hidden = each !== chosen;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${chosen}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (focus) { byId(`${chosen}-heading`).focus({ preventScroll: true }); scrollTo(0, 0); }
  if (chosen === "now" && looks.last) plotAll(looks);
  if (chosen === "parked") showParked();
  if (chosen === "history") showHistory();
  if (chosen === "bookings" && text && focus) find(text);
}

addEventListener("hashchange", () => { if (!byId("room").hidden) view(); });

beginBookings();
const session = await call("GET", "/v1/ops/session");
if (fine(session)) inTheRoom(session.body);
else atTheDoor(session.status === 401 ? "" : why(session));
