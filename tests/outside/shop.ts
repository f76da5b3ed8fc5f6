// A shop on the types that openapi-typescript has made; compiled and run by `test_generated_clients.py`.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

const [baseUrl, key] = process.argv.slice(2) as [string, string];
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } });
type Booking = components["schemas"]["Booking"];

function sure<T>(answer: { data?: T; error?: { type: string } }): T {
  if (answer.data === undefined) throw new Error(answer.error?.type);
  return answer.data;
}

async function final(id: string): Promise<Booking> {
  for (let n = 0; n < 600; n++) {
    const found = sure(await client.GET("/v1/bookings/{booking_id}", { params: { path: { booking_id: id } } }));
    if (found.status !== "held" && found.status !== "pending") return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("never final");
}

const events = sure(await client.GET("/v1/events", {}));
const tier_id = events.data[0]!.tiers[0]!.id;

// A plain hold, with no optional member.
const held = sure(await client.POST("/v1/bookings", {
  params: { header: { "Idempotency-Key": "th" } },
  body: { customer_id: "ada", items: [{ tier_id, quantity: 1 }] },
}));
const left: number | null = held.expires_in_s;
if (left === null) throw new Error("no time left");
sure(await client.POST("/v1/bookings/{booking_id}/payment", {
  params: { path: { booking_id: held.id }, header: { "Idempotency-Key": "tp" } },
  body: { method: "card", token: "tok_ok" },
}));
const paid = await final(held.id);

// And one that writes null for all of them.
const booked = sure(await client.POST("/v1/bookings", {
  params: { header: { "Idempotency-Key": "tb" } },
  body: {
    customer_id: "bob", items: [{ tier_id, quantity: 1 }], reference: null, hold_s: null,
    payment: { method: "card", card_name: "Bob", card_number: "4242424242424242", token: null },
  },
}));
const confirmed = await final(booked.id);

const refused = await client.POST("/v1/bookings", {
  params: { header: { "Idempotency-Key": "ts" } },
  body: { customer_id: "c", items: [{ tier_id, quantity: 10 }] },
});
const short = refused.error?.type === "/problems/sold-out" ? refused.error.shortfall[0]?.requested : undefined;
console.log(JSON.stringify({ statuses: [paid.status, confirmed.status], short }));
