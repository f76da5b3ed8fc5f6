// Sell tickets with boxoffice.
export { newKey, type Calling, type Keyed, type Matching, type Waiting } from "./calls.js";
export { BoxOffice, type Following, type Options } from "./client.js";
export {
  BoxOfficeClientError,
  isProblem,
  ProblemError,
  StillPending,
  Unanswered,
  UnexpectedAnswer,
  WebhookRefused,
  type Problem,
  type ProblemType,
} from "./errors.js";
export { type Outcome, pauseBeforeRepeat, RETRIES, type Retries } from "./retrying.js";
export type { components, operations, paths } from "./schema.js";
export { type StreamEvent, type Watching } from "./streams.js";
export { TOLERANCE_S, verifyWebhook, type Verifying } from "./webhooks.js";
