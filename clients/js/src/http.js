/**
 * The three HTTP questions of a client: where is everything, a guest's token please, and why was I refused? Problem details
 * (RFC 9457) become a {@link SignalingError}; nothing is stored.
 */
import { SignalingError } from './codes.js';

const DEADLINE_MS = 10_000;

/** @typedef {typeof globalThis.fetch} Fetch */

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
export async function guestToken({ url, room, user, name, fetch = globalThis.fetch }) {
  const response = await ask(fetch, endpoint(url, 'auth/token'), {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ room, user, name }),
  });
  if (!response.ok) throw await problemOf(response);
  const { token } = await response.json();
  return token;
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
 * @param {Fetch} fetch
 * @param {URL} address
 * @param {RequestInit} init
 */
async function ask(fetch, address, init) {
  try {
    return await fetch(address, { ...init, cache: 'no-store', credentials: 'omit', signal: AbortSignal.timeout(DEADLINE_MS) });
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
