// One booking, from the hold to the refund. What it shows is what the box office says; it asks until nothing can follow.

import * as clock from "./clock.js";
import * as net from "./net.js";
import * as outbox from "./outbox.js";
import * as pay from "./pay.js";
import * as store from "./store.js";
import * as words from "./words.js";
import { confirmed, focusOn, h, put, show } from "./dom.js";

const ENDED = ["failed", "expired", "cancelled"];

export function open(main, id, tools) {
  const title = h("h1", {}, "Your tickets");
  const place = h("div", {});
  const old = h("p", { class: "quiet", role: "status" });
  const spoken = h("p", { class: "unseen", role: "status" });
  main.append(h("p", {}, h("a", { href: "#/tickets" }, "← My tickets")), title, place, old, spoken);

  let view = store.get(`booking.${id}`)?.seen ?? null;
  let panel = null;
  let drawn = "";
  let gone = false;
  let cut = new AbortController();
  let changes = 0; // of the booking, as far as this page has heard

  function render() {
    const kept = store.get(`booking.${id}`);
    if (!view) return;
    put(title, kept?.name ? `Your tickets: ${kept.name}` : "Your tickets");
    document.title = title.textContent;
    const orders = outbox.open({ booking: id });
    const signature = JSON.stringify([
      view.status, view.payment, view.failure, view.refund, view.items, view.expires_at, view.refunded_cents,
      orders.map((order) => order.kind),
    ]);
    if (signature === drawn) return;
    const step = drawn && JSON.parse(drawn)[0] !== view.status;
    const inside = place.contains(document.activeElement) || document.activeElement === document.body;
    const first = drawn === "";
    drawn = signature;
    const chosen = panel?.querySelector("input[name=card]:checked")?.value;
    panel = draw(view, orders, chosen);
    place.replaceChildren(panel);
    tick();
    if (!first && (step || inside)) focusOn(panel.querySelector("h2"));
  }

  /** Read it, again and again: at once when it has changed in another tab, and as soon as it is final while it is paid. */
  async function follow() {
    for (let failed = 0; !gone; ) {
      let wait_s = 5;
      try {
        const before = changes;
        const answer = await net.shop("GET", `/bookings/${id}`, { wait: patience(view) });
        clock.learn(answer.headers.get("Date"), answer.sent);
        if (gone) return;
        if (before !== changes) {
          await net.sleep(0.1); // it was read before something that has been answered since: older than what is shown
          continue;
        }
        if (answer.status === 200) {
          failed = 0;
          view = answer.body;
          store.keepBooking(view);
          wait_s = next(view);
          put(old, "");
        } else if (answer.status === 404) {
          // A hold that nobody tried to pay is forgotten some time after its end. Of anything else it means another session.
          const over = view?.status === "held" && Date.parse(view.expires_at) < clock.now() && !outbox.open({ booking: id }).length;
          if (over) {
            view = { ...view, status: "expired" };
            store.keepBooking(view);
          } else {
            put(old, view ? "The shop does not know you any more: its cookie is gone. What you see is what was known last. Do not order again."
              : "There is no such booking, or it is not yours.");
          }
          render();
          return;
        } else {
          wait_s = net.pause(failed, answer.retry_s);
          failed += 1;
          put(old, `${words.refusal(answer)} What you see may be old.`);
        }
      } catch (error) {
        if (!(error instanceof net.Unanswered)) throw error;
        wait_s = net.pause(failed);
        failed += 1;
        put(old, "No answer: what you see may be old. We ask again by ourselves.");
      }
      render();
      cut = new AbortController();
      await Promise.race([net.sleep(wait_s), new Promise((resolve) => cut.signal.addEventListener("abort", resolve))]);
    }
  }

  /** Seconds for which the answer may wait for the end. Such a wait does not end when the bank wants to see the customer: so it is
   * short before that is known. */
  function patience(now) {
    if (now?.status !== "pending") return undefined;
    return now.payment?.next_action ? 10 : 1;
  }

  /** Seconds until it is looked at again. */
  function next(now) {
    if (now.status === "pending") return 0.2;
    if (now.status === "held") return Math.max(0.3, Math.min(10, (Date.parse(now.expires_at) - clock.now()) / 1000 + 0.3));
    if (now.refund?.status === "pending") return 2;
    return 20;
  }

  const again = () => cut.abort();

  function draw(now, orders, chosen) {
    const busy = orders.length > 0;
    const say = (text) => h("p", {}, text);
    const parts = [h("h2", { class: `status ${now.status}` }, words.STATUS[now.status] ?? now.status), table(now)];
    if (now.status === "held") parts.push(...held(now, orders, chosen));
    else if (now.status === "pending") parts.push(...pending(now));
    else if (now.status === "confirmed") parts.push(...sold(now, busy));
    else parts.push(say(words.failure(now) || (now.status === "expired" ? "The time was up before it was paid. Nothing was charged, and the tickets are on sale again." : "")));
    if (words.refund(now)) parts.push(h("p", { class: "refund" }, words.refund(now)));
    if (ENDED.includes(now.status)) parts.push(h("p", {}, h("a", { href: `#/event/${now.event_id}` }, "Back to the event")));
    return h("section", { class: "panel", "data-status": now.status }, ...parts);
  }

  function held(now, orders, chosen) {
    const busy = orders.length > 0;
    const trouble = words.paymentTrouble(now);
    return [
      h("p", { class: "countdown", "data-until": now.expires_at, "aria-hidden": "true" }),
      trouble && !busy ? h("p", { class: "notice bad", role: "alert" }, trouble) : null,
      h("div", { class: "row" },
        h("button", { type: "button", disabled: busy, onclick: () => send("extend", "/extend", { extra_s: 300 }) }, "Five more minutes"),
        h("button", { type: "button", class: "danger", disabled: busy, onclick: letGo }, "Let them go")),
      pay.form(now, { busy, paying: orders.some((order) => order.kind === "pay"), chosen, pay: payWith }),
    ];
  }

  function pending(now) {
    const bank = now.payment?.next_action;
    if (bank && /^https?:\/\//.test(bank)) {
      return [
        h("p", {}, "Your bank wants to see that it is you (3-D Secure). You come back here afterwards."),
        h("p", {}, h("a", { class: "button main", href: bank }, "Go to your bank")),
        h("p", { class: "quiet" }, "Do not pay again: nothing is charged before you have been there."),
      ];
    }
    return [h("p", { class: "waiting" }, "The box office has your payment. This takes a moment: do not pay again.")];
  }

  function sold(now, busy) {
    const left = now.items.filter((item) => item.quantity > item.refunded);
    const stubs = left.flatMap((item) => Array.from({ length: item.quantity - item.refunded }, (_, at) =>
      h("li", { class: "ticket" }, h("strong", {}, item.code), h("span", {}, `${at + 1} of ${item.quantity}`), h("code", {}, `${now.id.slice(0, 8)}-${item.code}-${at + 1}`))));
    return [
      h("ul", { class: "tickets", "aria-label": "Tickets" }, ...stubs),
      h("div", { class: "row" },
        h("button", { type: "button", class: "danger", disabled: busy, onclick: cancel }, "Cancel the booking"),
        ...left.map((item) => h("button", { type: "button", disabled: busy, onclick: () => refundOne(item) }, `Refund one ${item.code}`))),
      h("p", { class: "quiet" }, "Cancelling gives all tickets back: how much money, the event's terms say. A refund gives back the full price of one."),
    ];
  }

  /** Under a key that is written down first; one at a time. */
  function send(kind, path, body) {
    if (outbox.open({ booking: id }).length) return;
    tools.hush();
    try {
      outbox.place(kind, `/bookings/${id}${path}`, body, { booking: id });
    } catch {
      tools.say("This browser has no room to write this down, so it was not sent. Close other pages of the shop, and try again.");
    }
    render();
  }

  const payWith = (token) =>
    send("pay", "/payment", token ? { token, card_name: "Test Card", expected_amount_cents: view.amount_cents } : {});

  /** What was asked about is done only while the booking is what it was: a hold may be paid meanwhile, in another window. */
  async function agreed(...question) {
    const asked = view.status;
    if (!await confirmed(...question)) return false;
    if (view.status === asked) return true;
    tools.say("Meanwhile this booking has changed. Nothing was done: look at what it is now.", "warn");
    return false;
  }

  async function letGo() {
    if (await agreed("Let these tickets go?", "They are on sale again at once.", "Let them go")) send("cancel", "/cancel", {});
  }

  async function cancel() {
    const detail = `${words.money(view.amount_cents - view.refunded_cents, view.currency)} were paid. What comes back is as the event's terms say, and the tickets are on sale again.`;
    if (await agreed("Cancel this booking?", detail, "Cancel it")) send("cancel", "/cancel", {});
  }

  async function refundOne(item) {
    const detail = `${words.money(item.unit_price_cents, view.currency)} go back to you, and the ticket is on sale again.`;
    if (await agreed(`Refund one ticket of ${item.code}?`, detail, "Refund it")) send("refund", "/refunds", { items: [{ tier_id: item.tier_id, quantity: 1 }] });
  }

  let toldAt = Infinity;

  function tick() {
    const shown = panel?.querySelector("[data-until]");
    if (!shown) return;
    const left = Date.parse(shown.dataset.until) - clock.now();
    put(shown, left > 0 ? `${clock.span(left)} left to pay` : "The time is up …");
    shown.classList.toggle("hurry", left < 60_000);
    // Read out seldom: who hears every second hears nothing else.
    const step = [300_000, 60_000, 20_000].filter((mark) => left <= mark).at(-1) ?? Infinity;
    if (step < toldAt) put(spoken, `${clock.spanSpoken(left)} left to pay`);
    toldAt = step;
  }

  const hear = store.onChange((name) => {
    if (name === `booking.${id}` || name.startsWith("order.") || name === "") {
      changes += 1;
      const seen = store.get(`booking.${id}`)?.seen;
      if (seen) view = seen;
      render();
      if (name.startsWith("order.")) again();
    }
  });
  const answers = outbox.onAnswer((order) => {
    if (order.booking === id) again();
  });
  const timer = setInterval(tick, 250);
  render();
  void follow();
  return () => {
    gone = true;
    cut.abort();
    hear();
    answers();
    clearInterval(timer);
  };
}

function table(view) {
  const amount = (cents) => words.money(cents, view.currency);
  return h("div", { class: "scroll" }, h("table", {},
    h("caption", { class: "unseen" }, "What was booked"),
    h("thead", {}, h("tr", {}, ...["Tier", "Tickets", "Each", "Together"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, ...view.items.map((item) => h("tr", {},
      h("th", { scope: "row" }, item.code),
      h("td", {}, item.refunded ? `${item.quantity}, ${item.refunded} given back` : String(item.quantity)),
      h("td", {}, amount(item.unit_price_cents)),
      h("td", {}, amount(item.line_total_cents))))),
    h("tfoot", {}, h("tr", {}, h("th", { scope: "row", colspan: 3 }, "Total"), h("td", {}, amount(view.amount_cents))))));
}
