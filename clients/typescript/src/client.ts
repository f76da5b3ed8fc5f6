// The client: every operation of the API, typed by its description, with retries beneath and errors instead of refusals.
import createClient, { type Client } from "openapi-fetch";
import { Calls, good, prefer, WAIT_MOST_S, type Calling } from "./calls.js";
import { StillPending } from "./errors.js";
import { exchange } from "./fetching.js";
import { RETRIES, retryAfterOf, sleep, type Retries } from "./retrying.js";
import type { components, paths } from "./schema.js";
import { watch, type StreamEvent, type Watching } from "./streams.js";

type Schemas = components["schemas"];

export interface Options {
  /** Without a path, as in "https://tickets.example". */
  baseUrl: string;
  /** Of your shop. It is sent nowhere else. */
  apiKey: string;
  retries?: Partial<Retries>;
  /** In place of the global one, as for a proxy. */
  fetch?: typeof fetch;
}

export interface Following extends Calling {
  /** Only notices of these types. */
  types?: readonly Schemas["Notice"]["type"][];
  /** Seconds that the server may wait for the next notice before it answers, at most 30. */
  waitS?: number;
  /** Seconds that boxoffice may be away. */
  patienceS?: number;
}

/**
 * Sells tickets. It has a method for each operation, and those that go on; `api` has the operations by their paths, with the same
 * retries and errors: `data` of its answers is always there, and so is the answer's head.
 */
export class BoxOffice extends Calls {
  readonly api: Client<paths, "application/json">;
  readonly retries: Readonly<Retries>;
  readonly #options: Options;

  constructor(options: Options) {
    super();
    this.#options = options;
    this.retries = { ...RETRIES, ...options.retries };
    this.api = this.#connected(this.retries);
  }

  #connected(retries: Readonly<Retries>): Client<paths, "application/json"> {
    const send = this.#options.fetch ?? globalThis.fetch;
    return createClient<paths, "application/json">({
      baseUrl: this.#baseUrl,
      headers: { Authorization: `Bearer ${this.#options.apiKey}` },
      redirect: "error",
      // A list is one parameter, with commas in it.
      querySerializer: { array: { style: "form", explode: false } },
      fetch: (request) => exchange(request, retries, send),
    });
  }

  get #baseUrl(): string {
    return this.#options.baseUrl.replace(/\/+$/, "");
  }

  /**
   * The booking, once it is final, held again (its payment was declined), or its customer has to go to the bank
   * (`payment.next_action`; with `pastAction` that is waited for, too). Rejects with `StillPending` after `deadlineS`.
   */
  async waitUntilFinal(
    booking_id: string,
    { deadlineS = 60, pastAction = false, ...calling }: Calling & { deadlineS?: number; pastAction?: boolean } = {},
  ): Promise<Schemas["Booking"]> {
    const end = performance.now() + deadlineS * 1000;
    for (;;) {
      const began = performance.now();
      const waitS = Math.max(0, Math.min(WAIT_MOST_S, Math.floor((end - began) / 1000)));
      const params = { path: { booking_id } };
      const answer = await this.api.GET("/v1/bookings/{booking_id}", { params, headers: prefer(waitS), ...calling });
      const booking = good(answer);
      if (booking.status !== "pending" || (!pastAction && booking.payment?.next_action)) return booking;
      const now = performance.now();
      if (now >= end) throw new StillPending(booking);
      // A server that does not wait is asked again at the pace that it names.
      if (now - began < waitS * 500 || waitS < 1) {
        const paceS = retryAfterOf(answer.response.headers, Date.now()) ?? this.retries.firstS;
        await sleep(Math.min(paceS * (1 + this.retries.chance() / 4), Math.max(0, (end - now) / 1000)), calling.signal);
      }
    }
  }

  /**
   * Every notice behind the cursor `after` (undefined: from the oldest that is kept), in order, for ever: at the end it waits for the
   * next. Keep a notice's `cursor` once you have done what it asks for, and start from it. boxoffice may be away for `patienceS`
   * before it rejects; a cursor that is none any more is the problem `cursor-gone`.
   */
  async *feed(after?: string, following: Following = {}): AsyncGenerator<Schemas["Notice"], void, undefined> {
    for await (const page of this.feedPages(after, following)) yield* page.data;
  }

  /** The same by the page, empty ones too: their `cursor` moves on, so keep it where weeks may pass between two notices. */
  async *feedPages(
    after?: string,
    { types = [], waitS = 20, patienceS = 3600, ...calling }: Following = {},
  ): AsyncGenerator<Schemas["FeedPage"], void, undefined> {
    const api = this.#connected({ ...this.retries, deadlineS: patienceS });
    for (;;) {
      const query = { wait: waitS, ...(after ? { after } : {}), ...(types.length ? { types: [...types] } : {}) };
      const page = good(await api.GET("/v1/feed", { params: { query }, ...calling }));
      yield page;
      after = page.cursor;
    }
  }

  /** The booking's states as they come, over any number of connections, until nothing can follow. */
  watchBooking(id: string, watching: Watching = {}): AsyncGenerator<StreamEvent<Schemas["Booking"]>, void, undefined> {
    return this.#watch(`/v1/bookings/${encodeURIComponent(id)}/stream`, watching);
  }

  /** What is left of an event's tiers as it changes, over any number of connections, for ever. */
  watchAvailability(id: string, watching: Watching = {}): AsyncGenerator<StreamEvent<unknown>, void, undefined> {
    return this.#watch(`/v1/events/${encodeURIComponent(id)}/stream`, watching);
  }

  #watch<T>(path: string, watching: Watching): AsyncGenerator<StreamEvent<T>, void, undefined> {
    const { apiKey, fetch: send = globalThis.fetch } = this.#options;
    return watch<T>(this.#baseUrl + path, apiKey, this.retries, send, watching);
  }
}
