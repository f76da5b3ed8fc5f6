// Server-sent events that outlive their connection: read by fetch, resumed by `Last-Event-ID`.
import { createParser } from "eventsource-parser";
import { BoxOfficeClientError } from "./errors.js";
import { refused } from "./fetching.js";
import { pauseBeforeRepeat, sleep, type Retries } from "./retrying.js";

/** Seconds without a byte after which a stream is taken for dead: the server sends a comment more often. */
const SILENCE_S = 60;

/** One message of a stream. */
export interface StreamEvent<T> {
  name: string;
  /** `lastEventId` goes on behind it, in another process, too. */
  id: string | undefined;
  data: T;
}

export interface Watching {
  /** Of the last message that was read. */
  lastEventId?: string;
  /** Ends the stream; it rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** Messages over any number of connections, until nothing can follow. */
export async function* watch<T>(
  url: string,
  apiKey: string,
  retries: Retries,
  send: typeof fetch,
  { lastEventId, signal }: Watching,
): AsyncGenerator<StreamEvent<T>, void, undefined> {
  let failures = 0;
  let retryS: number | undefined;
  for (;;) {
    const silence = new Silence();
    let pauseS: number | undefined;
    try {
      const headers = new Headers({ Authorization: `Bearer ${apiKey}`, Accept: "text/event-stream, application/problem+json" });
      if (lastEventId !== undefined) headers.set("Last-Event-ID", lastEventId);
      const any = signal ? AbortSignal.any([signal, silence.signal]) : silence.signal;
      silence.within(retries.attemptS);
      const answer = await send(url, { headers, signal: any, redirect: "error", cache: "no-store" });
      if (answer.status === 204) return;
      if (!answer.ok || answer.body === null) {
        const [outcome, error] = await refused(answer);
        pauseS = pauseBeforeRepeat(outcome, true, ++failures, retries);
        if (pauseS === undefined) throw error;
      } else {
        const found: StreamEvent<T>[] = [];
        const parser = createParser({
          onRetry: (ms) => (retryS = ms / 1000),
          onEvent: ({ event, id, data }) => found.push({ name: event ?? "message", id, data: JSON.parse(data) as T }),
        });
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        for (;;) {
          silence.within(SILENCE_S);
          const { done, value } = await reader.read();
          if (done) break;
          parser.feed(value);
          for (const each of found.splice(0)) {
            failures = 0;
            lastEventId = each.id ?? lastEventId;
            yield each;
          }
        }
      }
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      if (error instanceof BoxOfficeClientError) throw error;
    } finally {
      silence.end();
    }
    if (pauseS === undefined) {
      failures++;
      pauseS = failures === 1 && retryS !== undefined ? retryS : pauseBeforeRepeat({ lost: true }, true, failures, retries)!;
    }
    await sleep(pauseS, signal);
  }
}

/** Aborts when nothing came for so long; and at its end, so that no connection stays. */
class Silence {
  readonly #controller = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  within(seconds: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#controller.abort(), seconds * 1000);
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#controller.abort();
  }
}
