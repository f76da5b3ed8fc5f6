// Two ways out of this page: to the API, to read events with a key that everybody may see; and to the shop's own back end, for all
// that belongs to a customer.

import * as clock from "./clock.js";

/** No answer: nobody knows what became of it. */
export class Unanswered extends Error {}

let config = null;

async function ask(url, init, limit_ms) {
  const sent = clock.mark();
  let answer;
  let text;
  try {
    answer = await fetch(url, { ...init, signal: AbortSignal.timeout(limit_ms) });
    text = await answer.text();
  } catch {
    throw new Unanswered();
  }
  let body = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    if (answer.ok) throw new Unanswered(); // something on the way that is neither of us
  }
  return { status: answer.status, body, headers: answer.headers, sent, retry_s: seconds(answer, body) };
}

function seconds(answer, body) {
  const said = Number(answer.headers.get("Retry-After") ?? body?.retry_after);
  return Number.isFinite(said) && said > 0 ? said : null;
}

/** Where the API is, and the page's key. Gives whoever has none a session. */
export async function configure() {
  const answer = await ask("/shop/config", { headers: { Accept: "application/json" } }, 8000);
  if (answer.status !== 200) throw new Unanswered();
  config = answer.body;
  return config;
}

/** The shop's back end. `key`: an idempotency key; `wait`: seconds until which the answer may come. */
export async function shop(method, path, { body, key, wait } = {}) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  if (wait) headers.Prefer = `wait=${wait}`;
  const init = { method, headers, body: method === "GET" ? undefined : JSON.stringify(body ?? {}), cache: "no-store" };
  return ask(`/shop${path}`, init, 8000 + 1000 * (wait ?? 0));
}

/** Headers with which this page may read from the API. */
export const reading = (more = {}) => ({ Authorization: `Bearer ${config.key}`, ...more });

export const api = (path) => `${config.api}/v1${path}`;

const tags = new Map();

/** Read from the API. What has not changed is not sent again (304): the answer is then the one before. */
export async function read(path) {
  const known = tags.get(path);
  const headers = reading(known ? { "If-None-Match": known.headers.get("ETag") } : {});
  const answer = await ask(api(path), { headers, cache: "no-store" }, 8000);
  clock.learn(answer.headers.get("Date"), answer.sent);
  if (answer.status === 304 && known) return known;
  if (answer.status === 200) tags.set(path, answer);
  return answer;
}

/** Seconds before the next try: 1, 2, 4 … 30, at random a little less, and never before the server wishes. */
export function pause(tries, retry_s) {
  const step = Math.min(30, 2 ** Math.min(tries, 5)) * (0.75 + 0.25 * Math.random());
  return Math.max(retry_s ?? 0, step);
}

/** Wait so many seconds, or until the network is back, or somebody looks at the page again. */
export function sleep(s, { hasten = true } = {}) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      removeEventListener("online", end);
      resolve();
    };
    const timer = setTimeout(end, 1000 * s);
    if (hasten) addEventListener("online", end);
  });
}
