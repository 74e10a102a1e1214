// Requests to the server that the page came from. The key is stored only in this tab.

const KEY = "moderation-key";
const LONGEST_WAIT_S = 2_000_000; // setTimeout counts 2**31 ms; what is longer would not wait at all
const SHORTEST_WAIT_S = 1;
let key = restored();

/** No result: the server refused the request, or did not answer (status 0). */
export class Refusal extends Error {
  constructor(status, kind, message, retryAfterS) {
    super(message);
    Object.assign(this, { status, kind, retryAfterS });
  }
}

/** Use a key for the following requests; an empty one removes it. */
export function useKey(given) {
  key = given;
  try {
    if (key) sessionStorage.setItem(KEY, key);
    else sessionStorage.removeItem(KEY);
  } catch {
    // If the browser stores nothing for pages, the page asks for the key again after a reload.
  }
}

function restored() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

/** GET a path, or POST `body` to it as JSON. Throws a Refusal, or an AbortError if `signal` is aborted. */
export async function ask(path, { body, signal } = {}) {
  const headers = {};
  if (/[^\x20-\xff]/.test(key)) throw new Refusal(401, "invalid_key", "No header can hold this key.");
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
  const message = error?.message ?? answer.statusText;
  throw new Refusal(answer.status, error?.type, message, readWait(answer.headers.get("Retry-After")));
}

/** Seconds to wait, as a timer can; null if the server did not say so in seconds. */
function readWait(words) {
  const seconds = Number(words);
  return seconds > 0 ? Math.min(Math.max(seconds, SHORTEST_WAIT_S), LONGEST_WAIT_S) : null;
}
