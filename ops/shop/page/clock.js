// The server's time. Each answer's `Date`, in whole seconds, says between which two moments it was made: what all of them allow
// is kept, and becomes narrower with each. The browser's own clock may be wrong by hours.

let least = -Infinity; // ms to add to `local()`
let most = Infinity;

/** Milliseconds that no change of the browser's clock moves. */
const local = () => performance.timeOrigin + performance.now();

/** Learn from an answer that was asked for at `sent`. */
export function learn(dateHeader, sent) {
  const date = Date.parse(dateHeader ?? "");
  if (Number.isNaN(date)) return;
  const from = date - local(); // it was made in this second, before it came
  const to = date + 1000 - sent;
  if (from > most || to < least) [least, most] = [from, to]; // the machine slept, or a clock was set
  else [least, most] = [Math.max(least, from), Math.min(most, to)];
}

export const mark = local;

/** Milliseconds of the epoch, by the server. */
export const now = () => local() + (Number.isFinite(least) ? (least + most) / 2 : 0);

/** "4 days", "3:07:09", "2:59", for people. */
export function span(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  if (seconds >= 2 * 86400) return `${Math.floor(seconds / 86400)} days`;
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

/** The same, to be read out. */
export function spanSpoken(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  if (seconds >= 120) return `${Math.round(seconds / 60)} minutes`;
  return `${seconds} seconds`;
}
