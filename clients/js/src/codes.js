/**
 * Every number and every code of the protocol that a client acts on (docs/PROTOCOL.md, sections 1, 5.1 and 6), and the one
 * error type of this package. Owns no behaviour beyond "may I come back?".
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

/** The close that voids the handle: come back as another peer. */
export const SESSION_GONE = 4004;

/** The close at the end of the token's life: the peer has left, so the handle is void too. */
export const TOKEN_EXPIRED = 4006;

/** The codes of `error` frames. */
export const ERROR_CODES = Object.freeze([
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
  'internal',
]);

/** The codes that only this client makes. */
export const LOCAL_CODES = Object.freeze([
  'bad_frame', // the server sent what the protocol does not know
  'closed', // the client was closed by its own side
  'join_timeout', // the connection opened, and no `joined` came
  'lost', // the connection broke without a close frame
  'no_answer', // the server said nothing to a new token
  'no_pong', // silence, and no answer to a ping
  'no_token', // who was asked for a token gave none
  'queue_full', // too many sends wait for an answer
  'seq_gap', // an entry of the mailbox is missing
  'session_gone', // sent as a peer that is no more
  'unreachable', // no HTTP answer
]);

/** An `error` with one of these is answered by sending again, not by telling the caller. */
const SENT_AGAIN = new Set(['unavailable', 'rate_limited', 'peer_backlogged']);

/** Codes after which the same request may well succeed later. */
const PASSING = new Set([...SENT_AGAIN, 'internal', 'overloaded', 'draining', 'unreachable', 'queue_full', 'lost', 'no_answer']);

/** What RFC 6455 and its registry call a lost, restarting or overloaded server. */
const LOST = new Set([1001, 1006, 1011, 1012, 1013]);

/**
 * Whether a client comes back after this close code.
 *
 * @param {number} closeCode
 */
export function isRetryable(closeCode) {
  return (closeCode >= 4000 && closeCode < 4500) || LOST.has(closeCode);
}

/**
 * Whether a send that got this error code is sent again by the queue.
 *
 * @param {string} code
 */
export function isSentAgain(code) {
  return SENT_AGAIN.has(code);
}

/**
 * Takes a close reason, `code` or `code;retryMs`, apart. Without a reason the number decides.
 *
 * @param {number} closeCode
 * @param {string} reason
 * @returns {{ code: string, retryMs: number }}
 */
export function readClose(closeCode, reason) {
  const [text = '', wait = ''] = reason.split(';');
  const known = /** @type {Record<number, string>} */ (CLOSE_CODES)[closeCode];
  const code = /^[a-z_]+$/.test(text) ? text : (known ?? 'lost');
  return { code, retryMs: /^\d{1,9}$/.test(wait) ? Number(wait) : 0 };
}

/** A WebSocket throws it, as a DOMException, at what cannot be a subprotocol. @param {unknown} cause */
function isSyntaxError(cause) {
  return cause instanceof Error && cause.name === 'SyntaxError';
}

/** What went wrong, with a stable `code` for programs and a sentence for people. */
export class SignalingError extends Error {
  /**
   * @param {string} code
   * @param {string} [message]
   * @param {{ field?: string, retryMs?: number, status?: number, closeCode?: number, cause?: unknown }} [more]
   */
  constructor(code, message = code, more = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = 'SignalingError';
    /** Stable; one of section 1, 5.1 or 6 of the protocol, or of {@link LOCAL_CODES}. */
    this.code = code;
    /** The member at fault, where there is one. */
    this.field = more.field;
    /** How long to wait before another try, milliseconds, where the server said so. */
    this.retryMs = more.retryMs;
    /** The HTTP status, where the answer came over HTTP. */
    this.status = more.status;
    /** The close code, where a close brought it. */
    this.closeCode = more.closeCode;
  }

  /** Whether the same thing may succeed later without a change. */
  get retryable() {
    if (this.closeCode !== undefined) return isRetryable(this.closeCode);
    if (this.status !== undefined) return this.status === 429 || this.status >= 500;
    // The provider of tokens failed in a way of its own; a text that is no token fails the same way next time.
    if (this.code === 'no_token') return this.cause !== undefined && !isSyntaxError(this.cause);
    return PASSING.has(this.code);
  }
}

/**
 * What a provider of tokens threw, as one of ours: a {@link SignalingError} is taken at its word, anything else may pass.
 *
 * @param {unknown} cause
 */
export function toTokenError(cause) {
  if (cause instanceof SignalingError) return cause;
  return new SignalingError('no_token', 'Who was asked for a token gave none.', { cause });
}
