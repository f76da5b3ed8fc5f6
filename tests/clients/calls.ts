// Calls every method of the packed client with something in each of its places, and prints what it would have sent; compiled and run
// by `test_typescript_shop.py`.
import { BoxOffice } from "boxoffice-client";

const sent: Record<string, unknown> = {};
let calling = "";

async function noted(input: RequestInfo | URL): Promise<Response> {
  const request = input as Request;
  const url = new URL(request.url);
  const ours = ["idempotency-key", "if-match", "prefer"].filter((name) => request.headers.has(name));
  const body = await request.text();
  sent[calling] = [request.method, url.pathname, [...url.searchParams.keys()].sort(), ours, body !== ""];
  return new Response("{}", { headers: { "Content-Type": "application/json" } });
}

const client = new BoxOffice({ baseUrl: "http://127.0.0.1:1", apiKey: "a.b", fetch: noted });
const any = client as unknown as Record<string, (...given: unknown[]) => Promise<unknown>>;

for (const [name, ids, query, body] of JSON.parse(process.argv[2]!) as [string, string[], object, boolean][]) {
  calling = name;
  const given: unknown[] = [...ids, ...(Object.keys(query).length ? [query] : []), ...(body ? [{ some: "body" }] : [])];
  await any[name]!(...given, { waitS: 5, ifMatch: 7 });
}

const methods = [BoxOffice.prototype, Object.getPrototypeOf(BoxOffice.prototype)]
  .flatMap((each) => Object.getOwnPropertyNames(each))
  .filter((name) => name !== "constructor");
console.log(JSON.stringify({ sent, methods }));
