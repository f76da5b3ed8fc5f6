// All events, with the moment of their opening.

import * as clock from "./clock.js";
import * as net from "./net.js";
import * as words from "./words.js";
import { h, put } from "./dom.js";

const LOOK_S = 5;

/** Whether it may be booked by its times, and else when: "open", "soon", "ended", "paused" or "off". */
export function phase(event, now = clock.now()) {
  if (event.status === "called_off") return "off";
  if (event.status === "paused") return "paused";
  if (event.status !== "active" || Date.parse(event.starts_at) <= now) return "ended";
  const windows = event.tiers.map((tier) => [
    opensAt(event, tier),
    Date.parse(tier.off_sale_at ?? event.off_sale_at ?? "") || Infinity,
  ]);
  if (windows.some(([from, until]) => from <= now && now < until)) return "open";
  return windows.some(([from]) => from > now) ? "soon" : "ended";
}

const opensAt = (event, tier) => Date.parse(tier.on_sale_at ?? event.on_sale_at ?? "") || 0;

/** When the first of its tiers opens that is not open yet, in milliseconds of the epoch; Infinity: none. */
export const opening = (event) => Math.min(...event.tiers.map((tier) => opensAt(event, tier)).filter((from) => from > clock.now()));

export function open(main) {
  const list = h("ul", { class: "cards" });
  const state = h("p", { class: "quiet", role: "status" }, "Loading …");
  main.append(h("h1", {}, "Events"), state, list);
  let events = [];
  let gone = false;

  async function look() {
    for (let failed = 0; !gone; ) {
      let wait_s = LOOK_S;
      try {
        const answer = await net.read("/events?limit=50");
        if (gone) return;
        if (answer.status === 200) {
          failed = 0;
          if (JSON.stringify(events) !== JSON.stringify(answer.body.data)) {
            events = answer.body.data;
            render();
          }
          put(state, events.length ? "" : "Nothing is on sale at the moment.");
        } else {
          wait_s = net.pause((failed += 1), answer.retry_s);
          put(state, words.refusal(answer));
        }
      } catch {
        wait_s = net.pause((failed += 1));
        put(state, "The box office does not answer. We ask again by ourselves; what you see may be old.");
      }
      await net.sleep(wait_s);
    }
  }

  function render() {
    const focused = document.activeElement?.getAttribute("href");
    list.replaceChildren(...events.map(card));
    if (focused) list.querySelector(`a[href="${focused}"]`)?.focus();
    tick();
  }

  function card(event) {
    const least = Math.min(...event.tiers.map((tier) => tier.price_cents));
    return h("li", { class: "card" },
      h("h2", {}, h("a", { href: `#/event/${event.id}` }, event.name)),
      h("p", { class: "quiet" }, words.when(event.starts_at)),
      h("p", {}, h("span", { class: "badge", "data-event": event.id })),
      h("p", { class: "price" }, least === 0 ? "some for free" : event.tiers.length ? `from ${words.money(least, event.currency)}` : ""));
  }

  function tick() {
    for (const badge of list.querySelectorAll("[data-event]")) {
      const event = events.find(({ id }) => id === badge.dataset.event);
      const [text, kind] = told(event);
      put(badge, text);
      badge.className = `badge ${kind}`;
    }
  }

  function told(event) {
    const left = event.tiers.reduce((sum, tier) => sum + tier.available, 0);
    switch (phase(event)) {
      case "off": return ["called off", "bad"];
      case "paused": return ["sale paused", "warn"];
      case "ended": return ["sale ended", ""];
      case "soon": return [`opens in ${clock.span(opening(event) - clock.now())}`, "soon"];
      default:
        if (left === 0) return ["none left at the moment", "bad"];
        return left < 20 ? [`only ${left} left`, "warn"] : ["on sale", "good"];
    }
  }

  void look();
  const timer = setInterval(tick, 500);
  return () => {
    gone = true;
    clearInterval(timer);
  };
}
