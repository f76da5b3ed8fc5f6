// The API, as whoever is signed in: the cookie goes along by itself, and counts only beside the page's own header.

const PATIENCE_MS = 10000;

/** `{status, body}`; status 0 when no answer came. What was asked may have been done then. */
export async function call(method, path, body, headers = {}) {
  const sent = { method, headers: { "X-Boxoffice-Page": "ops", ...headers }, signal: AbortSignal.timeout(PATIENCE_MS) };
  if (body !== undefined) {
    sent.body = JSON.stringify(body);
    sent.headers["Content-Type"] = "application/json";
  }
  try {
    const answer = await fetch(path, sent);
    const text = await answer.text();
    const found = text && /json/.test(answer.headers.get("content-type") ?? "") ? JSON.parse(text) : null;
    if (answer.status === 401 && path !== "/ops/session") document.dispatchEvent(new Event("signed-out"));
    return { status: answer.status, body: found };
  } catch {
    return { status: 0, body: null };
  }
}

/** What a refusal means, in a sentence. */
export function why({ status, body }) {
  if (status === 0) return "No answer came. It may have been done all the same: look before you do it again.";
  if (status === 412) return "Somebody else changed it in the meantime. Nothing was done: look again.";
  if (status === 403 && body?.scope) return `Your key lacks the scope ${body.scope}.`;
  return body?.detail ?? body?.title ?? `The answer was ${status}.`;
}

export const fine = ({ status }) => status >= 200 && status < 300;
