/**
 * Detects a connection that is dead without a close (docs/PROTOCOL.md, section 7). A browser
 * reports neither pings nor a lost network, so this sends a `ping` after a silence. Owns its
 * timers; the caller sends the ping and drops the connection.
 */

const PONG_MS = 5_000;

/** After a sleep or a change of the network, a connection is more often dead than slow. */
const WAKE_PONG_MS = 600;

export class Keepalive {
  #silenceMs = 0;
  #activeAt = 0;
  #awaitsPong = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #ping;
  #lost;

  /** @param {{ ping: () => void, lost: () => void }} callbacks */
  constructor({ ping, lost }) {
    this.#ping = ping;
    this.#lost = lost;
  }

  /** @param {number} pingIntervalMs the ping interval of the server */
  start(pingIntervalMs) {
    this.#silenceMs = pingIntervalMs * 1.5;
    this.noteActivity();
    this.#schedule(this.#silenceMs);
  }

  stop() {
    this.#silenceMs = 0;
    clearTimeout(this.#timer);
  }

  /** A frame arrived. Only stores the time, because a timer for each frame would cost too much. */
  noteActivity() {
    this.#activeAt = performance.now();
    this.#awaitsPong = false;
  }

  /**
   * Sends a ping now, because the page woke up or the network has changed.
   *
   * @param {number} connectMs how long the connection took to open, which is several times as long
   *   as an answer on a slow network
   */
  wake(connectMs) {
    this.#probe(Math.min(PONG_MS, Math.max(WAKE_PONG_MS, connectMs)));
  }

  /** @param {number} pongMs the time for the answer */
  #probe(pongMs) {
    if (this.#silenceMs === 0) return;
    if (!this.#awaitsPong) this.#ping();
    this.#awaitsPong = true;
    this.#schedule(pongMs);
  }

  /** @param {number} delayMs */
  #schedule(delayMs) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#check(), delayMs);
  }

  #check() {
    if (this.#awaitsPong) return this.#lost();
    const silentMs = performance.now() - this.#activeAt;
    if (silentMs >= this.#silenceMs) this.#probe(PONG_MS);
    else this.#schedule(this.#silenceMs - silentMs);
  }
}
