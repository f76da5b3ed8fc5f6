// The sales: a bar for each tier, and what may be done with an event.

import { ask, field } from "./ask.js";
import { call, fine, why } from "./call.js";
import { byId, count, day, make, many, money, say, table } from "./dom.js";

const STATES = { active: ["off", "not yet, or over"], paused: ["paused", "paused"], inactive: ["off", "closed"], called_off: ["bad", "called off"] };
const PARTS = ["sold", "pending", "held", "available"];

const sum = (sale, name) => sale.tiers.reduce((all, tier) => all + (tier[name] ?? 0), 0);

function partsOf(tier) {
  const known = tier.pending !== null && tier.unpaid !== null;
  return { sold: tier.sold, pending: known ? tier.pending : 0, held: known ? tier.unpaid : tier.held ?? 0, available: tier.available ?? 0 };
}

function tierRow(tier) {
  return make("div", { class: "tier", "data-tier": tier.id }, make("span", {}, tier.code),
    make("div", { class: "bar", "aria-hidden": "true" }, ["sold", "pending-part", "held"].map((name) => make("span", { class: name }))),
    make("span", { class: "numbers" }));
}

function fillTier(row, tier) {
  const parts = partsOf(tier), spans = row.querySelectorAll(".bar span"), undecided = tier.held !== null && tier.pending === null;
  PARTS.slice(0, 3).forEach((name, at) => { spans[at].style.width = `${(100 * parts[name]) / Math.max(1, tier.total)}%`; });
  const share = tier.total ? Math.round((100 * tier.sold) / tier.total) : 0;
  const text = tier.held === null ? `${count(tier.sold)} of ${count(tier.total)} sold; Redis does not say what is left`
    : `${count(tier.sold)} sold (${share} %), ${undecided ? `${count(tier.held)} held or pending` : `${count(parts.pending)} pending, ${count(parts.held)} held`}, ${count(tier.available)} available of ${count(tier.total)}`;
  const numbers = row.querySelector(".numbers");
  if (numbers.textContent !== text) numbers.textContent = text;
}

function saleOf(sale, current) {
  const does = (label, work, wanted = true) => (wanted ? make("button", { type: "button", onclick: () => work(current()) , "aria-label": `${label} ${sale.name}` }, label) : null);
  const off = sale.status === "called_off", active = sale.status === "active";
  const [style, word] = sale.on_sale && active ? ["", "on sale"] : STATES[sale.status];
  return make("article", { class: "sale", "data-event": sale.event_id },
    make("div", { class: "head" }, make("h3", {}, sale.name), make("span", { class: `badge ${style}` }, word),
      make("span", { class: "quiet" }, `starts ${day(sale.starts_at)} · ${sale.client_id}`),
      does("Pause", pause, active), does("Resume", resume, sale.status === "paused"), does("Close", close, active || sale.status === "paused"),
      does("Open", open, sale.status === "inactive"), does("Capacity", capacity, !off), does("Reconcile", reconcile),
      does("History", history), does("Call off", callOff, !off)),
    sale.tiers.map(tierRow));
}

let shown = "", latest = new Map();

/** Bars move; what has buttons is made anew only when it changes, so that focus stays where it is. */
export function showSales(sales) {
  const place = byId("sales");
  if (!sales) { if (!shown) place.replaceChildren(make("p", {}, "PostgreSQL does not answer, so nobody knows what is on sale.")); return; }
  latest = new Map(sales.map((sale) => [sale.event_id, sale]));
  const form = JSON.stringify(sales.map((sale) => [sale.event_id, sale.name, sale.status, sale.on_sale, sale.tiers.map((tier) => tier.id)]));
  if (form !== shown) {
    const focused = document.activeElement?.getAttribute("aria-label");
    shown = form;
    place.replaceChildren(...(sales.length ? sales.map((sale) => saleOf(sale, () => latest.get(sale.event_id) ?? sale)) : [make("p", {}, "No event is coming up.")]));
    if (focused && place.contains(document.activeElement) === false) [...place.querySelectorAll("button")].find((each) => each.getAttribute("aria-label") === focused)?.focus();
  }
  for (const sale of sales) for (const tier of sale.tiers) fillTier(place.querySelector(`[data-event="${CSS.escape(sale.event_id)}"] [data-tier="${CSS.escape(tier.id)}"]`), tier);
}

const path = (sale, verb = "") => `/v1/events/${encodeURIComponent(sale.event_id)}${verb}`;
const version = (sale) => ({ "If-Match": `"${sale.version}"` });
const waiting = (sale) => `${many(sum(sale, "held"), "ticket")} held or pending: they may still be paid, and are decided as ever.`;

const pause = (sale) => ask({
  title: `Pause ${sale.name}?`, yes: "Pause",
  lines: [`From the next booking on nothing is let in: ${many(sum(sale, "available"), "available ticket")} cannot be booked until you resume.`, waiting(sale),
    `${many(sum(sale, "sold"), "ticket")} sold stay sold. Shops are told “the sale is paused”.`],
  work: () => call("POST", path(sale, "/pause"), undefined, version(sale)), done: `${sale.name} is paused.`,
});

const resume = (sale) => ask({
  title: `Resume ${sale.name}?`, yes: "Resume",
  lines: [`${many(sum(sale, "available"), "available ticket")} can be booked again, from the next booking on.`],
  work: () => call("POST", path(sale, "/resume"), undefined, version(sale)), done: `${sale.name} is on sale again.`,
});

const close = (sale) => ask({
  title: `Close ${sale.name}?`, yes: "Close",
  lines: [`It goes off sale, and out of shops' lists: ${many(sum(sale, "available"), "available ticket")} cannot be booked until you open it again.`, waiting(sale),
    `${many(sum(sale, "sold"), "ticket")} sold stay sold.`],
  work: () => call("PATCH", path(sale), { status: "inactive" }, version(sale)), done: `${sale.name} is closed.`,
});

const open = (sale) => ask({
  title: `Open ${sale.name}?`, yes: "Open",
  lines: [`${many(sum(sale, "available"), "available ticket")} can be booked${sale.on_sale_at && new Date(sale.on_sale_at) > new Date() ? ` from ${day(sale.on_sale_at)} on` : " at once"}.`],
  work: () => call("PATCH", path(sale), { status: "active" }, version(sale)), done: `${sale.name} is open.`,
});

function capacity(sale) {
  const which = make("select", { name: "tier" }, sale.tiers.map((tier) => make("option", { value: tier.id }, `${tier.code}: ${tier.total} tickets`)));
  const wanted = make("input", { type: "number", min: "0", step: "1", required: true, inputmode: "numeric" });
  const preview = make("p", { role: "status" });
  const tier = () => sale.tiers.find((each) => each.id === which.value);
  const tell = () => {
    const now = tier(), asked = Number(wanted.value), bound = now.sold + (now.held ?? 0);
    const more = asked - now.total;
    if (more >= 0) preview.textContent = more ? `${many(more, "ticket")} more go on sale: ${count((now.available ?? 0) + more)} available then.` : "Nothing changes.";
    else preview.textContent = asked < bound
      ? `${count(bound)} are sold or held now, and stay: it comes to about ${count(bound)}, and ${many(now.total - bound, "available ticket")} go off sale.`
      : `${many(-more, "ticket")} go off sale: ${count((now.available ?? 0) + more)} available then.`;
  };
  which.onchange = () => { wanted.value = tier().total; tell(); };
  wanted.oninput = tell;
  wanted.value = sale.tiers[0].total;
  tell();
  return ask({
    title: `Capacity of ${sale.name}`, yes: "Change it", lines: ["It grows at once, and shrinks as far as tickets are neither sold, held nor set aside."],
    fields: [field("Tier", which), field("Tickets in all", wanted), preview],
    check: () => (/^\d+$/.test(wanted.value) && Number(wanted.value) !== tier().total ? "" : "Say another number of tickets."),
    work: () => call("PATCH", path(sale, `/tiers/${encodeURIComponent(which.value)}`), { capacity: Number(wanted.value) }, version(sale)),
    done: ({ capacity_change: change }) => `It was ${count(change.before)}, and is ${count(change.after)} now${change.after === change.asked ? "" : `: ${count(change.asked)} was not possible`}.`,
  });
}

async function callOff(sale) {
  const found = await call("GET", `/v1/ops/events/${encodeURIComponent(sale.event_id)}`);
  if (!fine(found)) return say(why(found), true);
  const { tiers, bookings, customers } = found.body, back = tiers.reduce((all, tier) => all + tier.revenue_cents - tier.refunded_cents, 0);
  const reason = make("input", { maxlength: "200", required: true }), name = make("input", { autocomplete: "off", required: true });
  return ask({
    title: `Call off ${sale.name}, for good?`, yes: "Call it off", bad: true,
    lines: [`${many(bookings.confirmed ?? 0, "booking")} of ${many(customers, "customer")} are refunded in full: ${many(sum(sale, "sold"), "ticket")}, ${money(back, sale.currency)}.`,
      `${many(sum(sale, "held"), "ticket")} held or pending are let go, and nobody is charged for them.`,
      `${many(sum(sale, "available"), "available ticket")} go off sale. There is no way back.`],
    fields: [field("Why? Customers may be told.", reason), field(`To be sure, write its name: ${sale.name}`, name)],
    check: () => (!reason.value.trim() ? "Say why." : name.value.trim() !== sale.name ? "That is not its name." : ""),
    work: () => call("POST", path(sale, "/call-off"), { reason: reason.value.trim() }, version(sale)), done: `${sale.name} is called off. Workers refund everybody now.`,
  });
}

const right = (text) => ({ text, number: true });

async function reconcile(sale) {
  const path = `/v1/ops/events/${encodeURIComponent(sale.event_id)}/reconcile`;
  const look = await call("POST", path, { fix: false });
  if (!fine(look)) return say(why(look), true);
  const { result, tiers, settled, moved, oversold } = look.body, same = result === "same";
  const rows = tiers.flatMap((tier) => ["available", "held", "sold", "total"].filter((name) => tier.drift[name])
    .map((name) => [tier.code, name, count(tier.found[name]), count(tier.expected[name]), `${tier.drift[name] > 0 ? "+" : ""}${tier.drift[name]}`]));
  return ask({
    title: same ? `${sale.name}: nothing differs` : `Mend the counters of ${sale.name}?`, yes: "Mend",
    lines: [same ? `Redis counts ${many(sum(sale, "total"), "ticket")} as PostgreSQL does, tier by tier. Nothing was changed.`
      : `Redis is told what PostgreSQL says: ${many(rows.length, "counter")} ${rows.length === 1 ? "differs" : "differ"}. No booking is changed; its customers' tickets are counted anew.`,
      ...(settled ? [`${many(settled, "booking")} that PostgreSQL has decided, Redis has not heard of: it is told.`] : []),
      ...(moved ? [`${many(moved, "movement")} of tickets, too.`] : []), ...(oversold ? [`${many(oversold, "ticket")} more than there are were let in: PostgreSQL refuses them.`] : [])],
    fields: rows.length ? [table(["tier", "counter", right("Redis"), right("should be"), right("difference")], rows, "What differs")] : [],
    work: same ? null : () => call("POST", path, { fix: true }), done: ({ result: word }) => (word === "fixed" ? "Mended." : "Nothing differed any more."),
  });
}

async function history(sale) {
  const found = await call("GET", path(sale, "/history?limit=50"));
  if (!fine(found)) return say(why(found), true);
  const rows = found.body.data.map((change) => [day(change.changed_at), change.changed_by, change.action.replaceAll("_", " "), changesOf(change.changes)]);
  return ask({ title: `History of ${sale.name}`, lines: [], fields: [table(["when", "who", "what", "from, to"], rows, `Changes of ${sale.name}`)] });
}

export const changesOf = (changes) => Object.entries(changes).map(([name, { from, to }]) => `${name.replaceAll("_", " ")}: ${from ?? "none"} → ${to ?? "none"}`).join("; ");
