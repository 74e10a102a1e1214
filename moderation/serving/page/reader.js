// When to ask the server: a moment after the last key, never twice at once, and again by itself where waiting helps.

import { ask } from "./server.js";

const PAUSE_MS = 250;
const LONGEST_WAIT_S = 30;

export class Reader {
  #text = "";
  #timer = 0;
  #running = null;
  #notBefore = 0;
  #failures = 0;
  #on;

  /** @param on `{start(), result(text, answer), refused(refusal, retryInS)}`; retryInS is null where waiting is no help. */
  constructor(on) {
    this.#on = on;
  }

  /** Read a text after a pause; a request that is still under way is for an older text, and given up. */
  read(text, { pauseMs = PAUSE_MS } = {}) {
    this.#text = text;
    this.#running?.abort();
    this.#running = null;
    clearTimeout(this.#timer);
    if (!text.trim()) return;
    this.#timer = setTimeout(() => this.#send(), Math.max(pauseMs, this.#notBefore - Date.now()));
  }

  /** Read the same text again, now. */
  again() {
    this.#notBefore = 0;
    this.read(this.#text, { pauseMs: 0 });
  }

  async #send() {
    const text = this.#text;
    const request = (this.#running = new AbortController());
    this.#on.start();
    try {
      // A lone half of a character is no text; its stand-in has the same length.
      const body = { texts: [text.toWellFormed()], sentences: true };
      const answer = await ask("v1/predict", { body, signal: request.signal });
      if (request.signal.aborted) return;
      this.#failures = 0;
      this.#on.result(text, answer);
    } catch (refusal) {
      if (request.signal.aborted) return;
      const waitS = this.#waitS(refusal);
      if (waitS !== null) {
        this.#notBefore = Date.now() + 1000 * waitS;
        this.read(text);
      }
      this.#on.refused(refusal, waitS);
    }
  }

  /** Seconds until it is worth asking again; null: the same text would be refused again, or somebody should decide. */
  #waitS({ status, retryAfterS }) {
    if (status === 429) return retryAfterS ?? 2;
    if (![0, 502, 503].includes(status)) return null;
    this.#failures += 1;
    return retryAfterS ?? Math.min(LONGEST_WAIT_S, 2 ** this.#failures);
  }
}
