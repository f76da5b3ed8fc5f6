// Holds the table of retries, and webhooks, against the cases that the client in Python has, too.
import { pauseBeforeRepeat, RETRIES, verifyWebhook, WebhookRefused, type Outcome } from "boxoffice-client";

interface Case {
  says: string;
  status?: number;
  slug?: string;
  retryAfterS: number | null;
  lost?: boolean;
  repeatable: boolean;
  attempt: number;
  pause: [number, number] | null;
}

const cases = JSON.parse(process.argv[2]!) as Case[];
const wrong: string[] = [];
for (const each of cases) {
  const outcome: Outcome = each.lost
    ? { lost: true }
    : { status: each.status!, slug: each.slug!, retryAfterS: each.retryAfterS ?? undefined };
  const pauses = [0, 1].map((at) =>
    pauseBeforeRepeat(outcome, each.repeatable, each.attempt, { ...RETRIES, chance: () => at }),
  );
  if (JSON.stringify(pauses) !== JSON.stringify(each.pause ?? [undefined, undefined])) wrong.push(each.says);
}

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const other = `whsec_${btoa("another secret of the same shop")}`;
const body = '{"test": 2432232314}';
const headers = {
  "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
  "webhook-timestamp": "1614265330",
  "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
};
const nowS = 1614265330;
for (const secrets of [secret, [other, secret]]) {
  const found = (await verifyWebhook(body, new Headers(headers), secrets, { nowS })) as { test: number };
  if (found.test !== 2432232314) wrong.push("the example of the specification");
}
await verifyWebhook(new TextEncoder().encode(body), headers, secret, { nowS: nowS + 299 });
const bad: [string, Record<string, string>, string, number][] = [
  [`${body} `, headers, secret, nowS],
  [body, { ...headers, "webhook-id": "another" }, secret, nowS],
  [body, { ...headers, "webhook-timestamp": "1614265331" }, secret, nowS],
  [body, { ...headers, "webhook-timestamp": "soon" }, secret, nowS],
  [body, headers, other, nowS],
  [body, headers, secret, nowS + 301],
  [body, headers, secret, nowS - 301],
  [body, { ...headers, "webhook-signature": "v1,nonsense v1" }, secret, nowS],
  [body, { ...headers, "webhook-signature": headers["webhook-signature"].replace("v1", "v2") }, secret, nowS],
  [body, { "webhook-id": "msg", "webhook-timestamp": "1614265330" }, secret, nowS],
];
for (const [text, sent, key, now] of bad) {
  const outcome = await verifyWebhook(text, sent, key, { nowS: now }).catch((error: unknown) => error);
  if (!(outcome instanceof WebhookRefused)) wrong.push(`a bad webhook was taken: ${JSON.stringify([text, sent, now])}`);
}
console.log(JSON.stringify({ cases: cases.length, wrong }));
