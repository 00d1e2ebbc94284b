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

/** Codes that this client creates itself. */
export const LOCAL_CODES = /* @__PURE__ */ Object.freeze([
  'bad_frame', // the server sent a frame that this client cannot read
  'bad_option', // an option of a constructor is missing or wrong; `field` names it
  'closed', // the application closed this client
  'ice_server_refused', // this browser refuses an ICE server, which is skipped
  'join_timeout', // the socket opened, but no `joined` arrived
  'lost', // the connection broke without a close frame
  'no_answer', // the server did not answer a new token
  'no_pong', // the server did not answer a ping
  'no_token', // `getToken` returned no token
  'not_supported', // this browser or runtime lacks WebSocket, fetch or WebRTC
  'no_upgrade', // the server accepts the credential, but no WebSocket opens
  'offer_refused', // the peer cannot answer an offer of this client
  'queue_full', // too many messages are pending
  'seq_gap', // an entry of the mailbox is missing
  'session_gone', // the message belonged to the previous peer of this client, which could not be resumed
  'unreachable', // no HTTP answer
  'wrong_room', // the token is for another room than the option `room`
  'unreadable', // an HTTP answer that the page may not read, or that is not an answer of Signalbox
]);
