/**
 * The close codes and error codes of the protocol (docs/PROTOCOL.md, sections 1, 5.1 and 6), and
 * the one error type of this package. Decides which codes allow a retry; retries nothing itself.
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

/** The peer no longer exists: the handle is invalid, and the client must join as a new peer. */
export const SESSION_GONE = 4004;

/** The token expired and the peer has left: the handle is invalid too. */
export const TOKEN_EXPIRED = 4006;

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
  'bad_frame', // the server sent a frame that the protocol does not define
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

/** Error codes after which the queue sends a message again instead of rejecting it. */
const RETRIED_BY_QUEUE = new Set(['unavailable', 'rate_limited', 'peer_backlogged']);

/** Codes after which the same request may succeed later. */
const TEMPORARY = new Set([...RETRIED_BY_QUEUE, 'internal', 'overloaded', 'draining', 'unreachable', 'unreadable', 'queue_full', 'lost', 'no_answer', 'offer_refused']);

/** The codes of RFC 6455 and its registry for a lost, restarting or overloaded server. */
const SERVER_LOST = new Set([1001, 1006, 1011, 1012, 1013]);

/**
 * Whether a client reconnects after this close code.
 *
 * @param {number} closeCode
 */
export function isRetryable(closeCode) {
  return (closeCode >= 4000 && closeCode < 4500) || SERVER_LOST.has(closeCode);
}

/**
 * Whether the queue sends a message again after this error code.
 *
 * @param {string} code
 */
export function isRetriedByQueue(code) {
  return RETRIED_BY_QUEUE.has(code);
}

/**
 * Firefox closes a socket with 1001 when its page begins to load another address. A resume in the
 * middle of that would end without a close code together with the page, and the server would keep
 * the peer for the whole resume window.
 */
const GOING_AWAY = 1001;
const GOING_AWAY_WAIT_MS = 1_000;

/**
 * Parses a close reason, `code` or `code;retryMs`. Without a reason, the close code decides.
 *
 * @param {number} closeCode
 * @param {string} reason
 * @returns {{ code: string, retryMs: number }}
 */
export function parseClose(closeCode, reason) {
  const [text = '', wait = ''] = reason.split(';');
  const known = /** @type {Record<number, string>} */ (CLOSE_CODES)[closeCode];
  const code = /^[a-z_]+$/.test(text) ? text : (known ?? 'lost');
  const defaultMs = closeCode === GOING_AWAY ? GOING_AWAY_WAIT_MS : 0;
  return { code, retryMs: /^\d{1,9}$/.test(wait) ? Number(wait) : defaultMs };
}

/**
 * A WebSocket throws a `SyntaxError` for a token that is not a valid subprotocol.
 *
 * @param {unknown} cause
 */
function isSyntaxError(cause) {
  return cause instanceof Error && cause.name === 'SyntaxError';
}

/** An error with a stable `code` for programs and a sentence for people. */
export class SignalingError extends Error {
  /**
   * @param {string} code
   * @param {string} [message]
   * @param {{ field?: string, retryMs?: number, status?: number, closeCode?: number,
   *   cause?: unknown }} [details]
   */
  constructor(code, message = code, details = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'SignalingError';
    /** Stable; a code of section 1, 5.1 or 6 of the protocol, or of {@link LOCAL_CODES}. */
    this.code = code;
    /** The invalid member of the request, if there is one. */
    this.field = details.field;
    /** The wait that the server asked for, in milliseconds. */
    this.retryMs = details.retryMs;
    /** The HTTP status, if the error came over HTTP. */
    this.status = details.status;
    /** The close code, if the error came with a close. */
    this.closeCode = details.closeCode;
  }

  /** Whether the same request may succeed later without a change. */
  get retryable() {
    if (this.closeCode !== undefined) return isRetryable(this.closeCode);
    if (this.status !== undefined) return this.status === 429 || this.status >= 500;
    // A failed `getToken` may work later. A text that is not a token fails again.
    if (this.code === 'no_token') return this.cause !== undefined && !isSyntaxError(this.cause);
    return TEMPORARY.has(this.code);
  }
}

/**
 * Converts an exception of `getToken`: keeps a {@link SignalingError}, and makes any other
 * exception a `no_token` that may be retried.
 *
 * @param {unknown} cause
 */
export function toTokenError(cause) {
  if (cause instanceof SignalingError) return cause;
  return new SignalingError('no_token', 'getToken returned no token.', { cause });
}
