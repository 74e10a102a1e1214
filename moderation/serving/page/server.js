// Requests to the server that the page came from. The key lives in this tab alone.

const KEY = "moderation-key";
let key = restored();

/** An answer that is none: what the server refused, or that there was no server (status 0). */
export class Refusal extends Error {
  constructor(status, kind, message, retryAfterS) {
    super(message);
    Object.assign(this, { status, kind, retryAfterS });
  }
}

/** Keep a key for the following requests; an empty one is forgotten. */
export function useKey(given) {
  key = given;
  try {
    if (key) sessionStorage.setItem(KEY, key);
    else sessionStorage.removeItem(KEY);
  } catch {
    // A browser that keeps nothing for pages: it is asked for again after a reload.
  }
}

function restored() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

/** GET a path, or POST `body` to it as JSON. Throws a Refusal, or an AbortError where `signal` says so. */
export async function ask(path, { body, signal } = {}) {
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
    if (answer.ok) return await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "unreachable", "No answer from the server.");
  }
  const { error } = await answer.json().catch(() => ({}));
  const retryAfterS = Number(answer.headers.get("Retry-After")) || null;
  throw new Refusal(answer.status, error?.type, error?.message ?? answer.statusText, retryAfterS);
}
