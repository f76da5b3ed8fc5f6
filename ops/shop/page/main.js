// The page: where people are in it, what is said above it, and what goes on whatever they look at.

import * as booking from "./booking.js";
import * as event from "./event.js";
import * as listing from "./listing.js";
import * as mine from "./mine.js";
import * as net from "./net.js";
import * as outbox from "./outbox.js";
import * as store from "./store.js";
import * as words from "./words.js";
import { byId, focusOn, h, put, show } from "./dom.js";

const ROUTES = [
  [/^#\/event\/([A-Za-z0-9_-]+)$/, event.open, "events"],
  [/^#\/booking\/([A-Za-z0-9_-]+)$/, booking.open, "tickets"],
  [/^#\/tickets$/, mine.open, "tickets"],
  [/^/, listing.open, "events"],
];

let leave = () => {};
let arrived = false;

/** Say something above the page, until it is closed or something else is said. `kind`: "bad", "good" or "warn". */
export function say(text, kind = "bad") {
  const place = byId("said");
  place.className = `notice ${kind}`;
  place.replaceChildren(h("p", {}, text), h("button", { type: "button", class: "close", onclick: hush }, "Close"));
  show(place, true);
  place.scrollIntoView({ block: "nearest" });
}

export function hush() {
  show(byId("said"), false).replaceChildren();
}

function route() {
  leave();
  const main = byId("main");
  main.replaceChildren();
  const [pattern, open, tab] = ROUTES.find(([each]) => each.test(location.hash));
  for (const link of document.querySelectorAll("[data-nav]")) {
    if (link.dataset.nav === tab) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  leave = open(main, location.hash.match(pattern)[1], { say, hush }) ?? (() => {});
  const heading = main.querySelector("h1");
  document.title = heading ? `${heading.textContent} · Kathmandu Tickets` : "Kathmandu Tickets";
  if (arrived && heading) focusOn(heading);
  arrived = true;
  scrollTo(0, 0);
}

function tellUnknown() {
  const orders = outbox.unknown();
  const place = byId("unknown");
  if (orders.length) {
    const next_s = Math.min(...orders.map((order) => (order.next_at ?? 0) - Date.now())) / 1000;
    const text = words.unknown(orders, 5 * Math.ceil(next_s / 5), navigator.onLine);
    if (!place.firstChild) place.append(h("p"));
    put(place.firstChild, text);
  } else place.replaceChildren();
  show(place, orders.length > 0);
}

function tellNetwork() {
  show(byId("network"), !navigator.onLine && !outbox.unknown().length);
  put(byId("network"), "You are not connected: what you see may be old. Nothing that you hold or have paid is lost.");
}

function count() {
  const active = store.bookings().filter(({ seen }) => ["held", "pending", "confirmed"].includes(seen.status)).length;
  const place = byId("count");
  put(place, active ? String(active) : "");
  place.setAttribute("aria-label", `, ${active} of them`);
  show(place, active > 0);
}

/** Every answer to an order, whatever is looked at: bookings are kept, refusals are said. */
function answered(order, answer) {
  const { body } = answer;
  if (answer.status < 300 && body?.status && body?.items && body?.event_id) {
    store.keepBooking(body, order.kind === "book" ? { name: order.name, order: order.number } : {});
    if (order.kind === "book") store.remove(`basket.${body.event_id}`);
    hush();
    if (order.kind === "book" && location.hash === `#/event/${body.event_id}`) location.hash = `#/booking/${body.id}`;
  } else if (answer.status >= 300) {
    const named = { ...answer, body: { ...body, shortfall: body?.shortfall?.map((tier) => ({ ...tier, name: order.names?.[tier.tier_id] })) } };
    say(words.refusal(named), answer.status === 409 || answer.status === 429 ? "warn" : "bad");
  } else hush();
}

/** Back from the bank: the address has the order's number. What it says of the payment is a hint; the booking tells. */
async function comeBack() {
  const number = new URLSearchParams(location.search).get("order");
  if (number === null) return;
  let found = store.bookings().find(({ order }) => order === number)?.id;
  if (!found) {
    try {
      const answer = await net.shop("GET", "/bookings");
      for (const view of answer.body?.data ?? []) if (view.reference === number) found = view.id;
    } catch { /* My tickets says that it cannot be read */ }
  }
  history.replaceState(null, "", found ? `/#/booking/${found}` : "/#/tickets");
  if (!found) say("You come back from your bank, but this browser does not know that order. Do not order again: use the browser in which you ordered.", "warn");
}

async function start() {
  for (let tries = 0; ; tries += 1) {
    try {
      await net.configure();
      break;
    } catch (error) {
      if (!(error instanceof net.Unanswered)) throw error;
      byId("start").replaceChildren(
        h("h1", {}, "The shop does not answer"),
        h("p", {}, "We try again by ourselves. Nothing has been booked or paid by this."));
      await net.sleep(net.pause(tries));
    }
  }
  if (store.forgetful) say("This browser keeps nothing of a page. If you load it again in the middle of an order, look at My tickets.", "warn");
  outbox.onAnswer(answered);
  await comeBack();
  addEventListener("hashchange", () => { hush(); route(); });
  route();
  outbox.resume();
  const look = () => { tellUnknown(); tellNetwork(); };
  store.onChange(() => { count(); look(); });
  for (const name of ["online", "offline"]) addEventListener(name, look);
  setInterval(look, 1000);
  count();
  look();
}

void start();
