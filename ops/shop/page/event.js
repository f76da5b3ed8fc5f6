// One event: what is left of its tiers, the basket, and holding what is in it.

import * as clock from "./clock.js";
import * as live from "./live.js";
import * as outbox from "./outbox.js";
import * as store from "./store.js";
import * as words from "./words.js";
import { opening, phase } from "./listing.js";
import { byId, h, put, show } from "./dom.js";

const MOST = 10; // of a tier, where the event has no rule

const WAYS = {
  live: "What is left is shown as it changes.",
  looking: "What is left is looked at every two seconds.",
  away: "The box office does not answer: what you see may be old.",
};

export function open(main, id, { say, hush }) {
  const basket = store.get(`basket.${id}`) ?? { items: {}, code: "" };
  const rows = new Map();
  let event = null;
  let way = "";

  const title = h("h1", {}, "Event");
  const facts = h("p", { class: "quiet" });
  const state = h("p", { class: "state", role: "status" }, "Loading …");
  const countdown = h("p", { class: "countdown", "aria-hidden": "true", hidden: true });
  const wayShown = h("p", { class: "quiet way" });
  const tiers = h("ul", { class: "tiers" });
  const rules = h("p", { class: "quiet" });
  const code = h("input", {
    id: "code", autocomplete: "off", autocapitalize: "characters", spellcheck: "false", maxlength: 64, value: basket.code,
    oninput: () => { basket.code = code.value.trim(); keep(); update(); },
  });
  const codeBox = h("details", { class: "code" }, h("summary", {}, "I have an access code"), h("label", { for: "code" }, "Access code"), code);
  codeBox.open = Boolean(basket.code);
  const total = h("p", { class: "total", role: "status" });
  const hold = h("button", { type: "submit", class: "main" }, "Hold these tickets");
  const why = h("p", { class: "quiet", id: "why" });
  const form = h("form", { class: "panel", onsubmit: submit, "aria-label": "Choose tickets" }, tiers, rules, codeBox,
    h("div", { class: "buy" }, total, hold, why));
  main.append(h("p", {}, h("a", { href: "#/" }, "← All events")), title, facts, state, countdown, form, wayShown);
  hold.setAttribute("aria-describedby", "why");

  const following = live.follow(id, {
    way: (now) => { way = now; update(); },
    event: (read, streaming) => take(read, streaming),
    left: (left) => merge(left),
    gone: () => { put(state, "There is no such event."); show(form, false); },
  });

  /** The event as it was read. What a stream tells of what is left is newer. */
  function take(read, streaming) {
    const known = new Map(event?.tiers.map((tier) => [tier.id, tier]));
    event = structuredClone(read);
    for (const tier of event.tiers) {
      const before = known.get(tier.id);
      if (!before) continue;
      if (streaming) Object.assign(tier, { available: before.available, exact: before.exact });
      if (tier.available === before.available) tier.said = before.said;
    }
    show(form, true);
    put(title, event.name);
    document.title = `${event.name} · Kathmandu Tickets`;
    put(facts, words.when(event.starts_at));
    put(rules, rulesOf(event));
    build();
    update();
  }

  /** What the stream tells: what is left, and whether it is sold now. */
  function merge(left) {
    if (!event) return;
    const known = new Map(event.tiers.map((tier) => [tier.id, tier]));
    if (left.status !== event.status || left.tiers.some((tier) => !known.has(tier.tier_id))) following.look();
    event.status = left.status;
    for (const { tier_id, available, exact } of left.tiers) {
      const tier = known.get(tier_id);
      if (!tier) continue;
      if (tier.available !== available) tier.said = "";
      Object.assign(tier, { available, exact });
    }
    update();
  }

  function build() {
    if ([...rows.keys()].join() === event.tiers.map((tier) => tier.id).join()) return;
    rows.clear();
    tiers.replaceChildren(...event.tiers.map((tier) => {
      const name = h("span", { class: "name", id: `name-${tier.id}` });
      const price = h("span", { class: "price" });
      const left = h("span", { class: "left", id: `left-${tier.id}`, "data-tier": tier.code });
      const bar = h("meter", { min: 0, "aria-hidden": "true" });
      const input = h("input", {
        type: "number", min: 0, inputmode: "numeric", value: basket.items[tier.id] ?? 0, "aria-labelledby": `name-${tier.id}`,
        "aria-describedby": `left-${tier.id}`, oninput: () => choose(tier.id, input.valueAsNumber), onblur: () => update(true),
      });
      const step = (by) => h("button", {
        type: "button", class: "step", "aria-label": by > 0 ? `One more, ${tier.name}` : `One less, ${tier.name}`,
        onclick: () => choose(tier.id, (basket.items[tier.id] ?? 0) + by, true),
      }, by > 0 ? "+" : "−");
      const [less, more] = [step(-1), step(1)];
      const anyway = h("button", { type: "button", class: "link", hidden: true, onclick: () => place({ [tier.id]: 1 }) }, "Ask for one: some may come back");
      rows.set(tier.id, { name, price, left, bar, input, less, more, anyway });
      return h("li", { class: "tier" }, h("div", {}, name, price), h("div", { class: "stock" }, bar, left, anyway),
        h("div", { class: "stepper" }, less, input, more));
    }));
  }

  const most = (tier) => Math.max(0, Math.min(tier.available, tier.booking_max ?? event.booking_max ?? MOST));

  function choose(tier, wanted, write = false) {
    const quantity = Math.max(0, Math.min(Math.trunc(wanted) || 0, most(event.tiers.find((each) => each.id === tier))));
    if (quantity) basket.items[tier] = quantity;
    else delete basket.items[tier];
    keep();
    update(write);
  }

  function keep() {
    try {
      store.set(`basket.${id}`, basket);
    } catch { /* a basket that is lost costs nobody anything */ }
  }

  const chosen = () => event.tiers.filter((tier) => basket.items[tier.id]);

  function update(write = false) {
    if (!event) return;
    const now = phase(event);
    const busy = outbox.open({ event: id }).length > 0;
    let sum = 0;
    let count = 0;
    for (const tier of event.tiers) {
      const row = rows.get(tier.id);
      const quantity = basket.items[tier.id] ?? 0;
      sum += quantity * tier.price_cents;
      count += quantity;
      put(row.name, tier.name ?? tier.code);
      put(row.price, words.money(tier.price_cents, event.currency));
      put(row.left, leftOf(tier));
      row.left.className = `left ${tier.available === 0 ? "bad" : tier.available < 20 ? "warn" : ""}`;
      row.bar.max = tier.capacity || 1;
      row.bar.value = tier.available;
      if (write || document.activeElement !== row.input) row.input.value = quantity;
      row.input.max = most(tier);
      row.less.disabled = quantity === 0;
      row.more.disabled = quantity >= most(tier);
      show(row.anyway, tier.available === 0 && now === "open" && !busy && !tier.said?.startsWith("sold out"));
    }
    const short = chosen().filter((tier) => basket.items[tier.id] > tier.available);
    put(total, count ? `${words.tickets(count)}: ${words.money(sum, event.currency)}` : "No tickets chosen");
    put(state, stateOf(now));
    state.className = `state ${now}`;
    const presale = Boolean(basket.code);
    const openNow = now === "open" || (presale && now === "soon");
    hold.disabled = busy || !count || !openNow || short.length > 0;
    put(hold, busy ? "Holding …" : sum === 0 && count ? "Book for free" : "Hold these tickets");
    put(why, busy ? "" : short.length ? `Fewer are left than you chose: ${short.map((tier) => tier.name ?? tier.code).join(", ")}.`
      : now === "soon" && !presale ? "The button works when the sale opens, or with an access code."
      : !count ? "Choose tickets first." : sum ? "Nothing is charged now. You then have some minutes to pay." : "");
    show(codeBox, now === "soon" || event.tiers.some((tier) => tier.access_code_required) || presale);
    put(wayShown, WAYS[way] ?? "");
    wayShown.dataset.way = way;
    tick();
  }

  function leftOf(tier) {
    if (tier.available === 0) return tier.said || "none left at the moment";
    const about = tier.exact === false ? "more than " : "";
    return `${about}${tier.available.toLocaleString("en")} left${tier.access_code_required ? ", with an access code" : ""}`;
  }

  function stateOf(now) {
    switch (now) {
      case "off": return "This event is called off. Nothing more is sold, and everybody is refunded.";
      case "paused": return "The sale is paused: it goes on in a while. What you hold, you can pay.";
      case "ended": return "The sale has ended.";
      case "soon": return `Not open yet. The sale opens ${words.when(new Date(opening(event)).toISOString())}.`;
      default: return event.tiers.every((tier) => tier.available === 0) ? "No tickets are left at the moment." : "On sale.";
    }
  }

  let before = "";

  function tick() {
    if (!event) return;
    const now = phase(event);
    show(countdown, now === "soon");
    if (now === "soon") put(countdown, clock.span(opening(event) - clock.now()));
    if (before && before !== now) {
      before = now;
      following.look();
      update();
    }
    before = now;
  }

  function submit(submitted) {
    submitted.preventDefault();
    place(basket.items);
  }

  /** Everything that is sent was shown: the price, too. A price that has changed meanwhile is refused, and shown. */
  function place(items) {
    if (outbox.open({ event: id }).length) return;
    hush();
    const wanted = event.tiers.filter((tier) => items[tier.id]).map((tier) => ({ tier_id: tier.id, quantity: items[tier.id] }));
    const sum = event.tiers.reduce((all, tier) => all + (items[tier.id] ?? 0) * tier.price_cents, 0);
    const number = store.random(12);
    const body = { order: number, items: wanted, expected_amount_cents: sum, ...(basket.code ? { access_code: basket.code } : {}) };
    const names = Object.fromEntries(event.tiers.map((tier) => [tier.id, tier.name ?? tier.code]));
    try {
      outbox.place("book", "/bookings", body, { event: id, name: event.name, number, names });
    } catch {
      say("This browser has no room to write the order down, so it was not sent. Close other pages of the shop, and try again.");
    }
    update();
  }

  const answers = outbox.onAnswer((order, answer) => {
    if (order.kind !== "book" || order.event !== id) return;
    for (const { tier_id, may_return, available } of answer.body?.shortfall ?? []) {
      const tier = event?.tiers.find((each) => each.id === tier_id);
      if (tier && available === 0) tier.said = may_return ? "all held at the moment: some may come back" : "sold out";
    }
    following.look();
    update();
    if (answer.status >= 300) byId("said").querySelector("button")?.focus();
  });
  const changes = store.onChange((name) => (name.startsWith("order.") || name === "") && update());
  const timer = setInterval(tick, 250);
  return () => {
    following.stop();
    answers();
    changes();
    clearInterval(timer);
  };
}

function rulesOf(event) {
  const said = [];
  if (event.booking_max) said.push(`at most ${words.tickets(event.booking_max)} a booking`);
  if (event.booking_min) said.push(`at least ${words.tickets(event.booking_min)} a booking`);
  if (event.customer_max) said.push(`at most ${event.customer_max} for each customer`);
  return said.length ? `${said.join(", ")}.`.replace(/^a/, "A") : "";
}
