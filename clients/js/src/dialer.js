/**
 * Keeps one link to the server up: with which proof, when again, and when no more (docs/PROTOCOL.md, sections 2, 6 and 7). Owns the
 * attempts, their timers and the handle; must not know what travels over the link (see client.js).
 */
import { Backoff } from './backoff.js';
import { SESSION_GONE, SignalingError, TOKEN_EXPIRED, isRetryable, readClose, toTokenError } from './codes.js';
import { Handle } from './handle.js';
import { signalAddress, ticketFor, whyRefused } from './http.js';
import { Keepalive } from './keepalive.js';
import { Link } from './link.js';

/**
 * @typedef {import('./messages.js').ErrorFrame} ErrorFrame
 * @typedef {import('./link.js').Closing} Closing
 * @typedef {import('./client.js').ClientOptions & { getToken: () => Promise<string> | string }} ClientOptions
 * @typedef {{ token: string, resume?: undefined, since?: undefined } | { token?: undefined, resume: string, since?: number }} Proof
 *   a handle without `since` takes over
 *
 * @typedef {object} DialerCallbacks
 * @property {() => number} since the last entry of the mailbox that was taken
 * @property {(text: unknown) => void} onText
 * @property {() => void} onDown there is no link now, or it is about to be another
 * @property {() => void} onConnecting
 * @property {(error: SignalingError, retryInMs: number) => void} onWaiting
 * @property {(error: SignalingError) => void} onStopped for good
 */

/** A connection that held so long was a good one; its loss starts the backoff anew. */
const HELD_MS = 5_000;

/** After the loss of a good one the first attempt is made at once; so much is only to keep the clients of a node out of step. */
const FIRST_MS = 200;

/**
 * A server keeps the place of a lost peer for its resume window, 30 s by default; so as long as that may be, a client must not sleep through the moment
 * when the server is back.
 */
const RESUMABLE_MS = 60_000;
const RESUMABLE_CAP_MS = 4_000;

/** Statuses which another token may cure. */
const ABOUT_THE_TOKEN = new Set([401, 403]);

/** A ticket that was good once: the answer was lost, or took too long. The token behind it is as good as before. */
const ABOUT_THE_TICKET = new Set(['ticket_used', 'ticket_invalid']);

export class Dialer {
  /** @type {'idle' | 'connecting' | 'up' | 'waiting' | 'stopped'} */
  #phase = 'idle';
  /** @type {Link | null} */
  #link = null;
  /** Grows with every attempt and every end: what an older one still awaits is void. */
  #epoch = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #goawayTimer;
  #comeBackAt = 0;
  /** @type {number | null} */
  #upAt = null;
  /** When the last connection that was up was lost, or the client started. */
  #lostAt = 0;
  #tokenRefused = false;
  /** Whether each token is exchanged for a ticket before it is used. */
  #tickets;
  /** The last `error` without an id: the words for the close that follows it. @type {ErrorFrame | null} */
  #lastWords = null;
  /** @type {Proof} */
  #proof = { token: '' };
  #options;
  #on;
  #random;
  #backoff;
  #handle;
  #keepalive = new Keepalive({
    ping: () => this.send('{"type":"ping"}'),
    lost: () => this.drop('no_pong'),
  });
  #onOnline = () => this.#networkIsBack();

  /** @param {ClientOptions} options @param {DialerCallbacks} callbacks */
  constructor(options, callbacks) {
    this.#options = options;
    this.#on = callbacks;
    this.#random = options.random ?? Math.random;
    this.#tickets = options.ticket ?? false;
    this.#backoff = new Backoff({ random: options.random });
    this.#handle = new Handle(options.session);
  }

  start() {
    globalThis.addEventListener?.('online', this.#onOnline);
    this.#handle.open();
    this.#lostAt = Date.now();
    void this.#attempt();
  }

  /** Nothing is tried any more. @param {SignalingError} error */
  stop(error) {
    if (this.#phase === 'idle' || this.#phase === 'stopped') return;
    this.#begin();
    this.#phase = 'stopped';
    this.#handle.close();
    globalThis.removeEventListener?.('online', this.#onOnline);
    this.#on.onStopped(error);
  }

  /** @param {string} text */
  send(text) {
    this.#link?.send(text);
  }

  /** Gives the link up and comes back. @param {string} reason one of the local codes */
  drop(reason) {
    this.#link?.drop(reason);
  }

  /**
   * The first frame came, or one like it later: `joined`, `resumed`, `waiting`.
   *
   * @param {{ resume: string | null, pingInterval: number }} frame
   */
  welcomed({ resume, pingInterval }) {
    this.#handle.renew(resume);
    this.#keepalive.start(pingInterval);
    if (this.#phase === 'up') return;
    this.#phase = 'up';
    this.#link?.joined();
    this.#upAt = Date.now();
    this.#comeBackAt = 0;
    this.#tokenRefused = false;
  }

  /** The handle is another one, because the token is. @param {string | null} resume */
  renewed(resume) {
    this.#handle.renew(resume);
  }

  /** @param {number} reconnectIn milliseconds */
  goaway(reconnectIn) {
    this.#comeBackAt = Date.now() + reconnectIn;
    clearTimeout(this.#goawayTimer);
    this.#goawayTimer = setTimeout(() => this.drop('going_away'), reconnectIn);
  }

  /** @param {ErrorFrame} frame an `error` without an id */
  said(frame) {
    this.#lastWords = frame;
  }

  async #attempt() {
    const epoch = this.#begin();
    this.#phase = 'connecting';
    this.#on.onConnecting();
    try {
      const proof = this.#resumption() ?? { token: await this.#admission() };
      if (epoch === this.#epoch) this.#open(proof);
    } catch (cause) {
      if (epoch === this.#epoch) this.#failedBefore(cause);
    }
  }

  /** A token, or a ticket in its place. */
  async #admission() {
    const { getToken, url, fetch } = this.#options;
    const token = await getToken();
    return this.#tickets ? ticketFor({ url, token, fetch }) : token;
  }

  /** @returns {Proof | null} */
  #resumption() {
    const { value, takesOver } = this.#handle;
    if (value === null) return null;
    return { resume: value, since: takesOver ? undefined : this.#on.since() };
  }

  /** @param {unknown} cause of having no token, or none that fits into a request */
  #failedBefore(cause) {
    const error = toTokenError(cause);
    if (error.retryable) this.#wait(error);
    else this.stop(error);
  }

  /** @param {Proof} proof */
  #open(proof) {
    this.#proof = proof;
    this.#lastWords = null;
    this.#link = new Link({
      address: signalAddress(this.#options.url, proof.since),
      proof: proof.resume === undefined ? `token.${proof.token}` : `resume.${proof.resume}`,
      WebSocket: this.#options.WebSocket ?? globalThis.WebSocket,
      onText: (text) => this.#heard(text),
      onClose: (closing) => void this.#onClose(closing),
    });
  }

  /** @param {unknown} text */
  #heard(text) {
    this.#keepalive.heard();
    this.#on.onText(text);
  }

  /** @param {Closing} closing */
  async #onClose({ code, reason, opened }) {
    const epoch = this.#begin();
    const { code: name, retryMs } = readClose(code, reason);
    const words = this.#lastWords?.code === name ? this.#lastWords.message : undefined;
    const error = new SignalingError(name, words, { closeCode: code, retryMs });
    if (code === SESSION_GONE || code === TOKEN_EXPIRED) this.#handle.forget();
    if (opened) return isRetryable(code) ? this.#wait(error) : this.stop(error);
    const { token, resume } = this.#proof;
    const refusal = await whyRefused({ url: this.#options.url, token, resume, fetch: this.#options.fetch });
    // Without a refusal the verdict has changed since, or the network failed: either way the same is tried again.
    if (epoch === this.#epoch) this.#notAdmitted(refusal ?? error);
  }

  /** The upgrade failed. @param {SignalingError} error */
  #notAdmitted(error) {
    const { status } = error;
    // A 404 is a proxy without its server behind it; the others will be the same next time.
    if (status === undefined || error.retryable || status === 404) return this.#wait(error);
    if (this.#proof.resume !== undefined) return this.#notResumed(error);
    if (ABOUT_THE_TICKET.has(error.code)) return this.#wait(error);
    // A server that takes nothing else says so.
    if (error.code === 'ticket_required') this.#tickets = true;
    if (this.#tokenRefused || !ABOUT_THE_TOKEN.has(status)) return this.stop(error);
    this.#tokenRefused = true;
    return void this.#attempt();
  }

  /** @param {SignalingError} error */
  #notResumed(error) {
    // Another connection has this very peer: coming back would begin a war between the two. A page that only wanted its place is free to join.
    if (error.code === 'resume_replaced' && this.#proof.since !== undefined) {
      return this.stop(new SignalingError('replaced', error.message, { status: error.status }));
    }
    this.#handle.forget();
    return void this.#attempt();
  }

  /** Ends whatever attempt or connection there is, and returns the number of what begins. */
  #begin() {
    clearTimeout(this.#timer);
    clearTimeout(this.#goawayTimer);
    this.#keepalive.stop();
    this.#on.onDown();
    this.#link?.end();
    this.#link = null;
    this.#epoch += 1;
    return this.#epoch;
  }

  /** @param {SignalingError} error */
  #wait(error) {
    const held = this.#upAt !== null && Date.now() - this.#upAt >= HELD_MS;
    if (this.#upAt !== null) this.#lostAt = Date.now();
    this.#upAt = null;
    if (held) this.#backoff.reset();
    const mayResume = this.#handle.value !== null && Date.now() - this.#lostAt < RESUMABLE_MS;
    const floorMs = Math.max(error.retryMs ?? 0, this.#comeBackAt - Date.now(), 0);
    const retryInMs = held ? Math.round(floorMs + this.#random() * FIRST_MS) : this.#backoff.next(floorMs, mayResume ? RESUMABLE_CAP_MS : undefined);
    this.#timer = setTimeout(() => void this.#attempt(), retryInMs);
    this.#phase = 'waiting';
    this.#on.onWaiting(error, retryInMs);
  }

  #networkIsBack() {
    if (this.#phase === 'waiting' && Date.now() >= this.#comeBackAt) void this.#attempt();
    else if (this.#phase === 'up') this.#keepalive.probe();
  }
}
