/**
 * Creates `getToken` functions: with a refresh token, which each use replaces, or with a request of
 * a guest, an invite, or a user with a token of an identity provider. Owns the refresh token and keeps it in memory only. Does not know
 * connections.
 */
import { SignalingError } from './signaling-error.js';
import { guestToken, jsonRequest, request } from './http.js';

/**
 * @typedef {import('./http.js').Grant} Grant
 *
 * @typedef {object} TokenSourceOptions
 * @property {string | URL} [url] of the server; default: the origin of the page
 * @property {() => Promise<Grant> | Grant} [grant] asks your backend for a token and a refresh
 *   token; called first, and again when the refresh token is no longer valid
 * @property {(() => Promise<string> | string) | string} [userToken] instead of `grant`, with `room`:
 *   an ID or access token of your identity provider, or a function that returns a current one
 * @property {string} [room] without `grant`: the room of a guest, or of the user of `userToken`
 * @property {string} [user]
 * @property {string} [name]
 * @property {string} [invite] instead of `room`: an invite code
 * @property {typeof fetch} [fetch]
 */

/**
 * Phones lose answers, so the server repeats its answer to the same refresh token for 10 s. After
 * that, a repeated refresh token counts as stolen, and the server revokes the whole refresh family,
 * which ends the call. So this client repeats a request within this time only.
 */
const REPEAT_MS = 8_000;

/** Short enough to leave time for a second request. */
const ANSWER_MS = 3_500;

/**
 * Creates a `getToken` for a client. Each call returns a new token; calls at the same time share
 * one request.
 *
 * @param {TokenSourceOptions} options
 * @returns {() => Promise<string>} rejected with a {@link SignalingError}
 */
export function tokenSource(options) {
  const source = new TokenSource(options);
  return () => source.getToken();
}

class TokenSource {
  /** @type {string | undefined} */
  #refreshToken;
  /**
   * When the refresh token was first sent without an answer. It must not be sent late, so the clock
   * counts that says more: one of them may stop while the machine sleeps, and the other may jump.
   *
   * @type {[monotonic: number, wall: number] | null}
   */
  #sentAt = null;
  /** @type {Promise<string> | null} */
  #request = null;
  #options;

  /** @param {TokenSourceOptions} options */
  constructor(options) {
    this.#options = options;
  }

  getToken() {
    this.#request ??= this.#fetch().finally(() => (this.#request = null));
    return this.#request;
  }

  async #fetch() {
    const grant = (await this.#refresh()) ?? (await this.#firstGrant());
    if (typeof grant?.token !== 'string') throw new SignalingError('no_token', 'The answer contains no token.');
    this.#setRefreshToken(grant.refreshToken);
    return grant.token;
  }

  /** @param {string} [refreshToken] @returns {undefined} */
  #setRefreshToken(refreshToken) {
    this.#refreshToken = refreshToken;
    this.#sentAt = null;
  }

  async #firstGrant() {
    const { grant, userToken, url, room, user, name, invite, fetch } = this.#options;
    if (grant) return grant();
    if (userToken !== undefined) return this.#exchange(userToken);
    if (room === undefined && invite === undefined) throw new SignalingError('no_token', 'Set grant, userToken, room or invite.');
    if (invite === undefined) return { token: await guestToken({ url, fetch, room: room ?? '', user, name }) };
    return requestGrant({ url, fetch }, 'auth/token', { invite, user, name, refresh: true });
  }

  /** @param {NonNullable<TokenSourceOptions['userToken']>} userToken */
  async #exchange(userToken) {
    const { url, room, name, fetch } = this.#options;
    if (room === undefined) throw new SignalingError('no_token', 'Set room: userToken gives a token for one room.');
    const provided = typeof userToken === 'function' ? await userToken() : userToken;
    const { token } = await requestGrant({ url, fetch }, 'auth/exchange', { token: provided });
    const path = `api/rooms/${encodeURIComponent(room)}/join`;
    return requestGrant({ url, fetch }, path, { name, refresh: true }, { token });
  }

  #waitedMs() {
    const [monotonic, wall] = this.#sentAt ?? [performance.now(), Date.now()];
    return Math.max(performance.now() - monotonic, Date.now() - wall);
  }

  /** @returns {Promise<Grant | undefined>} undefined without a valid refresh token */
  async #refresh() {
    const refreshToken = this.#refreshToken;
    if (refreshToken === undefined) return undefined;
    for (;;) {
      this.#sentAt ??= [performance.now(), Date.now()];
      if (this.#waitedMs() > REPEAT_MS) return this.#setRefreshToken();
      try {
        const { url, fetch } = this.#options;
        return await requestGrant({ url, fetch }, 'auth/refresh', { refreshToken }, { deadlineMs: ANSWER_MS });
      } catch (error) {
        const { status } = /** @type {SignalingError} */ (error);
        if (status === 401) return this.#setRefreshToken();
        // The server answered with an error, so it did not use the refresh token.
        if (status !== undefined) this.#sentAt = null;
        if (status !== undefined || this.#waitedMs() > REPEAT_MS - ANSWER_MS) throw error;
        await new Promise((resolve) => setTimeout(resolve, 500));
      }
    }
  }
}

/**
 * Exchanges a token for a ticket, which opens one connection within half a minute: a value for the
 * option `getTicket`.
 *
 * @param {import('./http.js').Server & { token: string }} options
 * @returns {Promise<string>} rejected with a {@link SignalingError}
 */
export async function ticketFor({ token, ...server }) {
  const { ticket } = await request(server, 'auth/ticket', 'ticket', { method: 'POST', headers: { Authorization: `Bearer ${token}` } });
  return ticket;
}

/**
 * `POST /auth/token` or another endpoint that answers with a token.
 *
 * @param {import('./http.js').Server} server
 * @param {string} path
 * @param {Record<string, unknown>} body
 * @param {{ token?: string, deadlineMs?: number }} [options] `token`: of the caller
 * @returns {Promise<Grant>}
 */
function requestGrant(server, path, body, { token, deadlineMs } = {}) {
  const init = jsonRequest(body);
  const headers = { ...init.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  return request(server, path, 'token', { ...init, headers }, deadlineMs);
}
