// What a call may reject with. Each has the idempotency key and the request id of its call.
import type { components } from "./schema.js";

type Schemas = components["schemas"];

/** Every kind of problem that this version knows, told apart by `type`. */
export type Problem = {
  [Name in keyof Schemas]: Name extends `${string}Problem` ? (Name extends "Problem" ? never : Schemas[Name]) : never;
}[keyof Schemas];

/** The stable names of those, as in "/problems/sold-out". */
export type ProblemType = Problem["type"];

export class BoxOfficeClientError extends Error {
  /** Another call with this idempotency key and the same body goes on where this one ended; another key may buy twice. */
  key: string | undefined;
  /** Names the call in the log of boxoffice, all its attempts alike. */
  requestId: string | undefined;
}

/** boxoffice refused (RFC 9457). `isProblem` tells which kind it is. */
export class ProblemError<P extends { type: string } = { type: string; detail?: string }> extends BoxOfficeClientError {
  override name = "ProblemError";
  constructor(
    readonly problem: P,
    readonly status: number,
    /** Seconds, from its `Retry-After`. */
    readonly retryAfterS: number | undefined,
  ) {
    super("detail" in problem ? String(problem.detail) : problem.type);
  }
}

/** Whether an error is this kind of problem; its members are known then. */
export function isProblem<T extends ProblemType>(
  error: unknown,
  type: T,
): error is ProblemError<Extract<Problem, { type: T }>> {
  return error instanceof ProblemError && error.problem.type === type;
}

/** Nobody answered until the deadline. Whether it was done is not known: the same call with the same `key` finds out. */
export class Unanswered extends BoxOfficeClientError {
  override name = "Unanswered";
}

/** An answer that is none of boxoffice's, as of a proxy. `text` is its first 500 characters. */
export class UnexpectedAnswer extends BoxOfficeClientError {
  override name = "UnexpectedAnswer";
  constructor(
    readonly status: number,
    readonly text: string,
  ) {
    super(`${status}: ${text}`);
  }
}

/** The booking was not final by the deadline. `pending` is an answer: do not tell its customer that it failed. */
export class StillPending extends BoxOfficeClientError {
  override name = "StillPending";
  constructor(readonly booking: Schemas["Booking"]) {
    super(`booking ${booking.id} is still ${booking.status}`);
  }
}

/** A webhook that boxoffice did not sign, or signed too long ago. Answer it with 400. */
export class WebhookRefused extends BoxOfficeClientError {
  override name = "WebhookRefused";
}
