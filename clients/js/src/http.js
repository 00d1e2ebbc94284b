/**
 * The HTTP questions of a client: where is everything, a token please (or a ticket for it), and why was I refused? Problem details
 * (RFC 9457) become a {@link SignalingError}; nothing is stored.
 */
import { SignalingError } from './codes.js';

const DEADLINE_MS = 10_000;

/**
 * @typedef {typeof globalThis.fetch} Fetch
 * @typedef {{ token: string, refreshToken?: string, expiresIn?: number }} Grant `expiresIn` in seconds
 */

/**
 * The address of an endpoint under the site's base address.
 *
 * @param {string | URL | undefined} base `https://host[/prefix]`; without it the page's own origin
 * @param {string} path without a leading slash
 */
export function endpoint(base, path) {
  const site = new URL(base ?? globalThis.location.origin);
  site.protocol = site.protocol.replace(/^ws/, 'http');
  if (!site.pathname.endsWith('/')) site.pathname += '/';
  return new URL(path, site);
}

/**
 * The WebSocket address of the site.
 *
 * @param {string | URL | undefined} base
 * @param {number} [since] the last entry that a peer which comes back has had
 */
export function signalAddress(base, since) {
  const address = endpoint(base, 'ws/signal');
  if (since !== undefined) address.searchParams.set('since', String(since));
  address.protocol = address.protocol.replace(/^http/, 'ws');
  return address.href;
}

/**
 * A token for a guest, where the server takes guests: `POST /auth/token` without a caller.
 *
 * @param {{ url?: string | URL, room: string, user?: string, name?: string, fetch?: Fetch }} options
 * @returns {Promise<string>}
 */
export async function guestToken({ url, room, user, name, fetch }) {
  const { token } = await askForGrant({ url, path: 'auth/token', body: { room, user, name }, fetch });
  return token;
}

/**
 * `POST /auth/token` or `/auth/refresh`.
 *
 * @param {{ url?: string | URL, path: string, body: Record<string, unknown>, fetch?: Fetch, deadlineMs?: number }} options
 * @returns {Promise<Grant>}
 */
export function askForGrant({ url, path, body, fetch, deadlineMs }) {
  return post(fetch, endpoint(url, path), { body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' }, deadlineMs });
}

/**
 * A ticket for a token: good for one connection within half a minute.
 *
 * @param {{ url?: string | URL, token: string, fetch?: Fetch }} options
 * @returns {Promise<string>}
 */
export async function ticketFor({ url, token, fetch }) {
  const { ticket } = await post(fetch, endpoint(url, 'auth/ticket'), { headers: { Authorization: `Bearer ${token}` } });
  return ticket;
}

/**
 * Why an upgrade failed: a browser cannot read the status, so the same question is asked over HTTP.
 *
 * @param {{ url?: string | URL, token?: string, resume?: string, fetch?: Fetch }} options a token, or a handle
 * @returns {Promise<SignalingError | undefined>} nothing where the server would have let it in
 */
export async function whyRefused({ url, token, resume, fetch = globalThis.fetch }) {
  const address = endpoint(url, 'ws/validate');
  if (resume !== undefined) address.searchParams.set('resume', resume);
  try {
    const response = await ask(fetch, address, resume === undefined ? { headers: { Authorization: `Bearer ${token}` } } : {});
    return response.ok ? undefined : await problemOf(response);
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
  const response = await ask(fetch ?? globalThis.fetch, address, { method: 'POST', ...init }, deadlineMs);
  if (!response.ok) throw await problemOf(response);
  return response.json().catch((cause) => {
    throw new SignalingError('unreachable', 'The answer of the server was cut off.', { cause });
  });
}

/**
 * @param {Fetch} fetch
 * @param {URL} address
 * @param {RequestInit} init
 * @param {number} [deadlineMs]
 */
async function ask(fetch, address, init, deadlineMs = DEADLINE_MS) {
  try {
    return await fetch(address, { ...init, cache: 'no-store', credentials: 'omit', signal: AbortSignal.timeout(deadlineMs) });
  } catch (cause) {
    throw new SignalingError('unreachable', 'The server did not answer.', { cause });
  }
}

/** @param {Response} response */
async function problemOf(response) {
  /** @type {{ code?: string, detail?: string, title?: string, field?: string }} */
  const problem = await response.json().catch(() => ({}));
  const after = Number(response.headers.get('Retry-After'));
  return new SignalingError(
    problem.code ?? (response.status === 429 ? 'rate_limited' : `http_${response.status}`),
    problem.detail ?? problem.title ?? `The server answered ${response.status}.`,
    { status: response.status, field: problem.field, retryMs: after > 0 ? after * 1000 : undefined },
  );
}
