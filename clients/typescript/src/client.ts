// The client: every operation of the API, typed by its description, with retries beneath and errors instead of refusals.
import createClient, { type Client } from "openapi-fetch";
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

export interface Calling {
  /** Ends the call early; it rejects with the signal's reason. */
  signal?: AbortSignal;
}

export interface Keyed extends Calling {
  /** The idempotency key: your order number, or what `error.key` said. A new one is made without it, and kept over all attempts. */
  key?: string;
}

export interface Waiting {
  /** Seconds that the server may wait for the end before it answers, at most 10. */
  waitS?: number;
}

export interface Following extends Calling {
  /** Only notices of these types. */
  types?: readonly Schemas["Notice"]["type"][];
  /** Seconds that the server may wait for the next notice before it answers, at most 30. */
  waitS?: number;
  /** Seconds that boxoffice may be away. */
  patienceS?: number;
}

/** Longest that the server is asked to wait in one request, in seconds. */
const WAIT_MOST_S = 10;

/**
 * Sells tickets. Its methods are what a shop front needs; `api` has every operation, by its path, with the same retries and
 * errors: `data` of its answers is always there.
 */
export class BoxOffice {
  readonly api: Client<paths, "application/json">;
  readonly retries: Readonly<Retries>;
  readonly #options: Options;

  constructor(options: Options) {
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

  /** A page of the events that you sell, each with what is left of its tiers. */
  async events(query: { cursor?: string; limit?: number; on_sale?: boolean; past?: boolean } = {}, calling: Calling = {}) {
    return good(await this.api.GET("/v1/events", { params: { query }, ...calling }));
  }

  async event(event_id: string, calling: Calling = {}) {
    return good(await this.api.GET("/v1/events/{event_id}", { params: { path: { event_id } }, ...calling }));
  }

  /** Book or, without a payment, hold tickets. */
  async book(body: Schemas["BookingRequest"], { key, waitS, ...calling }: Keyed & Waiting = {}) {
    const header = { "Idempotency-Key": key ?? newKey() };
    return good(await this.api.POST("/v1/bookings", { params: { header }, headers: prefer(waitS), body, ...calling }));
  }

  /** The booking as it is now, or once it is final, at most `waitS` later. */
  async booking(booking_id: string, { waitS, ...calling }: Calling & Waiting = {}) {
    const path = { booking_id };
    return good(
      await this.api.GET("/v1/bookings/{booking_id}", { params: { path }, headers: prefer(waitS), ...calling }),
    );
  }

  /** A page of your bookings. `event_id` with `idempotency_key` finds one at once. */
  async bookings(query: NonNullable<paths["/v1/bookings"]["get"]["parameters"]["query"]> = {}, calling: Calling = {}) {
    return good(await this.api.GET("/v1/bookings", { params: { query }, ...calling }));
  }

  /** Pay a hold. Another card needs another key: leave it out, and a new one is made. */
  async pay(booking_id: string, body: Schemas["HoldPaymentRequest"], { key, waitS, ...calling }: Keyed & Waiting = {}) {
    const params = { path: { booking_id }, header: { "Idempotency-Key": key ?? newKey() } };
    return good(
      await this.api.POST("/v1/bookings/{booking_id}/payment", { params, headers: prefer(waitS), body, ...calling }),
    );
  }

  /** Let a hold have these items in place of those that it has. */
  async changeItems(booking_id: string, body: Schemas["ChangeRequest"], { key, ...calling }: Keyed = {}) {
    const params = { path: { booking_id }, header: { "Idempotency-Key": key ?? newKey() } };
    return good(await this.api.PATCH("/v1/bookings/{booking_id}", { params, body, ...calling }));
  }

  /** Let a hold last longer, once. Sent again after an answer was lost it may be refused as `already-extended`. */
  async extend(booking_id: string, extra_s: number, calling: Calling = {}) {
    const params = { path: { booking_id } };
    return good(await this.api.POST("/v1/bookings/{booking_id}/extend", { params, body: { extra_s }, ...calling }));
  }

  /** Give the tickets back: a hold at once, a confirmed booking after its event's terms. */
  async cancel(booking_id: string, { waitS, ...calling }: Calling & Waiting = {}) {
    const params = { path: { booking_id } };
    return good(await this.api.POST("/v1/bookings/{booking_id}/cancel", { params, headers: prefer(waitS), ...calling }));
  }

  /** Give money and tickets back whatever the terms. */
  async refund(booking_id: string, body: Schemas["RefundRequest"], { key, ...calling }: Keyed = {}) {
    const params = { path: { booking_id }, header: { "Idempotency-Key": key ?? newKey() } };
    return good(await this.api.POST("/v1/bookings/{booking_id}/refunds", { params, body, ...calling }));
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

/** An idempotency key: keep it with the order before you send, so that it can be sent again after a crash. */
export function newKey(): string {
  return crypto.randomUUID();
}

function prefer(waitS: number | undefined): Record<string, string> {
  return waitS ? { Prefer: `wait=${Math.min(Math.round(waitS), WAIT_MOST_S)}` } : {};
}

/** What a call of `api` came to: refusals have been thrown by then. */
function good<T>(answer: { data?: T }): NonNullable<T> {
  return answer.data as NonNullable<T>;
}
