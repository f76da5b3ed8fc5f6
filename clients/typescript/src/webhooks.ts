// Webhooks of boxoffice: whether it was boxoffice that sent one, by the Standard Webhooks specification.
import { WebhookRefused } from "./errors.js";

/** Seconds that a webhook's time may be from ours: an old one that somebody recorded is refused. */
export const TOLERANCE_S = 300;

export interface Verifying {
  toleranceS?: number;
  /** Unix time in seconds. */
  nowS?: number;
}

/**
 * The notice in a webhook that is signed with one of `secrets` (`whsec_…`; two while you rotate). Rejects with `WebhookRefused`.
 * `body` is the body as it came, before anything parsed it. A webhook may come more than once; its `webhook-id` stays the same.
 */
export async function verifyWebhook(
  body: string | Uint8Array<ArrayBuffer>,
  headers: Headers | Record<string, string | string[] | undefined>,
  secrets: string | readonly string[],
  { toleranceS = TOLERANCE_S, nowS = Date.now() / 1000 }: Verifying = {},
): Promise<unknown> {
  const [id, timestamp, signatures] = ["id", "timestamp", "signature"].map((name) => header(headers, `webhook-${name}`));
  if (!/^\d+$/.test(timestamp!)) throw new WebhookRefused("its time is no number");
  if (Math.abs(nowS - Number(timestamp)) > toleranceS) throw new WebhookRefused("its time is too far from now");
  const encode = new TextEncoder();
  const content = typeof body === "string" ? encode.encode(body) : body;
  const head = encode.encode(`${id}.${timestamp}.`);
  const signed = new Uint8Array(head.length + content.length);
  signed.set(head);
  signed.set(content, head.length);
  const given = signatures!.split(" ").filter((each) => each.startsWith("v1,")).map((each) => bytes(each.slice(3)));
  let good = false;
  for (const secret of typeof secrets === "string" ? [secrets] : secrets) {
    const raw = bytes(secret.replace(/^whsec_/, ""));
    if (raw === undefined) throw new TypeError("a secret is whsec_ and base64");
    const key = await crypto.subtle.importKey("raw", raw, { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
    for (const each of given) {
      // `verify` compares in constant time.
      if (each !== undefined && (await crypto.subtle.verify("HMAC", key, each, signed))) good = true;
    }
  }
  if (!good) throw new WebhookRefused("none of its signatures is of these secrets");
  try {
    return JSON.parse(new TextDecoder().decode(content));
  } catch {
    throw new WebhookRefused("it is no JSON");
  }
}

function header(headers: Headers | Record<string, string | string[] | undefined>, name: string): string {
  const value = headers instanceof Headers ? headers.get(name) : (headers[name] ?? null);
  if (typeof value !== "string") throw new WebhookRefused(`the header ${name} is missing`);
  return value;
}

function bytes(base64: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return Uint8Array.from(atob(base64), (each) => each.charCodeAt(0));
  } catch {
    return undefined;
  }
}
