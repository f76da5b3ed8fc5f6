// Every operation of the API as a method, by the names that the client in Python has: thin over openapi-fetch and the generated
// types. Retries and errors are beneath.
import type { Client } from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Schemas = components["schemas"];

/** What a GET may be asked with. */
type Query<Path extends keyof paths> = paths[Path] extends { get: { parameters: { query?: infer Asked } } } ? NonNullable<Asked> : never;

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

export interface Matching extends Calling {
  /** Only while the event has this `version`, or this `ETag`. */
  ifMatch?: number | string;
}

/** Longest that the server is asked to wait in one request, in seconds. */
export const WAIT_MOST_S = 10;

export abstract class Calls {
  abstract readonly api: Client<paths, "application/json">;

  // ---------------------------------------------------------------- what is on sale

  /** Active events that you sell, by start, each with what is left of its tiers. */
  async listEvents(query: Query<"/v1/events"> = {}, calling: Calling = {}) {
    return good(await this.api.GET("/v1/events", { params: { query }, ...calling }));
  }

  /** One event, and what is left of its tiers. */
  async readEvent(event_id: string, calling: Calling = {}) {
    return good(await this.api.GET("/v1/events/{event_id}", { params: { path: { event_id } }, ...calling }));
  }

  // ---------------------------------------------------------------- bookings

  /** Book or, without a payment, hold tickets. */
  async book(body: Schemas["BookingRequest"], { key, waitS, ...calling }: Keyed & Waiting = {}) {
    return good(await this.api.POST("/v1/bookings", { params: { header: keyed(key) }, headers: prefer(waitS), body, ...calling }));
  }

  /** A page of your bookings. `event_id` with `idempotency_key` finds one at once. */
  async listBookings(query: Query<"/v1/bookings"> = {}, calling: Calling = {}) {
    return good(await this.api.GET("/v1/bookings", { params: { query }, ...calling }));
  }

  /** The booking as it is now, or once it is final, at most `waitS` later. */
  async readBooking(booking_id: string, { waitS, ...calling }: Calling & Waiting = {}) {
    const params = { path: { booking_id } };
    return good(await this.api.GET("/v1/bookings/{booking_id}", { params, headers: prefer(waitS), ...calling }));
  }

  /** Pay a hold. Another card needs another key: leave it out, and a new one is made. */
  async pay(booking_id: string, body: Schemas["HoldPaymentRequest"], { key, waitS, ...calling }: Keyed & Waiting = {}) {
    const params = { path: { booking_id }, header: keyed(key) };
    return good(await this.api.POST("/v1/bookings/{booking_id}/payment", { params, headers: prefer(waitS), body, ...calling }));
  }

  /** Let a hold have these items in place of those that it has. */
  async changeItems(booking_id: string, body: Schemas["ChangeRequest"], { key, ...calling }: Keyed = {}) {
    const params = { path: { booking_id }, header: keyed(key) };
    return good(await this.api.PATCH("/v1/bookings/{booking_id}", { params, body, ...calling }));
  }

  /** Let a hold last longer, once. Sent again after an answer was lost it may be refused as `already-extended`. */
  async extend(booking_id: string, body: Schemas["ExtensionRequest"], calling: Calling = {}) {
    return good(await this.api.POST("/v1/bookings/{booking_id}/extend", { params: { path: { booking_id } }, body, ...calling }));
  }

  /** Give the tickets back: a hold at once, a confirmed booking after its event's terms. */
  async cancel(booking_id: string, { waitS, ...calling }: Calling & Waiting = {}) {
    const params = { path: { booking_id } };
    return good(await this.api.POST("/v1/bookings/{booking_id}/cancel", { params, headers: prefer(waitS), ...calling }));
  }

  /** Give money and tickets back whatever the terms. */
  async refund(booking_id: string, body: Schemas["RefundRequest"], { key, ...calling }: Keyed = {}) {
    const params = { path: { booking_id }, header: keyed(key) };
    return good(await this.api.POST("/v1/bookings/{booking_id}/refunds", { params, body, ...calling }));
  }

  /** All refunds of a booking, oldest first. */
  async listRefunds(booking_id: string, calling: Calling = {}) {
    return good(await this.api.GET("/v1/bookings/{booking_id}/refunds", { params: { path: { booking_id } }, ...calling }));
  }

  /** One refund as it is now. */
  async readRefund(refund_id: string, calling: Calling = {}) {
    return good(await this.api.GET("/v1/refunds/{refund_id}", { params: { path: { refund_id } }, ...calling }));
  }

  // ---------------------------------------------------------------- managing a sale

  /** Make an event. After `Unanswered` it may be there: list events before you make it again. */
  async createEvent(body: Schemas["EventRequest"], calling: Calling = {}) {
    return good(await this.api.POST("/v1/events", { body, ...calling }));
  }

  /** Change what is named. */
  async changeEvent(event_id: string, body: Schemas["EventChangeRequest"], { ifMatch, ...calling }: Matching = {}) {
    const params = { path: { event_id }, header: matching(ifMatch) };
    return good(await this.api.PATCH("/v1/events/{event_id}", { params, body, ...calling }));
  }

  /** Let nothing in until it is resumed. */
  async pauseEvent(event_id: string, { ifMatch, ...calling }: Matching = {}) {
    const params = { path: { event_id }, header: matching(ifMatch) };
    return good(await this.api.POST("/v1/events/{event_id}/pause", { params, ...calling }));
  }

  /** End a pause. */
  async resumeEvent(event_id: string, { ifMatch, ...calling }: Matching = {}) {
    const params = { path: { event_id }, header: matching(ifMatch) };
    return good(await this.api.POST("/v1/events/{event_id}/resume", { params, ...calling }));
  }

  /** Give an event another start. */
  async postponeEvent(event_id: string, body: Schemas["PostponementRequest"], { ifMatch, ...calling }: Matching = {}) {
    const params = { path: { event_id }, header: matching(ifMatch) };
    return good(await this.api.POST("/v1/events/{event_id}/postpone", { params, body, ...calling }));
  }

  /** Call an event off, for good. Called once more, it tells how far that is. */
  async callOffEvent(event_id: string, body: Schemas["CallOffRequest"], { ifMatch, ...calling }: Matching = {}) {
    const params = { path: { event_id }, header: matching(ifMatch) };
    return good(await this.api.POST("/v1/events/{event_id}/call-off", { params, body, ...calling }));
  }

  /** How far a call-off is. */
  async readCallOff(event_id: string, calling: Calling = {}) {
    return good(await this.api.GET("/v1/events/{event_id}/call-off", { params: { path: { event_id } }, ...calling }));
  }

  /** One more tier of an event. */
  async addTier(event_id: string, body: Schemas["TierRequest"], { ifMatch, ...calling }: Matching = {}) {
    const params = { path: { event_id }, header: matching(ifMatch) };
    return good(await this.api.POST("/v1/events/{event_id}/tiers", { params, body, ...calling }));
  }

  /** Change what is named of a tier. */
  async changeTier(event_id: string, tier_id: string, body: Schemas["TierChangeRequest"], { ifMatch, ...calling }: Matching = {}) {
    const params = { path: { event_id, tier_id }, header: matching(ifMatch) };
    return good(await this.api.PATCH("/v1/events/{event_id}/tiers/{tier_id}", { params, body, ...calling }));
  }

  /** What was changed of an event, the newest first. */
  async listChanges(event_id: string, query: Query<"/v1/events/{event_id}/history"> = {}, calling: Calling = {}) {
    return good(await this.api.GET("/v1/events/{event_id}/history", { params: { path: { event_id }, query }, ...calling }));
  }

  /** Make access codes. This answer alone has them. */
  async createCodes(event_id: string, body: Schemas["AccessCodesRequest"], calling: Calling = {}) {
    return good(await this.api.POST("/v1/events/{event_id}/access-codes", { params: { path: { event_id } }, body, ...calling }));
  }

  /** What each access code of an event is good for. */
  async listCodes(event_id: string, query: Query<"/v1/events/{event_id}/access-codes"> = {}, calling: Calling = {}) {
    return good(await this.api.GET("/v1/events/{event_id}/access-codes", { params: { path: { event_id }, query }, ...calling }));
  }

  /** Let nothing more in with a code. */
  async revokeCode(event_id: string, code_id: string, calling: Calling = {}) {
    const params = { path: { event_id, code_id } };
    return good(await this.api.POST("/v1/events/{event_id}/access-codes/{code_id}/revoke", { params, ...calling }));
  }

  /** Set tickets aside for a shop or a code. */
  async createAllocation(event_id: string, body: Schemas["AllocationRequest"], { ifMatch, ...calling }: Matching = {}) {
    const params = { path: { event_id }, header: matching(ifMatch) };
    return good(await this.api.POST("/v1/events/{event_id}/allocations", { params, body, ...calling }));
  }

  /** What is set aside of an event. */
  async listAllocations(event_id: string, query: Query<"/v1/events/{event_id}/allocations"> = {}, calling: Calling = {}) {
    return good(await this.api.GET("/v1/events/{event_id}/allocations", { params: { path: { event_id }, query }, ...calling }));
  }

  /** One allocation. */
  async readAllocation(event_id: string, allocation_id: string, calling: Calling = {}) {
    const params = { path: { event_id, allocation_id } };
    return good(await this.api.GET("/v1/events/{event_id}/allocations/{allocation_id}", { params, ...calling }));
  }

  /** Another size of an allocation. */
  async changeAllocation(
    event_id: string,
    allocation_id: string,
    body: Schemas["AllocationChangeRequest"],
    { ifMatch, ...calling }: Matching = {},
  ) {
    const params = { path: { event_id, allocation_id }, header: matching(ifMatch) };
    return good(await this.api.PATCH("/v1/events/{event_id}/allocations/{allocation_id}", { params, body, ...calling }));
  }

  /** Let everybody book what is reserved. */
  async releaseAllocation(
    event_id: string,
    allocation_id: string,
    body: Schemas["ReleaseRequest"],
    { ifMatch, ...calling }: Matching = {},
  ) {
    const params = { path: { event_id, allocation_id }, header: matching(ifMatch) };
    return good(await this.api.POST("/v1/events/{event_id}/allocations/{allocation_id}/release", { params, body, ...calling }));
  }

  // ---------------------------------------------------------------- what has happened, and where a shop is told

  /** A page of notices behind the cursor `after`; `feed` gives them all, for ever. */
  async readFeed(query: Query<"/v1/feed"> = {}, calling: Calling = {}) {
    return good(await this.api.GET("/v1/feed", { params: { query }, ...calling }));
  }

  /** Have notices sent to a URL. This answer alone has the secret by which `verifyWebhook` knows them. */
  async createWebhookEndpoint(body: Schemas["EndpointRequest"], calling: Calling = {}) {
    return good(await this.api.POST("/v1/webhook-endpoints", { body, ...calling }));
  }

  /** All of your shop, and how each does. */
  async listWebhookEndpoints(calling: Calling = {}) {
    return good(await this.api.GET("/v1/webhook-endpoints", { ...calling }));
  }

  /** How one does. */
  async readWebhookEndpoint(endpoint_id: string, calling: Calling = {}) {
    return good(await this.api.GET("/v1/webhook-endpoints/{endpoint_id}", { params: { path: { endpoint_id } }, ...calling }));
  }

  /** Change what is named. One that is enabled is tried at once. */
  async changeWebhookEndpoint(endpoint_id: string, body: Schemas["EndpointChangeRequest"], calling: Calling = {}) {
    const params = { path: { endpoint_id } };
    return good(await this.api.PATCH("/v1/webhook-endpoints/{endpoint_id}", { params, body, ...calling }));
  }

  /** Let it hear of nothing more. Sent again after an answer was lost it may be refused as `not-found`. */
  async deleteWebhookEndpoint(endpoint_id: string, calling: Calling = {}) {
    return good(await this.api.DELETE("/v1/webhook-endpoints/{endpoint_id}", { params: { path: { endpoint_id } }, ...calling }));
  }

  /** Sign with a new secret, and with the one before as well for a while. This answer alone has the new one. */
  async rotateWebhookSecret(endpoint_id: string, body: Schemas["RotationRequest"], calling: Calling = {}) {
    const params = { path: { endpoint_id } };
    return good(await this.api.POST("/v1/webhook-endpoints/{endpoint_id}/rotate", { params, body, ...calling }));
  }

  /** What was sent to it and what came of it, the latest first. */
  async listWebhookDeliveries(
    endpoint_id: string,
    query: Query<"/v1/webhook-endpoints/{endpoint_id}/deliveries"> = {},
    calling: Calling = {},
  ) {
    const params = { path: { endpoint_id }, query };
    return good(await this.api.GET("/v1/webhook-endpoints/{endpoint_id}/deliveries", { params, ...calling }));
  }

  /** Send notices again, under the same ids. */
  async redeliverWebhooks(endpoint_id: string, body: Schemas["RedeliveryRequest"], calling: Calling = {}) {
    const params = { path: { endpoint_id } };
    return good(await this.api.POST("/v1/webhook-endpoints/{endpoint_id}/redeliver", { params, body, ...calling }));
  }

  // ---------------------------------------------------------------- how the service is

  /** Whether the process answers. */
  async healthz(calling: Calling = {}) {
    return good(await this.api.GET("/healthz", { ...calling }));
  }

  /** Whether it can sell. */
  async readyz(calling: Calling = {}) {
    return good(await this.api.GET("/readyz", { ...calling }));
  }
}

/** An idempotency key: keep it with the order before you send, so that it can be sent again after a crash. */
export function newKey(): string {
  return crypto.randomUUID();
}

function keyed(key: string | undefined): { "Idempotency-Key": string } {
  return { "Idempotency-Key": key ?? newKey() };
}

function matching(ifMatch: number | string | undefined): { "If-Match"?: string } {
  return ifMatch === undefined ? {} : { "If-Match": typeof ifMatch === "number" ? `"${ifMatch}"` : ifMatch };
}

export function prefer(waitS: number | undefined): Record<string, string> {
  return waitS ? { Prefer: `wait=${Math.min(Math.round(waitS), WAIT_MOST_S)}` } : {};
}

/** What a call came to: refusals have been thrown by then. */
export function good<T>(answer: { data?: T }): NonNullable<T> {
  return answer.data as NonNullable<T>;
}
