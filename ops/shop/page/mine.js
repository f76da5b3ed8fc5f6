// The customer's bookings: those that this browser remembers, and those that the box office knows.

import * as net from "./net.js";
import * as store from "./store.js";
import * as words from "./words.js";
import { h, put } from "./dom.js";

export function open(main) {
  const list = h("ul", { class: "cards" });
  const state = h("p", { class: "quiet", role: "status" }, "Loading …");
  main.append(h("h1", {}, "My tickets"), state, list);
  let gone = false;

  function render() {
    const found = store.bookings();
    list.replaceChildren(...found.map(({ id, name, seen }) =>
      h("li", { class: "card" },
        h("h2", {}, h("a", { href: `#/booking/${id}` }, name ?? `Booking ${id.slice(0, 8)}`)),
        h("p", {}, h("span", { class: `badge ${seen.status}` }, words.STATUS[seen.status] ?? seen.status)),
        h("p", { class: "quiet" }, `${seen.items.map((item) => `${item.quantity} × ${item.code}`).join(", ")}: ${words.money(seen.amount_cents, seen.currency)}`))));
    return found.length;
  }

  async function look() {
    for (let tries = 0; !gone; tries += 1) {
      let answer = null;
      try {
        answer = await net.shop("GET", "/bookings");
      } catch (error) {
        if (!(error instanceof net.Unanswered)) throw error;
      }
      if (gone) return;
      if (answer?.status === 200) {
        for (const view of answer.body.data) store.keepBooking(view, view.reference ? { order: view.reference } : {});
        put(state, render() ? "" : "You have no tickets yet.");
        return;
      }
      put(state, `${answer ? words.refusal(answer) : "No answer."} What you see may be old. We ask again by ourselves.`);
      await net.sleep(net.pause(tries, answer?.retry_s));
    }
  }

  render();
  void look();
  const changes = store.onChange((name) => (name.startsWith("booking.") || name === "") && render());
  return () => {
    gone = true;
    changes();
  };
}
