/**
 * Detects a connection that is dead without a close (docs/PROTOCOL.md, section 7). A browser
 * reports neither pings nor a lost network, so this sends a `ping` after a silence. Owns its
 * timers; the caller sends the ping and drops the connection.
 */

const PONG_MS = 5_000;

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
    this.#activeAt = Date.now();
    this.#awaitsPong = false;
  }

  /** Sends a ping now, because the network has changed. */
  probe() {
    if (this.#silenceMs === 0 || this.#awaitsPong) return;
    this.#awaitsPong = true;
    this.#ping();
    this.#schedule(PONG_MS);
  }

  /** @param {number} delayMs */
  #schedule(delayMs) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#check(), delayMs);
  }

  #check() {
    if (this.#awaitsPong) return this.#lost();
    const silentMs = Date.now() - this.#activeAt;
    if (silentMs >= this.#silenceMs) this.probe();
    else this.#schedule(this.#silenceMs - silentMs);
  }
}
