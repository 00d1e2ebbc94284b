/**
 * The one error type of this package, and what a close means. Decides which codes allow a retry;
 * retries nothing itself. See codes.js for the lists of codes.
 */

/** The peer no longer exists: the handle is invalid, and the client must join as a new peer. */
export const SESSION_GONE = 4004;

/** The token expired and the peer has left: the handle is invalid too. */
export const TOKEN_EXPIRED = 4006;

/** Error codes after which the queue sends a message again instead of rejecting it. */
const RETRIED_BY_QUEUE = ['unavailable', 'rate_limited', 'peer_backlogged'];

/** Codes after which the same request may succeed later. */
const TEMPORARY = [...RETRIED_BY_QUEUE, 'internal', 'overloaded', 'draining', 'unreachable', 'unreadable', 'queue_full', 'lost', 'no_answer', 'offer_refused', 'timeout'];

/** The codes of RFC 6455 and its registry for a lost, restarting or overloaded server. */
const SERVER_LOST = [1001, 1006, 1011, 1012, 1013];

/**
 * Whether a client reconnects after this close code.
 *
 * @param {number} closeCode
 */
export function isRetryable(closeCode) {
  return (closeCode >= 4000 && closeCode < 4500) || SERVER_LOST.includes(closeCode);
}

/**
 * Whether the queue sends a message again after this error code.
 *
 * @param {string} code
 */
export function isRetriedByQueue(code) {
  return RETRIED_BY_QUEUE.includes(code);
}

/**
 * Firefox closes a socket with 1001 when its page begins to load another address. A resume in the
 * middle of that would end without a close code together with the page, and the server would keep
 * the peer for the whole resume window.
 */
const GOING_AWAY = 1001;
const GOING_AWAY_WAIT_MS = 1_000;

/**
 * Parses a close reason, `code` or `code;retryMs`. The server gives one with each close.
 *
 * @param {number} closeCode
 * @param {string} reason
 * @returns {{ code: string, retryMs: number }}
 */
export function parseClose(closeCode, reason) {
  const [, code = 'lost', wait] = /^([a-z_]+)(?:;(\d{1,9}))?$/.exec(reason) ?? [];
  return { code, retryMs: Number(wait ?? (closeCode === GOING_AWAY ? GOING_AWAY_WAIT_MS : 0)) };
}

/** An error with a stable `code` for programs and a sentence for people. */
export class SignalingError extends Error {
  /** The invalid member of the request, if there is one. @type {string | undefined} */
  field;
  /** The wait that the server asked for, in milliseconds. @type {number | undefined} */
  retryMs;
  /** The HTTP status, if the error came over HTTP. @type {number | undefined} */
  status;
  /** The close code, if the error came with a close. @type {number | undefined} */
  closeCode;

  /**
   * @param {string} code
   * @param {string} [message]
   * @param {{ field?: string, retryMs?: number, status?: number, closeCode?: number,
   *   cause?: unknown }} [details]
   */
  constructor(code, message = code, details = {}) {
    super(message, details);
    this.name = 'SignalingError';
    /** Stable; a code of section 1, 5.1 or 6 of the protocol, or of `LOCAL_CODES`. */
    this.code = code;
    Object.assign(this, details);
  }

  /** Whether the same request may succeed later without a change. */
  get retryable() {
    const { closeCode, status, code, cause } = this;
    if (closeCode !== undefined) return isRetryable(closeCode);
    if (status !== undefined) return status === 429 || status >= 500;
    // A failed `getToken` may work later. A text that is not a token fails again: a WebSocket throws
    // a `SyntaxError` for a text that is not a subprotocol.
    if (code === 'no_token') return cause !== undefined && /** @type {Partial<Error>} */ (cause)?.name !== 'SyntaxError';
    return TEMPORARY.includes(code);
  }
}

/** @param {import('./messages.js').ErrorFrame} frame */
export function toError({ code, message, field, retryMs }) {
  return new SignalingError(code, message, { field, retryMs });
}

/**
 * Converts an exception of `getToken`: keeps a {@link SignalingError}, and makes any other
 * exception a `no_token` that may be retried.
 *
 * @param {unknown} cause
 */
export function toTokenError(cause) {
  return cause instanceof SignalingError ? cause : new SignalingError('no_token', 'getToken returned no token.', { cause });
}
