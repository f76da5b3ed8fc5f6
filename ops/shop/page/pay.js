// Paying a hold: with a test card, where a real page has its payment provider's form. Either gives a token; no number is typed here.

import * as words from "./words.js";
import { h } from "./dom.js";

export function form(view, { busy, paying, chosen, pay }) {
  const due = view.amount_cents;
  const button = h("button", { type: "submit", class: "main", disabled: busy },
    paying ? "Paying …" : due ? `Pay ${words.money(due, view.currency)}` : "Take them for free");
  const cards = words.CARDS.map(([token, last4, name, what], at) =>
    h("label", { class: "choice" },
      h("input", { type: "radio", name: "card", value: token, checked: chosen ? token === chosen : at === 0, disabled: busy }),
      h("span", {}, h("strong", {}, name), h("span", { class: "quiet" }, ` •••• ${last4}`), h("br"), h("span", { class: "quiet" }, what))));
  return h("form", { class: "pay", "aria-label": "Pay", onsubmit: (event) => {
    event.preventDefault();
    pay(due ? new FormData(event.target).get("card") : null);
  } }, due ? h("fieldset", {}, h("legend", {}, "Test card"), h("div", { class: "choices" }, ...cards)) : null, button);
}
