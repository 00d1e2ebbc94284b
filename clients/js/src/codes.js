/**
 * The close codes and error codes of the protocol (docs/PROTOCOL.md, sections 1, 5.1 and 6), and the
 * codes of this client. The client itself does not need these lists.
 */

/** Close code → its stable reason. */
export const CLOSE_CODES = Object.freeze({
  1000: 'left',
  4000: 'going_away',
  4001: 'slow_consumer',
  4002: 'ping_timeout',
  4003: 'rate_limited',
  4004: 'session_gone',
  4005: 'unavailable',
  4006: 'token_expired',
  4007: 'internal',
  4008: 'shut_down',
  4009: 'token_in_use',
  4500: 'protocol_error',
  4501: 'binary_not_supported',
  4502: 'frame_too_large',
  4510: 'room_full',
  4511: 'user_limit',
  4512: 'replaced',
  4513: 'removed',
  4514: 'ended',
  4515: 'banned',
  4516: 'revoked',
  4517: 'room_locked',
  4518: 'room_disabled',
  4519: 'room_not_started',
  4520: 'address_denied',
  4521: 'denied',
  4522: 'room_not_allowed',
});

/** The codes of `error` frames. */
export const ERROR_CODES = /* @__PURE__ */ Object.freeze([
  'bad_message',
  'unknown_type',
  'unsupported',
  'too_large',
  'no_such_peer',
  'not_permitted',
  'rate_limited',
  'peer_backlogged',
  'unavailable',
  'room_full',
  'user_limit',
  'token_in_use',
  'bad_token',
  'room_locked',
  'room_disabled',
  'room_not_started',
  'room_not_allowed',
  'banned',
  'revoked',
  'denied',
  'removed',
  'sanction_limit',
  'internal',
]);

/** Code that this client creates itself → the reason, and what to do. @type {Record<string, string>} */
const ADVICE = {
  aborted: 'Join again when the user wants to.',
  bad_frame: 'This client cannot read it. The server may be newer: update the client.',
  bad_option: 'Correct the option, or the argument, that `field` names.',
  closed: 'Join again to send messages.',
  handler_failed: 'The function of the other application threw an error; look into its log.',
  ice_server_refused: 'It is skipped, and the call uses the other ICE servers.',
  join_timeout: 'A proxy may open WebSockets and forward nothing: check the proxies.',
  lost: 'The network or the server ended it; the client connects again.',
  no_answer: 'The client tries again before the token expires.',
  no_pong: 'The network is probably gone; the client connects again.',
  no_token: 'Check the function getToken: it must return a token of the server.',
  not_supported: 'Use a newer browser or runtime, or give the missing part as an option.',
  no_upgrade: 'The server accepts the credential, so a proxy may not forward WebSockets: let it forward the headers Upgrade and Connection.',
  offer_refused: 'The media of the last change is not sent; the call continues without it.',
  peer_left: 'Ask another peer, or wait until it joins again.',
  queue_full: 'Send less, or wait until earlier messages are sent.',
  refused: 'The other application sets `onRequest` when it answers requests.',
  seq_gap: 'The client connects again, and loses nothing.',
  session_gone: 'The connection was lost for too long, and this client is a new peer now: send it again if it still matters.',
  timeout: 'The peer may be slow or offline: try again, or give it more time.',
  unreachable: 'Check the network, the option url, and whether the server runs.',
  wrong_room: 'Request a token for the room that is joined.',
  unreadable: 'The setting server.allowed_origins must contain the origin of the page. Or a proxy answers for the server: check the option url and the proxies.',
};

/**
 * Code of the event `trouble` → what a user can read. What an operator does is in
 * docs/TROUBLESHOOTING.md.
 *
 * @type {Record<import('./trouble.js').TroubleCode, string>}
 */
const TROUBLES = {
  turn_refused: 'The relay server (TURN) refuses this call, or has no free place: tell the operator.',
  turn_unreachable: 'The relay server (TURN) does not answer: try another network, or tell the operator.',
  no_candidates: 'This browser may not use the network for calls: check its extensions and a VPN, or use another browser.',
  no_relay: 'There is no direct way between the two networks, and this server has no relay (TURN): try another network, or tell the operator.',
  udp_blocked: 'This network blocks calls (UDP): try another network, for example that of a phone.',
  no_path: 'There is no way between the two networks: one of you can try another network.',
  answer_missing: 'The other page does not answer: its browser may be asleep. Ask the other person to open or reload it.',
};

/** Codes of the event `trouble`. */
export const TROUBLE_CODES = /* @__PURE__ */ Object.freeze(Object.keys(TROUBLES));

/** Codes that this client creates itself. */
export const LOCAL_CODES = /* @__PURE__ */ Object.freeze(Object.keys(ADVICE));

/**
 * Returns the whole sentence for a person: what happened, and for the codes of this client also the
 * likely reason and what to do. For other codes the server has said so in its message.
 *
 * @param {import('./signaling-error.js').SignalingError | import('./connection-report.js').Trouble} reason
 *   an error, or the detail of the event `trouble`
 */
export function explain(reason) {
  const { code, message } = /** @type {{ code: string, message?: string }} */ (reason);
  return [message, ADVICE[code] ?? TROUBLES[/** @type {import('./trouble.js').TroubleCode} */ (code)]].filter(Boolean).join(' ');
}
