/**
 * The HTTP requests of a client: tokens, tickets, and the reason of a refused upgrade. Converts
 * problem details (RFC 9457) into a {@link SignalingError}. Stores nothing.
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
export function requestGrant({ url, path, body, token, fetch, deadlineMs }) {
  /** @type {Record<string, string>} */
  const headers = { 'Content-Type': 'application/json' };
  if (token !== undefined) headers.Authorization = `Bearer ${token}`;
  return post(fetch, endpointUrl(url, path), { body: JSON.stringify(body), headers, deadlineMs });
}

/**
 * Exchanges a token for a ticket, which opens one connection within half a minute.
 *
 * @param {{ url?: string | URL, token: string, fetch?: Fetch }} options
 * @returns {Promise<string>} rejected with a {@link SignalingError}
 */
export async function ticketFor({ url, token, fetch }) {
  const { ticket } = await post(fetch, endpointUrl(url, 'auth/ticket'), { headers: { Authorization: `Bearer ${token}` } });
  return ticket;
}

/**
 * Asks over HTTP why an upgrade failed, because a browser cannot read the status of an upgrade.
 *
 * @param {{ url?: string | URL, token?: string, resume?: string, fetch?: Fetch }} options a token,
 *   or a handle
 * @returns {Promise<SignalingError | undefined>} undefined: the server would accept the upgrade now
 */
export async function fetchRefusal({ url, token, resume, fetch = globalThis.fetch }) {
  const address = endpointUrl(url, 'ws/validate');
  if (resume !== undefined) address.searchParams.set('resume', resume);
  try {
    const response = await request(fetch, address, resume === undefined ? { headers: { Authorization: `Bearer ${token}` } } : {});
    return response.ok ? undefined : await parseProblem(response);
  } catch (error) {
    if (error instanceof SignalingError) return error;
    throw error;
  }
}

/**
 * @param {Fetch | undefined} fetch
 * @param {URL} address
 * @param {{ body?: string, headers: Record<string, string>, deadlineMs?: number }} init
 */
async function post(fetch, address, { deadlineMs, ...init }) {
  const response = await request(fetch ?? globalThis.fetch, address, { method: 'POST', ...init }, deadlineMs);
  if (!response.ok) throw await parseProblem(response);
  return response.json().catch((cause) => {
    throw new SignalingError('unreachable', 'The answer was incomplete.', { cause });
  });
}

/**
 * @param {Fetch} fetch
 * @param {URL} address
 * @param {RequestInit} init
 * @param {number} [deadlineMs]
 */
async function request(fetch, address, init, deadlineMs = DEADLINE_MS) {
  try {
    return await fetch(address, { ...init, cache: 'no-store', credentials: 'omit', signal: AbortSignal.timeout(deadlineMs) });
  } catch (cause) {
    throw new SignalingError('unreachable', 'The server did not answer.', { cause });
  }
}

/** @param {Response} response */
async function parseProblem(response) {
  /** @type {{ code?: string, detail?: string, title?: string, field?: string }} */
  const problem = await response.json().catch(() => ({}));
  const after = Number(response.headers.get('Retry-After'));
  return new SignalingError(
    problem.code ?? (response.status === 429 ? 'rate_limited' : `http_${response.status}`),
    problem.detail ?? problem.title ?? `The server answered ${response.status}.`,
    { status: response.status, field: problem.field, retryMs: after > 0 ? after * 1000 : undefined },
  );
}
