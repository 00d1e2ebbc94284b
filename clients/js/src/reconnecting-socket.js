/**
 * Keeps one socket to the server open: chooses the credential, the time of the next attempt, and
 * when to stop (docs/PROTOCOL.md, sections 2, 6 and 7). Owns the attempts, their timers and the
 * resume handle. Does not interpret frames (see client.js).
 */
import { Backoff } from './backoff.js';
import { SESSION_GONE, SignalingError, TOKEN_EXPIRED, isRetryable, parseClose, toTokenError } from './codes.js';
import { fetchRefusal, signalAddress, ticketFor } from './http.js';
import { Keepalive } from './keepalive.js';
import { ResumeHandle } from './resume-handle.js';
import { SignalSocket } from './signal-socket.js';

/**
 * @typedef {import('./messages.js').ErrorFrame} ErrorFrame
 * @typedef {import('./signal-socket.js').SocketClose} SocketClose
 * @typedef {{ token: string, resume?: undefined, since?: undefined } |
 *   { token?: undefined, resume: string, since?: number }} Credential a handle without `since`
 *   takes over the peer
 *
 * @typedef {object} ConnectOptions see `ClientOptions` in client.js
 * @property {() => Promise<string> | string} getToken
 * @property {boolean} [ticket]
 * @property {string | URL} [url]
 * @property {typeof WebSocket} [WebSocket]
 * @property {typeof fetch} [fetch]
 * @property {() => number} [random]
 * @property {import('./resume-handle.js').HandleStorage | null} [handleStorage]
 *
 * @typedef {object} SocketCallbacks
 * @property {() => number} since the last entry of the mailbox that was read
 * @property {(text: unknown) => void} onText
 * @property {() => void} onDown the socket is closed, or a new one replaces it
 * @property {() => void} onConnecting
 * @property {(error: SignalingError, retryInMs: number) => void} onWaiting
 * @property {(error: SignalingError) => void} onStopped no attempt follows
 */

/** A connection that lasted this long was good; its loss resets the backoff. */
const STABLE_MS = 5_000;

/** The jitter of the first attempt after a good connection. */
const FIRST_JITTER_MS = 200;

/**
 * A server keeps a lost peer for its resume window, 30 s by default. During that time the waits
 * must be short, so that the client resumes soon after the server returns.
 */
const SHORT_WAITS_MS = 60_000;
const SHORT_WAITS_CAP_MS = 4_000;

/** HTTP statuses after which another token may succeed. */
const TOKEN_STATUSES = new Set([401, 403]);

/**
 * The ticket was used or has expired, for example because an answer was lost; its token is good.
 */
const TICKET_CODES = new Set(['ticket_used', 'ticket_invalid']);

export class ReconnectingSocket {
  /** @type {'idle' | 'connecting' | 'up' | 'waiting' | 'stopped'} */
  #phase = 'idle';
  /** @type {SignalSocket | null} */
  #socket = null;
  /** Grows with each attempt and each close: a result of an older attempt is ignored. */
  #attempt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retryTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #goawayTimer;
  /** When the server allows the reconnect after `goaway`. */
  #reconnectAt = 0;
  /** @type {number | null} */
  #upAt = null;
  /** When the last open connection was lost, or the client started. */
  #lostAt = 0;
  #tokenRefused = false;
  #usesTickets;
  /**
   * The last `error` without an id explains the close that follows it.
   *
   * @type {ErrorFrame | null}
   */
  #lastError = null;
  /** @type {Credential} */
  #credential = { token: '' };
  #options;
  #callbacks;
  #random;
  #backoff;
  #handle;
  #keepalive = new Keepalive({
    ping: () => this.send('{"type":"ping"}'),
    lost: () => this.drop('no_pong'),
  });
  #onOnline = () => this.#onNetworkReturned();

  /** @param {ConnectOptions} options @param {SocketCallbacks} callbacks */
  constructor(options, callbacks) {
    this.#options = options;
    this.#callbacks = callbacks;
    this.#random = options.random ?? Math.random;
    this.#usesTickets = options.ticket ?? false;
    this.#backoff = new Backoff({ random: options.random });
    this.#handle = new ResumeHandle(options.handleStorage);
  }

  start() {
    globalThis.addEventListener?.('online', this.#onOnline);
    this.#handle.open();
    this.#lostAt = Date.now();
    void this.#connect();
  }

  /** Closes the socket and makes no further attempt. @param {SignalingError} error */
  stop(error) {
    if (this.#phase === 'idle' || this.#phase === 'stopped') return;
    this.#endAttempt();
    this.#phase = 'stopped';
    this.#handle.close();
    globalThis.removeEventListener?.('online', this.#onOnline);
    this.#callbacks.onStopped(error);
  }

  /** @param {string} text */
  send(text) {
    this.#socket?.send(text);
  }

  /** Closes the socket and reconnects. @param {string} reason a code of `LOCAL_CODES` */
  drop(reason) {
    this.#socket?.drop(reason);
  }

  /**
   * `joined`, `resumed` or `waiting` arrived: the connection is open.
   *
   * @param {{ resume: string | null, pingInterval: number }} frame
   */
  markUp({ resume, pingInterval }) {
    this.#handle.renew(resume);
    this.#keepalive.start(pingInterval);
    if (this.#phase === 'up') return;
    this.#phase = 'up';
    this.#socket?.endDeadline();
    this.#upAt = Date.now();
    this.#reconnectAt = 0;
    this.#tokenRefused = false;
  }

  /** @param {string | null} resume the handle that belongs to a new token */
  setHandle(resume) {
    this.#handle.renew(resume);
  }

  /** @param {number} reconnectIn milliseconds, from a `goaway` */
  reconnectIn(reconnectIn) {
    this.#reconnectAt = Date.now() + reconnectIn;
    clearTimeout(this.#goawayTimer);
    this.#goawayTimer = setTimeout(() => this.drop('going_away'), reconnectIn);
  }

  /** @param {ErrorFrame} frame an `error` without an id */
  noteError(frame) {
    this.#lastError = frame;
  }

  async #connect() {
    const attempt = this.#endAttempt();
    this.#phase = 'connecting';
    this.#callbacks.onConnecting();
    try {
      const credential = this.#handleCredential() ?? { token: await this.#requestToken() };
      if (attempt === this.#attempt) this.#openSocket(credential);
    } catch (cause) {
      if (attempt === this.#attempt) this.#onNoCredential(cause);
    }
  }

  /** Returns a token, or a ticket for it. */
  async #requestToken() {
    const { getToken, url, fetch } = this.#options;
    const token = await getToken();
    return this.#usesTickets ? ticketFor({ url, token, fetch }) : token;
  }

  /** @returns {Credential | null} */
  #handleCredential() {
    const { value, takesOver } = this.#handle;
    if (value === null) return null;
    return { resume: value, since: takesOver ? undefined : this.#callbacks.since() };
  }

  /** @param {unknown} cause `getToken` failed, or its token cannot be part of a request */
  #onNoCredential(cause) {
    const error = toTokenError(cause);
    if (error.retryable) this.#scheduleRetry(error);
    else this.stop(error);
  }

  /** @param {Credential} credential */
  #openSocket(credential) {
    const { token, resume, since } = credential;
    this.#credential = credential;
    this.#lastError = null;
    this.#socket = new SignalSocket({
      address: signalAddress(this.#options.url, since),
      credential: resume === undefined ? `token.${token}` : `resume.${resume}`,
      WebSocket: this.#options.WebSocket ?? globalThis.WebSocket,
      onText: (text) => this.#onText(text),
      onClose: (close) => void this.#onClose(close),
    });
  }

  /** @param {unknown} text */
  #onText(text) {
    this.#keepalive.noteActivity();
    this.#callbacks.onText(text);
  }

  /** @param {SocketClose} close */
  async #onClose({ code, reason, opened }) {
    const attempt = this.#endAttempt();
    const { code: name, retryMs } = parseClose(code, reason);
    const message = this.#lastError?.code === name ? this.#lastError.message : undefined;
    const error = new SignalingError(name, message, { closeCode: code, retryMs });
    if (code === SESSION_GONE || code === TOKEN_EXPIRED) this.#handle.forget();
    if (opened) return isRetryable(code) ? this.#scheduleRetry(error) : this.stop(error);
    const { token, resume } = this.#credential;
    const refusal = await fetchRefusal({ url: this.#options.url, token, resume, fetch: this.#options.fetch });
    // Without a refusal the network failed, or the server accepts the credential now: try again.
    if (attempt === this.#attempt) this.#onUpgradeRefused(refusal ?? error);
  }

  /** @param {SignalingError} error */
  #onUpgradeRefused(error) {
    const { status } = error;
    // A proxy answers 404 while its server is down. Other final statuses will not change.
    if (status === undefined || error.retryable || status === 404) return this.#scheduleRetry(error);
    if (this.#credential.resume !== undefined) return this.#onResumeRefused(error);
    if (TICKET_CODES.has(error.code)) return this.#scheduleRetry(error);
    if (error.code === 'ticket_required') this.#usesTickets = true;
    if (this.#tokenRefused || !TOKEN_STATUSES.has(status)) return this.stop(error);
    this.#tokenRefused = true;
    return void this.#connect();
  }

  /** @param {SignalingError} error */
  #onResumeRefused(error) {
    // Another connection owns this peer, and two clients must not take it from each other for ever.
    // A page that only wanted to take over an earlier page may join as a new peer.
    if (error.code === 'resume_replaced' && this.#credential.since !== undefined) {
      return this.stop(new SignalingError('replaced', error.message, { status: error.status }));
    }
    this.#handle.forget();
    return void this.#connect();
  }

  /** Ends the current attempt or connection, and returns the number of the next attempt. */
  #endAttempt() {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#goawayTimer);
    this.#keepalive.stop();
    this.#callbacks.onDown();
    this.#socket?.close();
    this.#socket = null;
    this.#attempt += 1;
    return this.#attempt;
  }

  /** @param {SignalingError} error */
  #scheduleRetry(error) {
    const wasStable = this.#upAt !== null && Date.now() - this.#upAt >= STABLE_MS;
    if (this.#upAt !== null) this.#lostAt = Date.now();
    this.#upAt = null;
    if (wasStable) this.#backoff.reset();
    const mayResume = this.#handle.value !== null && Date.now() - this.#lostAt < SHORT_WAITS_MS;
    const floorMs = Math.max(error.retryMs ?? 0, this.#reconnectAt - Date.now(), 0);
    const retryInMs = wasStable
      ? Math.round(floorMs + this.#random() * FIRST_JITTER_MS)
      : this.#backoff.next(floorMs, mayResume ? SHORT_WAITS_CAP_MS : undefined);
    this.#retryTimer = setTimeout(() => void this.#connect(), retryInMs);
    this.#phase = 'waiting';
    this.#callbacks.onWaiting(error, retryInMs);
  }

  #onNetworkReturned() {
    if (this.#phase === 'waiting' && Date.now() >= this.#reconnectAt) void this.#connect();
    else if (this.#phase === 'up') this.#keepalive.probe();
  }
}
