/**
 * Renews the token of an open connection: when the server announces its end, requests a new token
 * and sends it. Owns the attempts, their timers and the pending answer. Does not know the source of
 * tokens (see token-source.js) or the effects of a new one (see client.js).
 *
 * A `refresh` frame has no id and does not wait in the send queue, because it must not wait for an
 * unavailable store. The server answers it with `token-refreshed`.
 */
import { Backoff } from './backoff.js';
import { SignalingError, toTokenError } from './signaling-error.js';

/** The server answers a `refresh` at once, or never. */
const ANSWER_MS = 10_000;

/** All attempts fall into the last quarter of the token's life, which is at most a minute. */
const RETRY_BASE_MS = 1_000;
const RETRY_CAP_MS = 8_000;

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
  #backoff = new Backoff(RETRY_BASE_MS, RETRY_CAP_MS);

  /**
   * @param {() => Promise<string> | string} getToken
   * @param {(text: string) => void} send
   * @param {(error: SignalingError) => void} onFailed called for each failed attempt, even if another
   *   attempt follows
   */
  constructor(getToken, send, onFailed) {
    this.#getToken = getToken;
    this.#send = send;
    this.#onFailed = onFailed;
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
    return (this.#lastRefresh = this.#lastRefresh.catch(() => {}).then(() => this.#sendRefresh(token, round)));
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
    const isAnswer = this.#answer !== null && (error.code === 'bad_token' || error.field === 'token');
    if (isAnswer) this.#answer?.reject(error);
    return isAnswer;
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
    const waitMs = this.#backoff.next(error.retryMs);
    // After a rejected token, another token may be good. A final refusal to issue one stays final.
    const mayRetry = error.retryable || error.code === 'bad_token';
    if (mayRetry && performance.now() + waitMs < this.#expiresAt) this.#timer = setTimeout(() => void this.#renew(), waitMs);
  }

  /** @param {string} token @param {number} round @returns {Promise<void>} */
  async #sendRefresh(token, round) {
    if (round !== this.#round) throw connectionLost();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let deadline;
    try {
      await new Promise((/** @type {(value?: undefined) => void} */ resolve, reject) => {
        this.#answer = { resolve, reject };
        deadline = setTimeout(() => reject(new SignalingError('no_answer', 'The server did not answer.')), ANSWER_MS);
        this.#send(JSON.stringify({ type: 'refresh', token }));
      });
    } finally {
      clearTimeout(deadline);
      this.#answer = null;
    }
  }
}

/** There is no connection on which the server could accept a token. */
export function connectionLost() {
  return new SignalingError('lost', 'There is no open connection.');
}
