/**
 * Keeps the token of an open connection young: when the server says that it ends, another one is asked for and shown. Owns the attempts, their
 * timers and the one answer that is waited for; must not know where tokens come from (see tokens.js) nor what follows from them (see
 * client.js).
 *
 * A `refresh` goes past the queue of sends and without an id: it must not wait for a store that is away, and is answered by `token-refreshed`.
 */
import { Backoff } from './backoff.js';
import { SignalingError, toTokenError } from './codes.js';

/** The server answers a `refresh` at once, or not at all. */
const ANSWER_MS = 10_000;

/** Between attempts; the last quarter of a token's life, in which all of them fall, is a minute at most. */
const AGAIN = { baseMs: 1_000, capMs: 8_000 };

export class Renewal {
  /** Grows with every end: what an older attempt still awaits is void. */
  #round = 0;
  #endsAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {{ resolve: () => void, reject: (error: SignalingError) => void } | null} */
  #answer = null;
  /** One at a time: the server refuses a second one until the first is through. @type {Promise<void>} */
  #last = Promise.resolve();
  #getToken;
  #send;
  #onFailed;
  #backoff;

  /**
   * @param {{
   *   getToken: () => Promise<string> | string, send: (text: string) => void,
   *   onFailed: (error: SignalingError) => void, random?: () => number,
   * }} options `onFailed` hears of every attempt that failed, also where another one follows
   */
  constructor({ getToken, send, onFailed, random }) {
    this.#getToken = getToken;
    this.#send = send;
    this.#onFailed = onFailed;
    this.#backoff = new Backoff({ ...AGAIN, random });
  }

  /** The token's life is over after so many milliseconds. @param {number} expiresIn */
  expiring(expiresIn) {
    clearTimeout(this.#timer);
    this.#round += 1;
    this.#endsAt = Date.now() + expiresIn;
    this.#backoff.reset();
    void this.#renew();
  }

  /**
   * Shows a token to the server.
   *
   * @param {string} token
   * @returns {Promise<void>} settles with the server's answer
   */
  show(token) {
    const round = this.#round;
    const shown = this.#last.then(() => (round === this.#round ? this.#ask(token) : Promise.reject(lost())));
    this.#last = shown.catch(() => {});
    return shown;
  }

  /** `token-refreshed` came. */
  refreshed() {
    this.#answer?.resolve();
  }

  /**
   * An `error` without an id came.
   *
   * @param {SignalingError} error
   * @returns {boolean} whether it was about the token that was shown
   */
  refused(error) {
    if (!this.#answer || (error.code !== 'bad_token' && error.field !== 'token')) return false;
    this.#answer.reject(error);
    return true;
  }

  /** The connection is gone; the next one says by itself when its token ends. */
  stop() {
    clearTimeout(this.#timer);
    this.#round += 1;
    this.#answer?.reject(lost());
  }

  async #renew() {
    const round = this.#round;
    try {
      const token = await this.#getToken();
      if (round === this.#round) await this.show(token);
    } catch (cause) {
      if (round === this.#round) this.#failed(toTokenError(cause));
    }
  }

  /** @param {SignalingError} error */
  #failed(error) {
    this.#onFailed(error);
    // Another token may be better than one that was refused; who is refused a token has no better one to hope for.
    if (!error.retryable && error.code !== 'bad_token') return;
    const waitMs = this.#backoff.next(error.retryMs);
    if (Date.now() + waitMs < this.#endsAt) this.#timer = setTimeout(() => void this.#renew(), waitMs);
  }

  /** @param {string} token @returns {Promise<void>} */
  #ask(token) {
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let deadline;
    const answered = new Promise((/** @type {(value?: undefined) => void} */ resolve, reject) => {
      this.#answer = { resolve, reject };
      deadline = setTimeout(() => reject(new SignalingError('no_answer', 'The server said nothing to the new token.')), ANSWER_MS);
      this.#send(JSON.stringify({ type: 'refresh', token }));
    });
    return answered.finally(() => {
      clearTimeout(deadline);
      this.#answer = null;
    });
  }
}

function lost() {
  return new SignalingError('lost', 'The connection was lost before the server had taken the token.');
}
