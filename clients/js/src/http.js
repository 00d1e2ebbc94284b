/**
 * The HTTP requests of a client: tokens, tickets, and the reason of a refused upgrade. Converts
 * problem details (RFC 9457) into a {@link SignalingError}. Stores nothing.
 *
 * An answer may be unreadable: a browser hides it from a page whose origin the server does not
 * allow, and a proxy may answer instead of the server. Then the error is `unreadable` and names the
 * likely cause. Only an error with a `status` is a verdict of the server.
 */
import { SignalingError } from './codes.js';

const DEADLINE_MS = 10_000;

/**
 * @typedef {typeof globalThis.fetch} Fetch
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
  site.protocol = site.protocol.replace(/^ws/, 'http');
  if (!site.pathname.endsWith('/')) site.pathname += '/';
  return new URL(path, site);
}

/**
 * Returns the WebSocket address of the server.
 *
 * @param {string | URL | undefined} base
 * @param {number} [since] the last entry that a resuming peer has read
 */
export function signalAddress(base, since) {
  const address = endpointUrl(base, 'ws/signal');
  if (since !== undefined) address.searchParams.set('since', String(since));
  address.protocol = address.protocol.replace(/^http/, 'ws');
  return address.href;
}

/**
 * Requests a token for a guest: `POST /auth/token` without an API key.
 *
 * @param {{ url?: string | URL, room: string, user?: string, name?: string,
 *   fetch?: Fetch }} options
 * @returns {Promise<string>} rejected with a {@link SignalingError}
 */
export async function guestToken({ url, room, user, name, fetch }) {
  const { token } = await requestGrant({ url, path: 'auth/token', body: { room, user, name }, fetch });
  return token;
}

/**
 * `POST /auth/token` or another endpoint that answers with a token.
 *
 * @param {{ url?: string | URL, path: string, body: Record<string, unknown>, token?: string,
 *   fetch?: Fetch, deadlineMs?: number }} options `token`: of the caller
 * @returns {Promise<Grant>}
 */
export function requestGrant({ body, token, ...options }) {
  /** @type {Record<string, string>} */
  const headers = { 'Content-Type': 'application/json' };
  if (token !== undefined) headers.Authorization = `Bearer ${token}`;
  return request({ ...options, member: 'token', method: 'POST', body: JSON.stringify(body), headers });
}

/**
 * Exchanges a token for a ticket, which opens one connection within half a minute.
 *
 * @param {{ url?: string | URL, token: string, fetch?: Fetch }} options
 * @returns {Promise<string>} rejected with a {@link SignalingError}
 */
export async function ticketFor({ url, token, fetch }) {
  const { ticket } = await request({ url, path: 'auth/ticket', member: 'ticket', method: 'POST', headers: { Authorization: `Bearer ${token}` }, fetch });
  return ticket;
}

/**
 * Asks over HTTP why an upgrade failed, because a browser cannot read the status of an upgrade.
 *
 * @param {{ url?: string | URL, token?: string, resume?: string, fetch?: Fetch }} options a token,
 *   or a handle
 * @returns {Promise<SignalingError>}
 */
export async function fetchRefusal({ url, token, resume, fetch }) {
  // Neither may be in the address, because servers and proxies log addresses.
  const Authorization = resume === undefined ? `Bearer ${token}` : `Resume ${resume}`;
  try {
    await request({ url, path: 'ws/validate', member: 'valid', headers: { Authorization }, fetch });
    return new SignalingError('no_upgrade', 'The server accepts the credential, but no WebSocket opens. A proxy may not forward upgrades.');
  } catch (error) {
    return /** @type {SignalingError} */ (error);
  }
}

/**
 * Sends a request and returns the JSON object of a good answer.
 *
 * @param {Omit<RequestInit, 'signal'> & { url?: string | URL, path: string, member: string,
 *   fetch?: Fetch, deadlineMs?: number }} options `member`: what a good answer contains
 * @returns {Promise<any>} rejected with a {@link SignalingError}
 */
async function request({ url, path, member, fetch = globalThis.fetch, deadlineMs = DEADLINE_MS, ...init }) {
  const abort = new AbortController();
  const deadline = setTimeout(() => abort.abort(), deadlineMs);
  /** @param {string} path @param {RequestInit} init */
  const send = (path, init) => fetch(endpointUrl(url, path), { ...init, cache: 'no-store', credentials: 'omit', signal: abort.signal });
  try {
    const response = await send(path, init);
    const body = await response.json().catch((/** @type {Error} */ cause) => {
      if (cause.name !== 'SyntaxError') throw cause;
    });
    if (response.ok && body?.[member]) return body;
    throw toError(response, body);
  } catch (cause) {
    if (cause instanceof SignalingError) throw cause;
    // A page may learn that there is an answer which it may not read.
    const page = globalThis.location?.origin;
    const isHidden = page && page !== endpointUrl(url, '').origin && (await send('ws/validate', { mode: 'no-cors' }).then(() => true, () => false));
    throw isHidden
      ? new SignalingError('unreadable', `The server answers, but a page of ${page} may not read the answer. Add ${page} to server.allowed_origins, or check the proxies before the server.`, { cause })
      : new SignalingError('unreachable', 'The server did not answer.', { cause });
  } finally {
    clearTimeout(deadline);
  }
}

/** @param {Response} response @param {any} problem */
function toError({ status, headers }, problem) {
  const after = Number(headers.get('Retry-After'));
  const retryMs = after > 0 ? after * 1000 : undefined;
  if (typeof problem?.code === 'string') {
    return new SignalingError(problem.code, problem.detail ?? problem.title, { status, field: problem.field, retryMs });
  }
  if (status === 429) return new SignalingError('rate_limited', undefined, { status, retryMs });
  return status < 500 ? notOurs(status) : new SignalingError('unreachable', `A proxy answered ${status} instead of the server.`, { retryMs });
}

/** @param {number} status */
function notOurs(status) {
  return new SignalingError('unreadable', `An answer with status ${status} does not come from Signalbox. Check the option url, and the proxies before the server.`);
}
