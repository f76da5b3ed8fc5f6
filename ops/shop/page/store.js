// What this browser remembers of the shop: orders under way, bookings, baskets. All tabs share it, and a reload keeps it.

const PREFIX = "shop.";

/** Where a browser keeps nothing, as some do in private windows: the page remembers as long as it is there. */
function memory() {
  const kept = new Map();
  return {
    getItem: (name) => kept.get(name) ?? null,
    setItem: (name, value) => kept.set(name, value),
    removeItem: (name) => kept.delete(name),
    key: (at) => [...kept.keys()][at] ?? null,
    get length() { return kept.size; },
  };
}

/** Tried once: what is written here is heard by all other tabs. */
function usual() {
  try {
    localStorage.setItem(`${PREFIX}try`, "1");
    localStorage.removeItem(`${PREFIX}try`);
    return localStorage;
  } catch {
    return null;
  }
}

const lasting = usual();
const kept = lasting ?? memory();

/** Whether a reload would lose everything. */
export const forgetful = lasting === null;

export function get(name) {
  try {
    return JSON.parse(kept.getItem(PREFIX + name));
  } catch {
    return null;
  }
}

/** Raises when there is no room: who is about to send something must know that it is not kept. */
export function set(name, value) {
  kept.setItem(PREFIX + name, JSON.stringify(value));
  tell(name);
}

export function remove(name) {
  kept.removeItem(PREFIX + name);
  tell(name);
}

/** All that is kept under names that begin so. */
export function all(prefix) {
  const found = [];
  for (let at = 0; at < kept.length; at += 1) {
    const name = kept.key(at);
    if (name?.startsWith(PREFIX + prefix)) found.push(get(name.slice(PREFIX.length)));
  }
  return found.filter((value) => value !== null);
}

const listeners = new Set();

function tell(name) {
  for (const listener of [...listeners]) listener(name);
}

/** Call this with the name of what changed, here or in another tab. Returns how to stop. */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

addEventListener("storage", (event) => {
  if (event.key === null) tell("");
  else if (event.key.startsWith(PREFIX) && event.key !== `${PREFIX}try`) tell(event.key.slice(PREFIX.length));
});

// A tab that nobody looks at may hear late.
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && tell(""));

/** 128 random bits and more, for keys and numbers: small letters and digits. */
export function random(length = 26) {
  const bytes = crypto.getRandomValues(new Uint8Array(length));
  return Array.from(bytes, (byte) => "0123456789abcdefghjkmnpqrstvwxyz"[byte & 31]).join("");
}

/** Remember a booking as it was seen last. */
export function keepBooking(read, more = {}) {
  const view = { ...read };
  for (const passing of ["expires_in_s", "availability"]) delete view[passing]; // other with each look
  const known = get(`booking.${view.id}`) ?? {};
  const now = { ...known, ...more, id: view.id, event: view.event_id, seen: view };
  if (JSON.stringify(now) === JSON.stringify(known)) return;
  try {
    set(`booking.${view.id}`, now);
  } catch { /* no room: the box office knows it, and My tickets asks */ }
}

/** Bookings that this browser knows, the newest first. */
export const bookings = () => all("booking.").sort((a, b) => (a.seen.created_at < b.seen.created_at ? 1 : -1));
