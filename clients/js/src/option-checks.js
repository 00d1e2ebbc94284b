/**
 * Checks the options of a constructor and what its runtime offers. Without these checks a missing
 * part would show up later, as an exception while the client connects, and would look like a
 * temporary failure.
 */
import { SignalingError } from './codes.js';

/** @param {string} field @param {string} message */
function badOption(field, message) {
  return new SignalingError('bad_option', message, { field });
}

/**
 * @param {import('./client.js').ClientOptions} options
 * @throws {SignalingError} `bad_option` or `not_supported`
 */
export function checkClientOptions({ url, token, getToken, WebSocket = globalThis.WebSocket, fetch = globalThis.fetch }) {
  if (typeof WebSocket !== 'function') throw new SignalingError('not_supported', 'There is no WebSocket here. Use Node 22 or later, or pass the option WebSocket, such as the one of the package ws.');
  if (typeof fetch !== 'function') throw new SignalingError('not_supported', 'There is no fetch here. Use Node 20 or later, or pass the option fetch.');
  checkUrl(url);
  if ((getToken ?? token) === undefined) throw badOption('getToken', 'Set the option getToken or token: the server needs a token for the room.');
  checkGetToken(getToken);
  if (typeof (token ?? '') !== 'string') throw badOption('token', 'The option token must be a text.');
}

/**
 * @param {{ room?: unknown, getToken?: unknown }} options
 * @throws {SignalingError} `bad_option` or `not_supported`
 */
export function checkRoomOptions({ room, getToken }) {
  if (typeof globalThis.RTCPeerConnection !== 'function') throw new SignalingError('not_supported', 'There is no RTCPeerConnection here. Use a browser with WebRTC, or SignalingClient, which needs none.');
  if (typeof room !== 'string' || room === '') throw badOption('room', 'Set the option room to the name of the room.');
  checkGetToken(getToken);
}

/** @param {unknown} getToken */
function checkGetToken(getToken) {
  if (typeof (getToken ?? (() => '')) !== 'function') throw badOption('getToken', 'The option getToken must be a function that returns a token.');
}

/** @param {string | URL | undefined} url */
function checkUrl(url) {
  const base = url ?? globalThis.location?.origin;
  if (base === undefined) throw badOption('url', 'Set the option url to the address of the server, such as https://rtc.example: there is no page here whose origin could be the server.');
  let protocol;
  try {
    ({ protocol } = new URL(base));
  } catch {
    // The error below says what to do.
  }
  if (!/^(https?|wss?):$/.test(protocol ?? '')) throw badOption('url', `The option url must be the address of the server, such as https://rtc.example, and not ${base}.`);
}
