// Find a booking of any shop, see what Redis, PostgreSQL and the gateway know of it, and give its money back.

import { ask, field } from "./ask.js";
import { call, fine, why } from "./call.js";
import { byId, count, day, make, many, money, table } from "./dom.js";

let current = null;

/** Keys of refunds that nobody has answered yet, by booking: asked for again, they are made once. */
const keys = new Map();

export function beginBookings() {
  byId("find").addEventListener("submit", (event) => { event.preventDefault(); find(byId("find-text").value.trim()); });
  document.addEventListener("changed", () => { if (current && !byId("bookings").hidden) show(current); });
}

export async function find(text) {
  if (!text) return;
  const says = byId("find-says");
  byId("find-text").value = text;
  says.textContent = "Looking …";
  byId("found").replaceChildren();
  byId("dossier").replaceChildren();
  current = null;
  const answer = await call("GET", `/v1/ops/bookings?text=${encodeURIComponent(text)}${byId("find-ended").checked ? "&ended=true" : ""}`);
  if (!fine(answer)) { says.textContent = why(answer); return; }
  const { data, redis_away: away } = answer.body;
  says.textContent = (data.length ? `${many(data.length, "booking")} found.` : "No booking is known by that.") + (away ? " Redis does not answer: holds are not among them." : "");
  if (data.length > 1) byId("found").replaceChildren(table(["booking", "status", "by", "customer", "tickets", { text: "price", number: true }, "made"], data.map((match) => {
    const { booking } = match;
    return [make("button", { type: "button", onclick: () => show(match) }, booking.id), booking.status, match.found_by, booking.customer_id,
      itemsOf(booking), money(booking.amount_cents, booking.currency), day(booking.created_at)];
  }), "Bookings that were found"));
  if (data.length === 1) await show(data[0]);
}

const itemsOf = (booking) => booking.items.map((item) => `${item.quantity} × ${item.code}`).join(", ");

async function show(match) {
  const place = byId("dossier"), id = match.booking.id;
  const [dossier, found] = await Promise.all([call("GET", `/v1/ops/bookings/${id}`), call("GET", `/v1/ops/bookings?text=${id}`)]);
  if (!fine(dossier)) { place.replaceChildren(make("p", { class: "differs", role: "alert" }, why(dossier))); return; }
  current = (fine(found) && found.body.data[0]) || match;
  const { booking, client_id: shop } = current;
  const { redis, postgres, gateway } = dossier.body;
  place.replaceChildren(
    make("div", { class: "card" }, make("div", { class: "sale" }, make("div", { class: "head" },
      make("h3", {}, itemsOf(booking)), make("span", { class: "badge" }, booking.status),
      make("span", { class: "quiet" }, `${money(booking.amount_cents, booking.currency)}${booking.refunded_cents ? `, ${money(booking.refunded_cents, booking.currency)} refunded` : ""} · customer ${booking.customer_id} · shop ${shop}${booking.reference ? ` · ${booking.reference}` : ""}`),
      booking.status === "confirmed" ? make("button", { type: "button", onclick: () => again(refund(booking)) }, "Refund") : null,
      ["held", "pending", "confirmed"].includes(booking.status) ? make("button", { type: "button", onclick: () => again(cancel(booking)) }, "Cancel") : null,
    ), make("code", {}, booking.id))),
    ...differences(redis, postgres, gateway),
    make("div", { class: "truths" }, truth("Redis", redis), truth("PostgreSQL", postgres), truth("The gateway", Object.keys(gateway).length ? gateway : null)));
}

/** What the three disagree about, in words. */
function differences(redis, postgres, gateway) {
  const found = [], inRedis = redis?.state, inPostgres = postgres?.booking?.[0]?.status;
  if (redis?.error || postgres?.error) found.push("A store does not answer, so nothing can be compared.");
  else if (inRedis && inPostgres && inRedis !== inPostgres) found.push(`Redis says ${inRedis}, PostgreSQL says ${inPostgres}: PostgreSQL decides, and a worker tells Redis.`);
  for (const payment of postgres?.payments ?? []) {
    const there = gateway[payment.payment_key];
    if (there?.answer === "Found" && there.status && there.status !== payment.status) found.push(`Our books have the payment as ${payment.status}, the gateway as ${there.status}${payment.due ? `: a ${payment.due} is due` : ""}.`);
    if (there?.answer === "NotFound" && ["authorized", "captured"].includes(payment.status)) found.push("The gateway does not know the payment.");
  }
  return found.length ? [make("p", { class: "differs" }, found.join(" "))] : [];
}

function truth(title, known) {
  return make("section", { class: "card" }, make("h3", {}, title), known ? parts(known) : make("p", { class: "quiet" }, "Knows nothing of it."));
}

function parts(known) {
  const plain = Object.entries(known).filter(([, value]) => value === null || typeof value !== "object");
  const deep = Object.entries(known).filter(([, value]) => value !== null && typeof value === "object");
  return [
    ...(plain.length ? [make("dl", {}, plain.filter(([, value]) => value !== null && value !== "").flatMap(([name, value]) => [make("dt", {}, name.replaceAll("_", " ")), make("dd", {}, String(value))]))] : []),
    ...deep.filter(([, value]) => !Array.isArray(value) || value.length).flatMap(([name, value]) => [make("h4", {}, name.replaceAll("_", " ")), ...(Array.isArray(value) ? value : [value])
      .flatMap((each) => (each !== null && typeof each === "object" ? parts(each) : [make("p", {}, String(each))]))]),
  ];
}

/** The card is read anew after a dialog that ended without an answer: it may have been done. */
async function again(asked) {
  if (!(await asked) && current) await show(current);
}

function refund(booking) {
  const key = () => {
    if (!keys.has(booking.id)) keys.set(booking.id, crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`);
    return keys.get(booking.id);
  };
  const inputs = booking.items.map((item) => [item, make("input", { type: "number", min: "0", max: item.quantity, value: item.quantity - (item.refunded ?? 0), inputmode: "numeric" })]);
  const reason = make("input", { maxlength: "200" }), preview = make("p", { role: "status" });
  const chosen = () => inputs.map(([item, input]) => ({ tier_id: item.tier_id, quantity: Number(input.value) })).filter((item) => item.quantity > 0);
  const whole = () => inputs.every(([item, input]) => Number(input.value) === item.quantity - (item.refunded ?? 0));
  const tell = () => {
    const back = inputs.reduce((all, [item, input]) => all + Number(input.value) * item.unit_price_cents, 0), tickets = chosen().reduce((all, item) => all + item.quantity, 0);
    preview.textContent = `${money(back, booking.currency)} go back to the customer, and ${many(tickets, "ticket")} on sale again.${whole() ? " The booking ends as cancelled." : ""}`;
  };
  for (const [, input] of inputs) input.oninput = tell;
  tell();
  return ask({
    title: "Refund at the desk", yes: "Refund", bad: true, lines: ["At full price, whatever the event's terms say. It is done once, however often it is sent."],
    fields: [...inputs.map(([item, input]) => field(`${item.code}: tickets of ${item.quantity} at ${money(item.unit_price_cents, booking.currency)}`, input)), field("Why? (may be left out)", reason), preview],
    check: () => (chosen().length ? "" : "Say which tickets."),
    work: async () => {
      const answer = await call("POST", `/v1/ops/bookings/${booking.id}/refund`, { items: whole() ? "all" : chosen(), ...(reason.value.trim() ? { reason: reason.value.trim() } : {}) }, { "Idempotency-Key": key() });
      if (answer.status && answer.status < 500) keys.delete(booking.id);
      return answer;
    },
    done: (made) => `${money(made.amount_cents, made.currency)} are on their way back.`,
  });
}

function cancel(booking) {
  const reason = make("input", { maxlength: "200" }), tickets = booking.items.reduce((all, item) => all + item.quantity - (item.refunded ?? 0), 0);
  return ask({
    title: "Cancel this booking?", yes: "Cancel it", bad: true,
    lines: booking.status === "confirmed" ? [`${many(tickets, "ticket")} go on sale again, and as much of ${money(booking.amount_cents, booking.currency)} goes back as the event's terms say.`]
      : [`${many(tickets, "ticket")} go on sale again. Nothing is paid${booking.status === "pending" ? " yet: what is under way is let go" : ""}.`],
    fields: [field("Why? (may be left out)", reason)],
    work: () => call("POST", `/v1/ops/bookings/${booking.id}/cancel`, reason.value.trim() ? { reason: reason.value.trim() } : {}), done: (view) => `The booking is ${view.status}.`,
  });
}

// ---------------------------------------------------------------------- parked bookings

export async function showParked() {
  const answer = await call("GET", "/v1/ops/parked"), says = byId("parked-says");
  if (!fine(answer)) { says.textContent = why(answer); return; }
  const { data } = answer.body;
  says.textContent = data.length ? `${many(data.length, "booking waits", "bookings wait")}.` : "No booking is parked.";
  byId("parked-list").replaceChildren(...(data.length ? [table(["booking", "since", "why", "tickets", { text: "price", number: true }, ""], data.map((parked) => [
    make("a", { href: `#bookings=${parked.booking_id}` }, parked.booking_id), day(parked.parked_at), parked.error, parked.tickets === null ? "cannot be read" : count(parked.tickets),
    parked.amount_cents === null ? "" : money(parked.amount_cents, parked.currency),
    [make("button", { type: "button", onclick: () => retry(parked), "aria-label": `Try again: ${parked.booking_id}` }, "Try again"), " ",
      make("button", { type: "button", onclick: () => fail(parked), "aria-label": `Fail: ${parked.booking_id}` }, "Fail")],
  ]), "Parked bookings")] : []));
}

const retry = (parked) => ask({
  title: "Try it again?", yes: "Try again", lines: [`A worker tries this one booking again now, as often as at first. It failed ${many(parked.attempts, "time")}: ${parked.error}`, "It is charged once, whatever comes of it."],
  work: () => call("POST", `/v1/ops/parked/${parked.booking_id}/retry`), done: "A worker tries it again.",
});

const fail = (parked) => ask({
  title: "Fail this booking?", yes: "Fail it", bad: true,
  lines: [parked.tickets === null ? "Its record cannot be read: its event is recounted, and its tickets go on sale again." : `${many(parked.tickets, "ticket")} go on sale again.`,
    parked.amount_cents ? `Its payment of ${money(parked.amount_cents, parked.currency)} is let go, or given back if it was taken.` : "Its payment is let go, if there is one.", "The customer has no tickets. There is no way back."],
  work: () => call("POST", `/v1/ops/parked/${parked.booking_id}/fail`), done: (ended) => `It is failed. Payment: ${ended.payment}.`,
});
