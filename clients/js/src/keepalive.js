/**
 * Notices a connection that died without a word (docs/PROTOCOL.md, section 7): a browser shows neither pings nor a cable that was
 * pulled. Owns its timers; sending and dropping are the caller's.
 */

const PONG_MS = 5_000;

export class Keepalive {
  #silenceMs = 0;
  #heardAt = 0;
  #asked = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #ping;
  #lost;

  /** @param {{ ping: () => void, lost: () => void }} callbacks */
  constructor({ ping, lost }) {
    this.#ping = ping;
    this.#lost = lost;
  }

  /** @param {number} pingIntervalMs */
  start(pingIntervalMs) {
    this.#silenceMs = pingIntervalMs * 1.5;
    this.heard();
    this.#watch(this.#silenceMs);
  }

  stop() {
    this.#silenceMs = 0;
    clearTimeout(this.#timer);
  }

  /** Something came in. Only a time is noted: a timer per frame would cost more than the frame. */
  heard() {
    this.#heardAt = Date.now();
    this.#asked = false;
  }

  /** Asks at once, because the network is known to have changed. */
  probe() {
    if (this.#silenceMs === 0 || this.#asked) return;
    this.#asked = true;
    this.#ping();
    this.#watch(PONG_MS);
  }

  /** @param {number} delayMs */
  #watch(delayMs) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), delayMs);
  }

  #look() {
    if (this.#asked) return this.#lost();
    const silentMs = Date.now() - this.#heardAt;
    if (silentMs >= this.#silenceMs) this.probe();
    else this.#watch(this.#silenceMs - silentMs);
  }
}
