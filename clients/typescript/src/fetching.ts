// A fetch that sends again what may be sent again, under everything that openapi-fetch does.
import { BoxOfficeClientError, ProblemError, Unanswered, UnexpectedAnswer } from "./errors.js";
import { pauseBeforeRepeat, retryAfterOf, sleep, type Outcome, type Retries } from "./retrying.js";

/** POSTs without a key that do the same when they are sent twice. Any other makes something, and made twice there are two. */
const REPEATABLE = /\/(cancel|extend|pause|resume|postpone|call-off|revoke|redeliver)$/;

/** Whether a request that nobody answered may be sent again. */
export function isRepeatable(request: Request): boolean {
  return request.method !== "POST" || request.headers.has("idempotency-key") || REPEATABLE.test(new URL(request.url).pathname);
}

/** Seconds that the server may take before it answers: `Prefer: wait`, or `wait` of the feed. */
function waitOf(request: Request): number {
  const preferred = /\bwait=(\d+)/.exec(request.headers.get("prefer") ?? "")?.[1];
  return Number(preferred ?? new URL(request.url).searchParams.get("wait") ?? 0);
}

/**
 * Attempts until one is answered for good, each the same request with the same key. Resolves to a good answer; rejects with
 * `ProblemError`, `Unanswered` or `UnexpectedAnswer` once the deadline would pass before another attempt.
 */
export async function exchange(request: Request, retries: Retries, send: typeof fetch): Promise<Response> {
  const requestId = crypto.randomUUID();
  request.headers.set("x-request-id", requestId);
  try {
    return await attempts(request, retries, send);
  } catch (error) {
    if (error instanceof BoxOfficeClientError) {
      error.key = request.headers.get("idempotency-key") ?? undefined;
      error.requestId = requestId;
    }
    throw error;
  }
}

async function attempts(request: Request, retries: Retries, send: typeof fetch): Promise<Response> {
  const waitS = waitOf(request);
  const end = performance.now() + (retries.deadlineS + waitS) * 1000;
  for (let attempt = 1; ; attempt++) {
    const leftMs = Math.max(100, Math.min((retries.attemptS + waitS) * 1000, end - performance.now()));
    const signal = AbortSignal.any([request.signal, AbortSignal.timeout(leftMs)]);
    let outcome: Outcome;
    let error: BoxOfficeClientError;
    try {
      const answer = await send(request.clone(), { signal });
      // The whole of it: an answer that breaks off is none.
      const body = await answer.arrayBuffer();
      const whole = new Response(body.byteLength ? body : null, answer);
      if (answer.ok) return whole;
      [outcome, error] = await refused(whole);
    } catch (cause) {
      if (request.signal.aborted) throw request.signal.reason;
      outcome = { lost: true };
      error = new Unanswered(`no answer to ${request.method} ${request.url} in ${attempt} attempts`, { cause });
    }
    const pauseS = pauseBeforeRepeat(outcome, isRepeatable(request), attempt, retries);
    if (pauseS === undefined || performance.now() + pauseS * 1000 >= end) throw error;
    await sleep(pauseS, request.signal);
  }
}

/** What an answer that is not good means, for the table and for whoever called. */
export async function refused(answer: Response): Promise<[Outcome, BoxOfficeClientError]> {
  const retryAfterS = retryAfterOf(answer.headers, Date.now());
  const text = await answer.text();
  const status = answer.status;
  if (answer.headers.get("content-type")?.startsWith("application/problem+json")) {
    const problem = JSON.parse(text) as { type: string };
    const slug = problem.type.slice(problem.type.lastIndexOf("/") + 1);
    return [{ status, slug, retryAfterS }, new ProblemError(problem, status, retryAfterS)];
  }
  return [{ status, slug: "", retryAfterS }, new UnexpectedAnswer(status, text.slice(0, 500))];
}
