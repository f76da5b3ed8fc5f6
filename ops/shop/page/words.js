// What is said to customers. The API's refusals have a type each, and each type has its plain sentence here.

import * as clock from "./clock.js";

const formats = new Map();

/** An amount in minor units, as people write it. */
export function money(cents, currency) {
  if (!formats.has(currency)) formats.set(currency, new Intl.NumberFormat("en", { style: "currency", currency }));
  const format = formats.get(currency);
  return cents === 0 ? "free" : format.format(cents / 10 ** format.resolvedOptions().maximumFractionDigits);
}

export const when = (iso) =>
  new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeStyle: "short" }).format(new Date(iso));

export const tickets = (count) => (count === 1 ? "1 ticket" : `${count} tickets`);

const soon = (answer) => (answer.retry_s ? ` Try again in ${clock.spanSpoken(1000 * answer.retry_s)}.` : "");

function soldOut(body) {
  const said = body.shortfall.map((tier) => {
    const name = tier.name ?? tier.code;
    if (tier.may_return) {
      return tier.available
        ? `${name}: ${tickets(tier.available)} left; the others are held at the moment, some may come back.`
        : `${name}: all held at the moment: some may come back.`;
    }
    return tier.available ? `${name}: only ${tickets(tier.available)} left.` : `${name}: sold out.`;
  });
  return said.join(" ");
}

const bounds = (body) => {
  if (body.limit !== undefined && body.least !== undefined) return `${body.least} to ${body.limit} tickets`;
  return body.limit !== undefined ? `at most ${tickets(body.limit)}` : `at least ${tickets(body.least)}`;
};

const SENTENCES = {
  "sold-out": (body, answer) => `${soldOut(body)} Nothing was taken.${body.may_return ? soon(answer) : ""}`,
  "sale-not-open": (body) => `Not open yet: the sale opens ${when(body.opens_at)}.`,
  "sale-paused": () => "The sale is paused for a while. Nothing was taken. What you hold, you can pay.",
  "sale-closed": () => "The sale has ended.",
  "event-called-off": () => "This event is called off. Nothing more is sold, and everybody is refunded.",
  "price-changed": (body) =>
    `The price has changed: it is ${money(body.amount_cents, body.currency)} now. Nothing was taken. Have a look, and press the button again if you agree.`,
  "booking-limit": (body) => `One booking has ${bounds(body)}${body.code ? ` of ${body.code}` : ""}.`,
  "customer-limit": (body) =>
    `Each customer may have ${bounds(body)}${body.code ? ` of ${body.code}` : ""}; you have ${body.held}.` +
    (body.may_take ? ` You may take ${body.may_take} more.` : ""),
  "unpaid-limit": (body, answer) =>
    `You hold ${tickets(body.held)} that are not paid yet, and may hold ${body.limit}. Pay for some, or let them go.${soon(answer)}`,
  "rate-limited": (_body, answer) => `Too many requests.${soon(answer)} Nothing was taken.`,
  "declined-too-often": (_body, answer) => `Too many payments were declined.${soon(answer)} Nothing was charged.`,
  "access-code-invalid": (body) =>
    ({
      unknown: "This event has no such access code.", revoked: "This access code is no longer good.",
      expired: "This access code has expired.", other_tier: "This access code is for other tickets.",
    })[body.reason] ?? "This access code does not let you in.",
  "access-code-required": () => "These tickets need an access code.",
  "access-code-used-up": (body) => `This access code is good for ${tickets(body.left)} more.`,
  "hold-ended": () => "These tickets are not held any more.",
  "too-many-attempts": () => "Too many attempts to pay. The tickets stay held until their time is up.",
  "already-extended": () => "You have had more time already.",
  "payment-in-progress": () => "A payment is under way. Wait for it: do not pay again.",
  "not-cancellable": () => "This cannot be cancelled any more.",
  "refund-too-large": () => "So many tickets cannot be refunded: some have been already.",
  "refund-owed": () => "An earlier refund was refused by the bank, and is tried again. Ask for no other before it is done.",
  "not-found": () => "There is nothing like this, or it is not yours.",
  "idempotency-key-reused": () => "This order was sent before, by another session. Look at My tickets.",
  "no-session": () => "Your browser keeps no cookies: without them the shop does not know you.",
  "shop-key": () => "The shop cannot sell at the moment: whoever runs it has to mend its key.",
};

/** A refusal, as a sentence. */
export function refusal(answer) {
  const slug = String(answer.body?.type ?? "").replace("/problems/", "");
  try {
    if (SENTENCES[slug]) return SENTENCES[slug](answer.body, answer);
  } catch { /* a refusal with less in it than we know */ }
  if (answer.body?.detail) return answer.body.detail;
  return `This was refused (${answer.status}).`;
}

/** While an answer is missing. `next_s`: until it is asked again. */
export function unknown(orders, next_s, online) {
  const pays = orders.some((order) => order.kind === "pay");
  const what = pays ? "We do not know yet whether you have paid: do not pay again." : "We do not know yet whether this went through: do not order again.";
  const how = online
    ? ` We ask again${next_s > 0 ? ` in ${clock.span(1000 * next_s)}` : ""}, under the same number, so nothing happens twice.`
    : " You are not connected. We go on by ourselves when the network is back; nothing happens twice.";
  const busy = orders.some((order) => order.status === 503) ? " The box office is busy." : "";
  return what + busy + how;
}

export const STATUS = {
  held: "Held for you",
  pending: "Payment under way",
  confirmed: "Confirmed: the tickets are yours",
  failed: "Not sold",
  expired: "The hold has run out",
  cancelled: "Cancelled",
};

const DECLINED = {
  card_declined: "The card was declined.", insufficient_funds: "The card has not enough money.", lost_card: "The card is reported lost.",
  stolen_card: "The card is reported stolen.", expired_card: "The card has expired.", incorrect_cvc: "The card's check number is wrong.",
  processing_error: "The bank could not process the card.", card_velocity_exceeded: "The card was used too often.",
  authentication_failed: "The bank did not recognise you.",
};

/** How the last payment of a hold went, if it went wrong. */
export function paymentTrouble(view) {
  const payment = view.payment;
  if (!payment || view.status !== "held" || !["declined", "failed", "voided"].includes(payment.status)) return "";
  return `${DECLINED[payment.failure_code] ?? "The payment did not go through."} Nothing was charged. Try another card.`;
}

const FAILED = {
  payment_declined: "The card was declined. Nothing was charged.",
  payment_unavailable: "The payment's outcome stayed unknown for too long. Nothing is charged.",
  payment_amount_mismatch: "The bank named another amount. Nothing was charged.",
  sold_out_at_commit: "The tickets were gone. Nothing was charged.",
  capture_failed: "The bank refused to take the money after all. Nothing was charged, and the tickets went back on sale.",
  paid_too_late: "The money came after the hold had ended, and no tickets were left. It goes back to you.",
  event_called_off: "The event is called off. Your money goes back to you.",
  refunded: "All tickets were refunded.",
  cancelled: "You gave the tickets back.",
};

export const failure = (view) => (view.failure ? FAILED[view.failure.code] ?? view.failure.message : "");

/** Where refunded money is. */
export function refund(view) {
  const state = view.refund;
  if (!state) return "";
  const amount = (cents) => money(cents, view.currency);
  if (state.status === "owed") return `The bank refused a refund of ${amount(state.owed_cents)}: we owe it to you, and it is tried again.`;
  if (state.status === "pending") return `${amount(view.refunded_cents)} are on their way back to you.`;
  if (state.status === "written_off") return "What was owed to you has been settled otherwise.";
  return view.refunded_cents ? `${amount(view.refunded_cents)} went back to you.` : "";
}

/** Test cards of the simulated bank, by their tokens. A real page has its payment provider's form here, which gives it a token. */
export const CARDS = [
  ["tok_ok", "4242", "Good card", "The payment succeeds."],
  ["tok_3ds", "3220", "3-D Secure", "The bank wants to see you first."],
  ["tok_card_declined", "0002", "Declined", "For no given reason."],
  ["tok_insufficient_funds", "9995", "No money", "Declined: not enough money."],
  ["tok_expired_card", "0069", "Expired", "Declined: the card has expired."],
  ["tok_3ds_fail", "1629", "3-D Secure fails", "The bank does not recognise you."],
  ["tok_timeout", "0019", "Lost answer", "The bank's answer is lost, and asked for again."],
  ["tok_late", "0001", "Slow bank", "The bank answers late."],
  ["tok_error", "0027", "Bank error", "The first try meets an error."],
  ["tok_capture_refused", "0068", "Taken back", "Confirmed at first, then the bank refuses to pay."],
  ["tok_refund_pending", "7726", "Slow refund", "A refund takes a while."],
  ["tok_refund_refused_once", "0100", "Refund refused", "A refund is refused once, and is owed."],
];
