/**
 * Checks the options of a constructor and what its runtime offers. Without these checks a missing
 * part would show up later, as an exception while the client connects, and would look like a
 * temporary failure.
 */
import { SignalingError } from './signaling-error.js';

/**
 * @param {import('./client.js').ClientOptions} options
 * @throws {SignalingError} `bad_option` or `not_supported`
 */
export function checkClientOptions({ url = globalThis.location?.origin, token, getToken = token === undefined ? token : () => token, WebSocket = globalThis.WebSocket, fetch = globalThis.fetch }) {
  checkRuntime('WebSocket', WebSocket);
  checkRuntime('fetch', fetch);
  checkOption('url', isServer(url), `the address of the server, not ${url}`);
  checkOption('getToken', typeof getToken === 'function', 'a function');
  checkOption('token', typeof (token ?? '') === 'string', 'a text');
}

/**
 * @param {{ room?: unknown }} options
 * @throws {SignalingError} `bad_option` or `not_supported`
 */
export function checkRoomOptions({ room }) {
  checkRuntime('RTCPeerConnection', globalThis.RTCPeerConnection, 'a browser, or SignalingClient');
  checkOption('room', typeof room === 'string' && room !== '', 'a room');
}

/** @param {string} name @param {unknown} part @param {string} [remedy] */
function checkRuntime(name, part, remedy = `Node 22 or the option ${name}`) {
  if (typeof part !== 'function') throw new SignalingError('not_supported', `There is no ${name} here. Use ${remedy}.`);
}

/** @param {string} field @param {boolean} isGood @param {string} expected */
function checkOption(field, isGood, expected) {
  if (!isGood) throw new SignalingError('bad_option', `The option ${field} must be ${expected}.`, { field });
}

/** @param {string | URL | undefined} url */
function isServer(url) {
  try {
    return /^(https?|wss?):$/.test(new URL(/** @type {string} */ (url)).protocol);
  } catch {
    return false;
  }
}
