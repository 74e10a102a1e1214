// When to ask the server: shortly after the last keystroke, one request at a time; retry automatically if it can help.

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

  /** @param on `{start(), result(text, answer), refused(refusal, retryInS)}`; retryInS is null if no retry will follow. */
  constructor(on) {
    this.#on = on;
  }

  /** Score a text after a pause; a request still in flight is for an older text, so cancel it. */
  read(text, { pauseMs = PAUSE_MS } = {}) {
    this.#text = text;
    this.#running?.abort();
    this.#running = null;
    clearTimeout(this.#timer);
    if (!text.trim()) return;
    this.#timer = setTimeout(() => this.#send(), Math.max(pauseMs, this.#notBefore - performance.now()));
  }

  /** Score the same text again, now. */
  again() {
    this.#notBefore = 0;
    this.read(this.#text, { pauseMs: 0 });
  }

  async #send() {
    const text = this.#text;
    const request = (this.#running = new AbortController());
    this.#on.start();
    try {
      // Half of a surrogate pair is not valid text; its replacement has the same length.
      const body = { texts: [text.toWellFormed()], sentences: true };
      const answer = await ask("v1/predict", { body, signal: request.signal });
      if (request.signal.aborted) return;
      this.#failures = 0;
      this.#on.result(text, answer);
    } catch (refusal) {
      if (request.signal.aborted) return;
      const waitS = this.#waitS(refusal);
      if (waitS !== null) {
        this.#notBefore = performance.now() + 1000 * waitS; // whatever becomes of the clock
        this.read(text);
      }
      this.#on.refused(refusal, waitS);
    }
  }

  /** Seconds until the next try; null: the same text would be refused again, or the user has to act. */
  #waitS({ status, retryAfterS }) {
    if (status === 429) return retryAfterS ?? 2;
    if (![0, 502, 503].includes(status)) return null;
    this.#failures += 1;
    return retryAfterS ?? Math.min(LONGEST_WAIT_S, 2 ** this.#failures);
  }
}
