// A shop on the packed client in TypeScript; compiled and run by `test_typescript_shop.py`.
import { BoxOffice, isProblem, ProblemError } from "boxoffice-client";

const [baseUrl, apiKey] = process.argv.slice(2) as [string, string];
const client = new BoxOffice({ baseUrl, apiKey, retries: { deadlineS: 60, attemptS: 3, firstS: 0.1 } });
const told: Record<string, unknown> = {};

const [GOOD, DECLINED] = ["4242424242424242", "4000000000000002"];
const card = (card_number: string) => ({ method: "card" as const, card_name: "Ada", card_number });

const event = (await client.listEvents({ on_sale: true })).data[0]!;
const item = { tier_id: event.tiers[0]!.id, quantity: 1 };
const available: number = event.tiers[0]!.available;
if (available < 1) throw new Error("nothing is left");

async function booked(customer_id: string, number = GOOD!) {
  const accepted = await client.book({ customer_id, items: [item], payment: card(number) });
  return client.waitUntilFinal(accepted.id, { deadlineS: 30 });
}

told["bought"] = (await booked("plain")).status;
told["answer lost"] = (await booked("lost-answer")).status;
told["refused twice"] = (await booked("busy-twice")).status;
told["declined"] = (await booked("declined", DECLINED)).failure?.code;

const hold = await client.book({ customer_id: "holder", items: [item] });
await client.changeItems(hold.id, { items: [{ ...item, quantity: 2 }] });
const longer = await client.extend(hold.id, { extra_s: 60 });
if (!(longer.expires_at! > hold.expires_at!)) throw new Error("it lasts no longer");
await client.pay(hold.id, { method: "card", token: "tok_card_declined" });
told["still held"] = (await client.waitUntilFinal(hold.id, { deadlineS: 30 })).status;
await client.pay(hold.id, { method: "card", token: "tok_ok" });
told["paid"] = (await client.waitUntilFinal(hold.id, { deadlineS: 30 })).status;
told["cancelled"] = (await client.cancel(hold.id)).status;

const watched: [string, string][] = [];
let last: string | undefined;
for await (const each of client.watchBooking(hold.id)) {
  watched.push([each.name, each.data.status]);
  last = each.id;
}
told["watched"] = watched;
for await (const _ of client.watchBooking(hold.id, { lastEventId: last! })) throw new Error("nothing is new");
const noticed: string[] = [];
for await (const notice of client.feed(undefined, { types: ["booking.held", "booking.confirmed", "booking.cancelled"] })) {
  if (notice.booking_id === hold.id) noticed.push(notice.type);
  if (noticed.at(-1) === "booking.cancelled") break;
}
told["noticed"] = noticed;
for await (const each of client.watchAvailability(event.id)) {
  told["left"] = (each.data as { event_id: string }).event_id === event.id;
  break;
}

try {
  await client.book({ customer_id: "greedy", items: [{ ...item, quantity: 10 }] });
} catch (error) {
  if (!isProblem(error, "/problems/sold-out")) throw error;
  told["short of"] = error.problem.shortfall[0]!.requested;
  if (!error.key || error.requestId !== error.problem.request_id) throw new Error("whose it was is not told");
}
const again = await client.book({ customer_id: "same", items: [item] }, { key: "order-7" });
told["same"] = (await client.book({ customer_id: "same", items: [item] }, { key: "order-7" })).id === again.id;
const mine = await client.listBookings({ limit: 50 });
told["bookings"] = mine.data.filter((each) => each.customer_id === "lost-answer").length;

// By its path, an operation has the same errors.
const none = await client.api.GET("/v1/refunds/{refund_id}", { params: { path: { refund_id: "none" } } }).catch((error) => error);
told["no refund"] = none instanceof ProblemError && none.status;

const paused = await client.pauseEvent(event.id, { ifMatch: event.version });
const resumed = await client.resumeEvent(event.id, { ifMatch: paused.version });
const stale = await client.changeEvent(event.id, { name: "Late" }, { ifMatch: paused.version }).catch((error) => error);
told["managed"] = [paused.status, resumed.status, isProblem(stale, "/problems/event-changed")];

const all = await Promise.all(["a", "b", "lost-async"].map((customer) => booked(customer)));
told["at once"] = [...all.map((each) => each.status), "cancelled"];
console.log(JSON.stringify(told));
