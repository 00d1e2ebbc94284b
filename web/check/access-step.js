/** Gets a token and the ICE servers that belong to it. Also says what a refusal of the server means. */
import { text } from './check-texts.js';
import { guestToken, request } from './client/http.js';

/** Codes that say that guests cannot have a room of their own here. */
const NO_GUESTS = ['guests_off', 'room_not_allowed', 'room_reserved'];

/** The codes of the client for a socket that opened and ended without a reason of the server. */
const CUT = ['lost', 'join_timeout'];

const BUSY = ['overloaded', 'draining', 'unavailable', 'shut_down', 'internal'];

/** @type {import('./step-runner.js').Step['run']} */
export async function checkAccess(context) {
  const { url, token: linkToken } = context;
  try {
    const token = linkToken ?? (await guestToken({ url, room: privateRoom(), name: text('page.heading') }));
    const { iceServers, icePolicy } = await request({ url }, 'auth/ice', 'iceServers', { headers: { Authorization: `Bearer ${token}` } });
    context.access = { token, iceServers, icePolicy };
    return { outcome: linkToken === null ? 'guest_accepted' : 'token_accepted' };
  } catch (error) {
    const { code } = /** @type {{ code?: string }} */ (error);
    if (linkToken === null && NO_GUESTS.includes(code ?? '')) return { outcome: 'no_login' };
    return refusalResult(error);
  }
}

/**
 * What a failed request or connection means.
 *
 * @param {unknown} error
 * @returns {import('./step-runner.js').Result}
 */
export function refusalResult(error) {
  const { code = '', status } = /** @type {Partial<import('./client/index.js').SignalingError>} */ (error);
  if (code === 'unreachable' || code === 'unreadable' || code === 'no_upgrade' || code === 'rate_limited') return { outcome: code };
  if (CUT.includes(code)) return { outcome: 'socket_cut' };
  const values = { code: /^[a-z_]{1,40}$/.test(code) ? code : 'unknown' };
  if (BUSY.includes(code)) return { outcome: 'busy', values };
  return { outcome: status === 401 ? 'token_refused' : 'refused', values };
}

/** No other person can guess it. */
function privateRoom() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `check-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
}
