// Orders on their way. Each is written down under its idempotency key before it is sent for the first time, and stays until there
// is an answer: after a reload, or when the network is back, the same request goes out under the same key. So nothing is lost, and
// nothing is booked or paid twice.

import * as net from "./net.js";
import * as store from "./store.js";

const STUCK_MS = 20_000; // another tab began it, and is gone
const SLOW_MS = 2_500; // from here on a customer wants to be told

const running = new Set();
const listeners = new Set();

/** Call this with each order that has been answered: `(order, answer)`. */
export function onAnswer(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Orders without an answer: of this booking, of this event, or all. */
export const open = ({ booking, event } = {}) =>
  store.all("order.").filter((order) => (!booking || order.booking === booking) && (!event || order.event === event));

/** Orders of which nobody knows what became, because an answer is missing or slow. */
export const unknown = () => open().filter((order) => order.tries > 0 || Date.now() - order.at > SLOW_MS);

/** Write an order down, and send it until it is answered. Raises when it cannot be written down: then nothing is sent. */
export function place(kind, path, body, about) {
  const order = { key: store.random(), kind, path, body, at: Date.now(), tries: 0, ...about };
  store.set(`order.${order.key}`, order);
  void run(order);
  setTimeout(() => store.get(`order.${order.key}`) && note(order, {}), SLOW_MS + 50);
  return order;
}

/** Go on with what a reload, or another tab, has left. */
export function resume() {
  for (const order of open()) void run(order);
  setInterval(() => {
    for (const order of open()) if (Date.now() - order.at > STUCK_MS) void run(order);
  }, 5000);
}

async function run(order) {
  if (running.has(order.key)) return;
  running.add(order.key);
  try {
    for (let tries = 0; ; tries += 1) {
      const answer = await once(order);
      if (answer && isFinal(order, answer)) {
        store.remove(`order.${order.key}`);
        for (const listener of [...listeners]) listener(order, answer);
        return;
      }
      const wait_s = net.pause(tries, answer?.retry_s);
      note(order, { tries: tries + 1, status: answer?.status ?? 0, next_at: Date.now() + 1000 * wait_s });
      await net.sleep(wait_s);
      if (!store.get(`order.${order.key}`)) return; // another tab has had its answer
    }
  } finally {
    running.delete(order.key);
  }
}

async function once(order) {
  try {
    const answer = await net.shop("POST", order.path, { body: order.body, key: order.key });
    if (answer.status === 401 && (order.renewed ?? 0) < 1) {
      order.renewed = 1;
      await net.configure(); // a new session
      return once(order);
    }
    return answer;
  } catch (error) {
    if (error instanceof net.Unanswered) return null;
    throw error;
  }
}

/** Whether this tells what became of the order, also of the tries before it. The box office looks at the key first, so its
 * refusals do; not so one for asking too often, what somebody on the way refuses without a problem of ours, and, of an order
 * that was sent before, what the shop's own back end says of its key and of a session that was renewed. */
function isFinal(order, answer) {
  if (answer.status < 300) return true;
  const type = /^\/problems\/([a-z-]+)$/.exec(answer.body?.type ?? "")?.[1];
  if (!type || type === "rate-limited") return false;
  if (type === "shop-key" || (type === "not-found" && order.renewed)) return order.tries === 0;
  return answer.status < 500 && !(order.kind === "cancel" && type === "payment-in-progress");
}

function note(order, more) {
  Object.assign(order, more);
  try {
    if (store.get(`order.${order.key}`)) store.set(`order.${order.key}`, order);
  } catch { /* there is no room for how often it was tried; the order itself is written down */ }
}
