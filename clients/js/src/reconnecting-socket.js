/**
 * Keeps one socket to the server open: chooses the credential, the time of the next attempt, and
 * when to stop (docs/PROTOCOL.md, sections 2, 6 and 7). Owns the attempts, their timers and the
 * resume handle. Does not interpret frames (see client.js).
 */
import { Backoff } from './backoff.js';
import { SESSION_GONE, SignalingError, TOKEN_EXPIRED, isRetryable, parseClose, toTokenError } from './signaling-error.js';
import { fetchRefusal, signalAddress } from './http.js';
import { Keepalive } from './keepalive.js';
import { watchPage } from './page-events.js';
import { ResumeHandle } from './resume-handle.js';
import { SignalSocket } from './signal-socket.js';

/**
 * @typedef {import('./messages.js').ErrorFrame} ErrorFrame
 * @typedef {{ token: string, resume?: undefined, since?: undefined } |
 *   { token?: undefined, resume: string, since?: number }} Credential a handle without `since`
 *   takes over the peer
 *
 * @typedef {object} ConnectOptions see `ClientOptions` in client.js
 * @property {() => Promise<string> | string} getToken
 * @property {import('./client.js').GetTicket} [getTicket]
 * @property {string | URL} [url]
 * @property {typeof WebSocket} WebSocket
 * @property {typeof fetch} fetch
 * @property {import('./resume-handle.js').HandleStorage | null} [handleStorage]
 *
 * @typedef {object} SocketCallbacks
 * @property {() => number} since the last entry of the mailbox that was read
 * @property {(text: string) => void} onText
 * @property {() => void} onDown the socket is closed, or a new one replaces it
 * @property {(state: 'connecting' | 'waiting' | 'paused', details?: { error: SignalingError,
 *   retryInMs: number }) => void} onState
 * @property {(error: SignalingError) => void} onStopped no attempt follows
 */

const SUBPROTOCOL = 'signalbox.v1';

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

/**
 * How long tokens may stay without a verdict of the server. A client that was connected before has
 * a good address and an allowed origin, so its server is probably down for a while.
 */
const FIRST_PATIENCE_MS = 15_000;
const PATIENCE_MS = 60_000;

/** After a sleep, an attempt that is older than this probably waits for a dead network. */
const WAKE_ATTEMPT_MS = 1_000;

/** HTTP statuses after which another token may succeed. */
const TOKEN_STATUSES = [401, 403];

/**
 * The ticket was used or has expired, for example because an answer was lost; its token is good.
 */
const TICKET_CODES = ['ticket_used', 'ticket_invalid'];

export class ReconnectingSocket {
  /** @type {'idle' | 'connecting' | 'up' | 'waiting' | 'paused' | 'stopped'} */
  #phase = 'idle';
  /** @type {SignalSocket | null} */
  #socket = null;
  /** Grows with each attempt and each close: a result of an older attempt is ignored. */
  #attempt = 0;
  /** Until the next attempt, or until the reconnect after `goaway`. @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** When the server allows the reconnect after `goaway`. */
  #reconnectAt = 0;
  /** @type {number | null} */
  #upAt = null;
  /** When the last open connection was lost, or the client started. */
  #lostAt = 0;
  /** When the current attempt began, or its socket began to open. */
  #attemptAt = 0;
  #connectMs = 0;
  #wasUp = false;
  /** When tokens began to stay without a verdict; 0 after a verdict. */
  #noVerdictAt = 0;
  #tokenRefused = false;
  /** The option, as soon as the server has asked for a ticket. @type {import('./client.js').GetTicket | undefined} */
  #getTicket;
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
  #backoff = new Backoff();
  #handle;
  #keepalive = new Keepalive({
    ping: () => this.send('{"type":"ping"}'),
    lost: () => this.drop('no_pong'),
  });
  #stopWatching = () => {};
  #isPageClosing = false;

  /** @param {ConnectOptions} options @param {SocketCallbacks} callbacks */
  constructor(options, callbacks) {
    this.#options = options;
    this.#callbacks = callbacks;
    this.#handle = new ResumeHandle(options.handleStorage);
  }

  start() {
    this.#handle.open();
    this.#lostAt = performance.now();
    this.#begin();
  }

  /** Closes the socket; no timer and no attempt follows until {@link resume}. */
  pause() {
    if (this.#phase === 'idle' || this.#phase === 'stopped') return;
    this.#endAttempt();
    this.#noteLoss();
    this.#phase = 'paused';
    this.#stopWatching();
    this.#callbacks.onState('paused');
  }

  resume() {
    if (this.#phase === 'paused') this.#begin();
  }

  #begin() {
    const onWake = () => {
      this.#isPageClosing = false;
      this.#handle.remove();
      this.wake();
    };
    const onHide = () => {
      this.#isPageClosing = true;
      this.#handle.store();
      this.send('{"type":"going"}');
    };
    this.#stopWatching = watchPage(onWake, onHide);
    this.#backoff.reset();
    void this.#connect();
  }

  /** Closes the socket and makes no further attempt. @param {SignalingError} error */
  stop(error) {
    if (this.#phase === 'idle' || this.#phase === 'stopped') return;
    this.#endAttempt();
    this.#phase = 'stopped';
    this.#handle.renew(null);
    this.#handle.remove();
    this.#stopWatching();
    this.#callbacks.onStopped(error);
  }

  /**
   * As {@link stop}, and tells the server that this peer has left, also if the socket is only
   * opening or lost.
   *
   * @param {SignalingError} error
   */
  leave(error) {
    const socket = this.#socket;
    const resume = this.#handle.value;
    this.#socket = null; // the announcement closes it
    this.stop(error);
    if (socket || resume !== null) void this.#announceLeave(socket, resume);
  }

  /**
   * Sends `leave` on the socket. Without a socket, or if it is dead, resumes and sends it then, for
   * as long as the server keeps the peer. A page that closes cannot: its new socket would close
   * without a word, and the server would keep the peer.
   *
   * @param {SignalSocket | null} socket
   * @param {string | null} resume
   */
  async #announceLeave(socket, resume) {
    const end = performance.now() + this.#handle.windowMs;
    this.#backoff.reset();
    while (!(await socket?.leave()) && !this.#isPageClosing && resume !== null && performance.now() < end) {
      if (socket) {
        const { status, retryable } = await fetchRefusal(this.#options, { resume });
        if (status !== undefined && !retryable) return;
        await new Promise((resolve) => setTimeout(resolve, this.#backoff.next(0, SHORT_WAITS_CAP_MS)));
      }
      socket = this.#createSocket({ resume, since: this.#callbacks.since() }, () => {}, () => {});
    }
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
   * @param {{ resume: string | null, pingInterval: number, resumeWindow?: number }} frame
   */
  markUp({ resume, pingInterval, resumeWindow }) {
    this.#handle.renew(resume, resumeWindow);
    this.#keepalive.start(pingInterval);
    if (this.#phase === 'up') return;
    this.#phase = 'up';
    this.#socket?.endDeadline();
    this.#upAt = performance.now();
    this.#connectMs = this.#upAt - this.#attemptAt;
    this.#wasUp = true;
    this.#reconnectAt = 0;
    this.#noVerdictAt = 0;
    this.#tokenRefused = false;
  }

  /** @param {string | null} resume the handle that belongs to a new token */
  setHandle(resume) {
    this.#handle.renew(resume);
  }

  /** @param {number} reconnectIn milliseconds, from a `goaway` */
  reconnectIn(reconnectIn) {
    this.#reconnectAt = performance.now() + reconnectIn;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.drop('going_away'), reconnectIn);
  }

  /** @param {ErrorFrame} frame an `error` without an id */
  noteError(frame) {
    this.#lastError = frame;
  }

  async #connect() {
    const attempt = this.#endAttempt();
    this.#phase = 'connecting';
    this.#attemptAt = performance.now();
    this.#callbacks.onState('connecting');
    try {
      let credential = this.#handleCredential();
      if (!credential) {
        const token = await this.#options.getToken();
        credential = { token: this.#getTicket ? await this.#getTicket({ ...this.#options, token }) : token };
      }
      if (attempt === this.#attempt) this.#openSocket(credential);
    } catch (cause) {
      if (attempt === this.#attempt) this.#onNoCredential(cause);
    }
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
    if (error.code === 'unreadable') this.#retryWithoutVerdict(error);
    else if (error.retryable) this.#scheduleRetry(error);
    else this.stop(error);
  }

  /** @param {Credential} credential */
  #openSocket(credential) {
    this.#credential = credential;
    this.#attemptAt = performance.now();
    this.#lastError = null;
    this.#socket = this.#createSocket(credential, (text) => this.#onText(text), (...close) => void this.#onClose(...close));
  }

  /**
   * @param {Credential} credential
   * @param {(text: string) => void} onText
   * @param {import('./signal-socket.js').OnClose} onClose
   */
  #createSocket({ token, resume, since }, onText, onClose) {
    const { url, WebSocket } = this.#options;
    // A token or handle must not be in the address, because servers log addresses.
    const credential = resume ? `resume.${resume}` : `token.${token}`;
    return new SignalSocket(new WebSocket(signalAddress(url, since), [SUBPROTOCOL, credential]), onText, onClose);
  }

  /** @param {string} text */
  #onText(text) {
    this.#keepalive.noteActivity();
    this.#callbacks.onText(text);
  }

  /** @type {import('./signal-socket.js').OnClose} */
  async #onClose(code, reason, opened) {
    const attempt = this.#endAttempt();
    const { code: name, retryMs } = parseClose(code, reason);
    const message = this.#lastError?.code === name ? this.#lastError.message : undefined;
    const error = new SignalingError(name, message, { closeCode: code, retryMs });
    if (code === SESSION_GONE || code === TOKEN_EXPIRED) this.#handle.renew(null);
    if (opened && this.#upAt === null && code < 4000) return this.#onNoVerdict(error);
    if (opened) return isRetryable(code) ? this.#scheduleRetry(error) : this.stop(error);
    const refusal = await fetchRefusal(this.#options, this.#credential);
    if (attempt === this.#attempt) this.#onUpgradeRefused(refusal);
  }

  /** @param {SignalingError} error */
  #onUpgradeRefused(error) {
    const { status } = error;
    if (status === undefined) return this.#onNoVerdict(error);
    this.#noVerdictAt = 0;
    if (error.retryable) return this.#scheduleRetry(error);
    if (this.#credential.resume !== undefined) return this.#onResumeRefused(error);
    if (TICKET_CODES.includes(error.code)) return this.#scheduleRetry(error);
    if (error.code === 'ticket_required') this.#getTicket = this.#options.getTicket;
    if (this.#tokenRefused || !TOKEN_STATUSES.includes(status)) return this.stop(error);
    this.#tokenRefused = true;
    return void this.#connect();
  }

  /**
   * No verdict on the credential can be read. After the resume window a handle is void in any case.
   *
   * @param {SignalingError} error
   */
  #onNoVerdict(error) {
    if (this.#credential.resume === undefined) return this.#retryWithoutVerdict(error);
    if (performance.now() - this.#lostAt < this.#handle.windowMs) return this.#scheduleRetry(error);
    this.#handle.renew(null);
    return void this.#connect();
  }

  /**
   * No verdict on a token can be read, so it may be refused each time. No answer at all after an
   * open connection is an outage, which may last.
   *
   * @param {SignalingError} error
   */
  #retryWithoutVerdict(error) {
    this.#noVerdictAt ||= performance.now();
    const isOutage = this.#wasUp && error.code !== 'unreadable' && error.code !== 'no_upgrade';
    const patienceMs = this.#wasUp ? PATIENCE_MS : FIRST_PATIENCE_MS;
    if (isOutage || performance.now() - this.#noVerdictAt < patienceMs) this.#scheduleRetry(error);
    else this.stop(error);
  }

  /** @param {SignalingError} error */
  #onResumeRefused(error) {
    // Another connection owns this peer, and two clients must not take it from each other for ever.
    // A page that only wanted to take over an earlier page may join as a new peer.
    if (error.code === 'resume_replaced' && this.#credential.since !== undefined) {
      return this.stop(new SignalingError('replaced', error.message, { status: error.status }));
    }
    this.#handle.renew(null);
    return void this.#connect();
  }

  /** Ends the current attempt or connection, and returns the number of the next attempt. */
  #endAttempt() {
    clearTimeout(this.#timer);
    this.#keepalive.stop();
    this.#callbacks.onDown();
    this.#socket?.close();
    this.#socket = null;
    this.#attempt += 1;
    return this.#attempt;
  }

  /** The connection was open, and is lost. */
  #noteLoss() {
    if (this.#upAt !== null) this.#lostAt = performance.now();
    this.#upAt = null;
  }

  /** @param {SignalingError} error */
  #scheduleRetry(error) {
    const wasStable = this.#upAt !== null && performance.now() - this.#upAt >= STABLE_MS;
    this.#noteLoss();
    const mayResume = this.#handle.value !== null && performance.now() - this.#lostAt < SHORT_WAITS_MS;
    const floorMs = Math.max(error.retryMs ?? 0, this.#reconnectAt - performance.now(), 0);
    if (wasStable) this.#backoff.reset();
    const retryInMs = this.#backoff.next(floorMs, wasStable ? FIRST_JITTER_MS : mayResume ? SHORT_WAITS_CAP_MS : undefined);
    if (wasStable) this.#backoff.reset();
    this.#timer = setTimeout(() => void this.#connect(), retryInMs);
    this.#phase = 'waiting';
    this.#callbacks.onState('waiting', { error, retryInMs });
  }

  /** The page woke up, or the network has changed: the socket may be dead. */
  wake() {
    if (this.#phase === 'up') return this.#keepalive.wake(this.#connectMs);
    const isStuck = this.#phase === 'connecting' && performance.now() - this.#attemptAt >= WAKE_ATTEMPT_MS;
    if ((this.#phase !== 'waiting' && !isStuck) || performance.now() < this.#reconnectAt) return;
    this.#noVerdictAt = 0;
    this.#backoff.reset();
    void this.#connect();
  }
}
