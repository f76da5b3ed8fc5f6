// Looks at the figures, and what two of them make: rates, quantiles. Five minutes are remembered.

export const KEPT = 300;

/** How much a count has grown; all of it when it began anew in between. */
export const grown = (now, then) => (now >= then ? now - then : now);

/** What this share of all stay below, evenly spread within a bucket; null of none. */
export function quantile(bounds, counts, share) {
  const all = counts.reduce((sum, each) => sum + each, 0);
  if (!all) return null;
  let upto = 0, low = 0;
  for (let at = 0; at < bounds.length; at += 1) {
    if (upto + counts[at] >= share * all) return low + ((bounds[at] - low) * (share * all - upto)) / (counts[at] || 1);
    upto += counts[at];
    low = bounds[at];
  }
  return low;
}

export const total = (numbers) => Object.values(numbers).reduce((sum, each) => sum + each, 0);

/** Some looks, oldest first, with what happened between each and the one before. */
export class Looks {
  constructor() { this.points = []; this.last = null; }

  /** Remember these figures; returns their point, or null if they are none that are new. */
  add(figures) {
    const before = this.last;
    if (before && figures.at_ms <= before.at_ms) return null;
    this.last = figures;
    const point = { ...now(figures), at: figures.at_ms / 1000, rates: null };
    if (before) Object.assign(point, between(before, figures));
    this.points.push(point);
    if (this.points.length > KEPT) this.points.shift();
    return point;
  }

  /** Quantiles in seconds of what was committed in the last minute. */
  commit() {
    const last = this.points.at(-1);
    const some = this.points.filter((point) => point.commits && point.at > last.at - 60);
    if (!some.length) return [null, null];
    const counts = some[0].commits.map((_, at) => some.reduce((sum, point) => sum + point.commits[at], 0));
    const { bounds } = this.last.counters.accept_to_commit;
    return [0.5, 0.99].map((share) => quantile(bounds, counts, share));
  }
}

function now(figures) {
  return {
    backlog: figures.shards.reduce((sum, shard) => sum + shard.backlog, 0),
    oldest: Math.max(0, ...figures.shards.map((shard) => shard.oldest_s)),
  };
}

function between(before, after) {
  const passed = (after.at_ms - before.at_ms) / 1000, was = before.counters, is = after.counters;
  const rate = (name) => grown(is[name], was[name]) / passed;
  const refused = Object.fromEntries(
    Object.entries(is.refused).map(([kind, count]) => [kind, grown(count, was.refused[kind] ?? 0) / passed]).filter(([, each]) => each > 0));
  return {
    rates: { admitted: rate("admitted"), confirmed: rate("confirmed"), failed: rate("failed"), refused: total(refused) },
    refused,
    commits: is.accept_to_commit.counts.map((count, at) => grown(count, was.accept_to_commit.counts[at])),
  };
}
