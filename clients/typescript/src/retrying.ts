// When to send again: the table of docs/api.md. No I/O.

/** Problems after which any request may be sent again: it has changed nothing, and later it may succeed. */
export const NOTHING_DONE: ReadonlySet<string> = new Set([
  "busy",
  "gate-closed",
  "not-ready",
  "overloaded",
  "payment-in-progress",
  "rate-limited",
  "request-timeout",
  "streams-full",
  "too-many-connections",
  "too-many-streams",
  "too-many-waits",
]);

/** How patient a client is, in seconds. */
export interface Retries {
  /** From the first attempt, after which a call rejects with what came back last. */
  deadlineS: number;
  /** That one attempt may take. A call that asks the server to wait gets that on top. */
  attemptS: number;
  /** Before the second attempt where the answer does not say; twice as many before each further one. */
  firstS: number;
  /** At most, between two attempts where the answer does not say. */
  mostS: number;
  /** A number from 0 to 1. Many clients that were refused at once do not come back at once. */
  chance: () => number;
}

export const RETRIES: Readonly<Retries> = { deadlineS: 60, attemptS: 10, firstS: 1, mostS: 30, chance: Math.random };

/** What came of an attempt: an answer, or none. */
export type Outcome =
  | { status: number; /** Of the problem; empty when it is none. */ slug: string; retryAfterS: number | undefined }
  | { lost: true };

/**
 * Seconds to wait before the same request is sent again, with the same key; undefined: do not send it.
 * `repeatable`: sent twice it does the same as sent once. `attempt` is 1 after the first.
 */
export function pauseBeforeRepeat(
  outcome: Outcome,
  repeatable: boolean,
  attempt: number,
  retries: Retries,
): number | undefined {
  if (!mayRepeat(outcome, repeatable)) return undefined;
  if ("status" in outcome && outcome.retryAfterS !== undefined) return outcome.retryAfterS * (1 + retries.chance() / 4);
  const steps = Math.min(retries.mostS, retries.firstS * 2 ** Math.min(attempt - 1, 30));
  return (steps * (1 + retries.chance())) / 2;
}

function mayRepeat(outcome: Outcome, repeatable: boolean): boolean {
  if ("lost" in outcome) return repeatable;
  if (NOTHING_DONE.has(outcome.slug)) return true;
  if (outcome.status === 429 && outcome.slug === "") return true; // a proxy's own limit
  return outcome.status >= 500 && repeatable;
}

/** Seconds that `Retry-After` asks for, from a number or a date. */
export function retryAfterOf(headers: Headers, nowMs: number): number | undefined {
  const text = headers.get("retry-after")?.trim() ?? "";
  if (/^\d+$/.test(text)) return Number(text);
  const date = Date.parse(text);
  return text === "" || Number.isNaN(date) ? undefined : Math.max(0, (date - nowMs) / 1000);
}

/** Resolves after so many seconds; rejects as soon as the signal says so. */
export function sleep(seconds: number, signal?: AbortSignal | null): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, seconds * 1000);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}
