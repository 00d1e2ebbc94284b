/**
 * Renews the token of an open connection: when the server announces its end, requests a new token
 * and sends it. Owns the attempts, their timers and the pending answer. Does not know the source of
 * tokens (see token-source.js) or the effects of a new one (see client.js).
 *
 * A `refresh` frame has no id and does not wait in the send queue, because it must not wait for an
 * unavailable store. The server answers it with `token-refreshed`.
 */
import { Backoff } from './backoff.js';
import { SignalingError, toTokenError } from './codes.js';

/** The server answers a `refresh` at once, or never. */
const ANSWER_MS = 10_000;

/** All attempts fall into the last quarter of the token's life, which is at most a minute. */
const RETRY_BACKOFF = { baseMs: 1_000, capMs: 8_000 };

export class TokenRenewal {
  /** Grows with each renewal and each lost connection: a result of an older round is ignored. */
  #round = 0;
  #expiresAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {{ resolve: () => void, reject: (error: SignalingError) => void } | null} */
  #answer = null;
  /** One `refresh` at a time: the server refuses a second one. @type {Promise<void>} */
  #lastRefresh = Promise.resolve();
  #getToken;
  #send;
  #onFailed;
  #backoff;

  /**
   * @param {{
   *   getToken: () => Promise<string> | string, send: (text: string) => void,
   *   onFailed: (error: SignalingError) => void, random?: () => number,
   * }} options `onFailed` is called for each failed attempt, even if another attempt follows
   */
  constructor({ getToken, send, onFailed, random }) {
    this.#getToken = getToken;
    this.#send = send;
    this.#onFailed = onFailed;
    this.#backoff = new Backoff({ ...RETRY_BACKOFF, random });
  }

  /** @param {number} expiresIn the rest of the token's life in milliseconds */
  start(expiresIn) {
    clearTimeout(this.#timer);
    this.#round += 1;
    this.#expiresAt = performance.now() + expiresIn;
    this.#backoff.reset();
    void this.#renew();
  }

  /**
   * Sends a token to the server.
   *
   * @param {string} token
   * @returns {Promise<void>} settles with the answer of the server
   */
  refresh(token) {
    const round = this.#round;
    const refreshed = this.#lastRefresh.then(() => (round === this.#round ? this.#sendRefresh(token) : Promise.reject(connectionLost())));
    this.#lastRefresh = refreshed.catch(() => {});
    return refreshed;
  }

  /** The server sent `token-refreshed`. */
  onRefreshed() {
    this.#answer?.resolve();
  }

  /**
   * The server sent an `error` without an id.
   *
   * @param {SignalingError} error
   * @returns {boolean} whether it answers the pending `refresh`
   */
  onError(error) {
    if (!this.#answer || (error.code !== 'bad_token' && error.field !== 'token')) return false;
    this.#answer.reject(error);
    return true;
  }

  /** The connection is lost; the next connection announces the end of its own token. */
  stop() {
    clearTimeout(this.#timer);
    this.#round += 1;
    this.#answer?.reject(connectionLost());
  }

  async #renew() {
    const round = this.#round;
    try {
      const token = await this.#getToken();
      if (round === this.#round) await this.refresh(token);
    } catch (cause) {
      if (round === this.#round) this.#onAttemptFailed(toTokenError(cause));
    }
  }

  /** @param {SignalingError} error */
  #onAttemptFailed(error) {
    this.#onFailed(error);
    // After a rejected token, another token may be good. A final refusal to issue one stays final.
    if (!error.retryable && error.code !== 'bad_token') return;
    const waitMs = this.#backoff.next(error.retryMs);
    if (performance.now() + waitMs < this.#expiresAt) this.#timer = setTimeout(() => void this.#renew(), waitMs);
  }

  /** @param {string} token @returns {Promise<void>} */
  #sendRefresh(token) {
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let deadline;
    const answered = new Promise((/** @type {(value?: undefined) => void} */ resolve, reject) => {
      this.#answer = { resolve, reject };
      deadline = setTimeout(() => reject(new SignalingError('no_answer', 'The server did not answer the new token.')), ANSWER_MS);
      this.#send(JSON.stringify({ type: 'refresh', token }));
    });
    return answered.finally(() => {
      clearTimeout(deadline);
      this.#answer = null;
    });
  }
}

function connectionLost() {
  return new SignalingError('lost', 'The connection was lost before the server accepted the token.');
}
