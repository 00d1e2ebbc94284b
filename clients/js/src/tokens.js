/**
 * Where tokens come from: a refresh token that is used up and replaced with every use, or the server's own answer to a guest or an invite; and
 * tickets, which are worth nothing once they were used. Owns the refresh token, in memory and nowhere else; must not know connections.
 */
import { SignalingError } from './codes.js';
import { askForGrant, guestToken } from './http.js';

/**
 * @typedef {import('./http.js').Grant} Grant
 *
 * @typedef {object} TokenSourceOptions
 * @property {string | URL} [url] of the server; the page's own origin where absent
 * @property {() => Promise<Grant> | Grant} [grant] the application's backend: a token and, for what follows, a refresh token. It is asked at
 *   first, and again when the refresh token is worth nothing any more
 * @property {string} [room] where there is no `grant`: what is asked of the server itself, as a guest or with an invite
 * @property {string} [user]
 * @property {string} [name]
 * @property {string} [invite] takes the place of the room
 * @property {typeof fetch} [fetch]
 */

/**
 * The server gives the same answer to the same refresh token for 10 s, because answers are lost on phones. Later the same token counts as
 * stolen, and everything that came from it is taken back, the running call too. So an answer that did not come is asked for again within this
 * time, and not after it.
 */
const REPEAT_MS = 8_000;

/** So that there is time for a repetition. */
const ANSWER_MS = 3_500;

/**
 * A `getToken` for a client: a new token at every call, however many ask at once.
 *
 * @param {TokenSourceOptions} options
 * @returns {() => Promise<string>} rejected with a {@link SignalingError}
 */
export function tokenSource(options) {
  const source = new TokenSource(options);
  return () => source.next();
}

class TokenSource {
  /** @type {string | undefined} */
  #refreshToken;
  /** When the refresh token was first used without an answer. */
  #usedAt = 0;
  /** @type {Promise<string> | null} */
  #flight = null;
  #options;

  /** @param {TokenSourceOptions} options */
  constructor(options) {
    this.#options = options;
  }

  next() {
    this.#flight ??= this.#fetch().finally(() => (this.#flight = null));
    return this.#flight;
  }

  async #fetch() {
    const grant = (await this.#refreshed()) ?? (await this.#begin());
    if (typeof grant?.token !== 'string') throw new SignalingError('no_token', 'What was asked for a token gave none.');
    this.#keep(grant.refreshToken);
    return grant.token;
  }

  /** @param {string} [refreshToken] @returns {undefined} */
  #keep(refreshToken) {
    this.#refreshToken = refreshToken;
    this.#usedAt = 0;
  }

  async #begin() {
    const { grant, url, room, user, name, invite, fetch } = this.#options;
    if (grant) return grant();
    if (room === undefined && invite === undefined) throw new SignalingError('no_token', 'There is nobody to ask for a token.');
    if (invite === undefined) return { token: await guestToken({ url, room: room ?? '', user, name, fetch }) };
    return askForGrant({ url, path: 'auth/token', body: { invite, user, name, refresh: true }, fetch });
  }

  /** @returns {Promise<Grant | undefined>} nothing where the refresh token is worth nothing any more */
  async #refreshed() {
    const refreshToken = this.#refreshToken;
    if (refreshToken === undefined) return undefined;
    for (;;) {
      this.#usedAt ||= Date.now();
      if (Date.now() - this.#usedAt > REPEAT_MS) return this.#keep();
      try {
        return await askForGrant({ ...this.#options, path: 'auth/refresh', body: { refreshToken }, deadlineMs: ANSWER_MS });
      } catch (error) {
        const { code, status } = /** @type {SignalingError} */ (error);
        if (status === 401) return this.#keep();
        // An answer that says something has not used the token up.
        if (code !== 'unreachable') this.#usedAt = 0;
        if (code !== 'unreachable' || Date.now() - this.#usedAt > REPEAT_MS - ANSWER_MS) throw error;
        await new Promise((resolve) => setTimeout(resolve, 500));
      }
    }
  }
}
