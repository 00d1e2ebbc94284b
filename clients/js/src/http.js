/**
 * The HTTP requests of a client: tokens, tickets, and the reason of a refused upgrade. Converts
 * problem details (RFC 9457) into a {@link SignalingError}. Stores nothing.
 *
 * An answer may be unreadable: a browser hides it from a page whose origin the server does not
 * allow, and a proxy may answer instead of the server. Then the error is `unreadable` and names the
 * likely cause. Only an error with a `status` is a verdict of the server.
 */
import { SignalingError } from './signaling-error.js';

const DEADLINE_MS = 10_000;

/**
 * @typedef {{ url?: string | URL, fetch?: typeof globalThis.fetch }} Server `url`: its base address;
 *   default: the origin of the page
 * @typedef {{ token: string, refreshToken?: string, expiresIn?: number }} Grant `expiresIn` in
 *   seconds
 */

/**
 * Returns the address of an endpoint below the base address of the server.
 *
 * @param {string | URL | undefined} base `https://host[/prefix]`; default: the origin of the page
 * @param {string} path without a leading slash
 */
export function endpointUrl(base, path) {
  const site = new URL(base ?? globalThis.location.origin);
  return new URL(site.pathname.replace(/\/?$/, '/') + path, site.href.replace(/^ws/, 'http'));
}

/**
 * Returns the WebSocket address of the server.
 *
 * @param {string | URL | undefined} base
 * @param {number} [since] the last entry that a resuming peer has read
 */
export function signalAddress(base, since) {
  const query = since === undefined ? '' : `?since=${since}`;
  return endpointUrl(base, `ws/signal${query}`).href.replace(/^http/, 'ws');
}

/**
 * Requests a token for a guest: `POST /auth/token` without an API key.
 *
 * @param {Server & { room: string, user?: string, name?: string }} options
 * @returns {Promise<string>} rejected with a {@link SignalingError}
 */
export function guestToken({ room, user, name, ...server }) {
  return request(server, 'auth/token', 'token', jsonRequest({ room, user, name })).then(({ token }) => token);
}

/** @param {Record<string, unknown>} body @returns {RequestInit} */
export function jsonRequest(body) {
  return { method: 'POST', body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } };
}

/**
 * Asks over HTTP why an upgrade failed, because a browser cannot read the status of an upgrade.
 *
 * @param {Server} server
 * @param {{ token?: string, resume?: string }} credential a token, or a handle
 * @returns {Promise<SignalingError>}
 */
export function fetchRefusal(server, { token, resume }) {
  // Neither may be in the address, because servers and proxies log addresses.
  const Authorization = resume ? `Resume ${resume}` : `Bearer ${token}`;
  return request(server, 'ws/validate', 'valid', { headers: { Authorization } }).then(
    () => new SignalingError('no_upgrade', 'No WebSocket opens. Check the proxies.'),
    (error) => error,
  );
}

/**
 * Sends a request and returns the JSON object of a good answer.
 *
 * @param {Server} server
 * @param {string} path
 * @param {string} member what a good answer contains
 * @param {RequestInit} init
 * @param {number} [deadlineMs]
 * @returns {Promise<any>} rejected with a {@link SignalingError}
 */
export async function request({ url, fetch = globalThis.fetch }, path, member, init, deadlineMs = DEADLINE_MS) {
  const abort = new AbortController();
  const deadline = setTimeout(() => abort.abort(), deadlineMs);
  /** @param {string} path @param {RequestInit} init */
  const send = (path, init) => fetch(endpointUrl(url, path), { ...init, cache: 'no-store', credentials: 'omit', signal: abort.signal });
  try {
    const response = await send(path, init);
    const answer = await response.json().catch((/** @type {Error} */ cause) => {
      if (cause.name !== 'SyntaxError') throw cause;
    });
    if (response.ok && answer?.[member]) return answer;
    throw toError(response, answer);
  } catch (cause) {
    if (cause instanceof SignalingError) throw cause;
    // A page may learn that there is an answer which it may not read.
    const page = globalThis.location?.origin;
    const isHidden = page && page !== endpointUrl(url, '').origin && (await send('ws/validate', { mode: 'no-cors' }).then(() => true, () => false));
    const [code, message] = isHidden
      ? ['unreadable', `${page} may not read the answer. Check server.allowed_origins.`]
      : ['unreachable', 'The server did not answer.'];
    throw new SignalingError(code, message, { cause });
  } finally {
    clearTimeout(deadline);
  }
}

/** @param {Response} response @param {any} problem */
function toError({ status, headers }, problem) {
  const retryMs = Number(headers.get('Retry-After')) * 1000 || undefined;
  const { code = status === 429 && 'rate_limited', detail, title, field } = problem ?? {};
  if (code) return new SignalingError(code, detail ?? title, { status, field, retryMs });
  // A server that restarts has a proxy that answers for it.
  return new SignalingError(status < 500 ? 'unreadable' : 'unreachable', `The answer ${status} is not of Signalbox. Check the proxies.`, { retryMs });
}
