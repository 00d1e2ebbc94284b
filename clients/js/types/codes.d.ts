/**
 * The close codes and error codes of the protocol (docs/PROTOCOL.md, sections 1, 5.1 and 6), and
 * the one error type of this package. Decides which codes allow a retry; retries nothing itself.
 */
/** Close code → its stable reason. */
export declare const CLOSE_CODES: Readonly<{
    1000: "left";
    4000: "going_away";
    4001: "slow_consumer";
    4002: "ping_timeout";
    4003: "rate_limited";
    4004: "session_gone";
    4005: "unavailable";
    4006: "token_expired";
    4007: "internal";
    4008: "shut_down";
    4009: "token_in_use";
    4500: "protocol_error";
    4501: "binary_not_supported";
    4502: "frame_too_large";
    4510: "room_full";
    4511: "user_limit";
    4512: "replaced";
    4513: "removed";
    4514: "ended";
    4515: "banned";
    4516: "revoked";
    4517: "room_locked";
    4518: "room_disabled";
    4519: "room_not_started";
    4520: "address_denied";
    4521: "denied";
    4522: "room_not_allowed";
}>;
/** The peer no longer exists: the handle is invalid, and the client must join as a new peer. */
export declare const SESSION_GONE = 4004;
/** The token expired and the peer has left: the handle is invalid too. */
export declare const TOKEN_EXPIRED = 4006;
/** The codes of `error` frames. */
export declare const ERROR_CODES: readonly string[];
/** Codes that this client creates itself. */
export declare const LOCAL_CODES: readonly string[];
/**
 * Whether a client reconnects after this close code.
 *
 * @param {number} closeCode
 */
export declare function isRetryable(closeCode: number): boolean;
/**
 * Whether the queue sends a message again after this error code.
 *
 * @param {string} code
 */
export declare function isRetriedByQueue(code: string): boolean;
/**
 * Parses a close reason, `code` or `code;retryMs`. Without a reason, the close code decides.
 *
 * @param {number} closeCode
 * @param {string} reason
 * @returns {{ code: string, retryMs: number }}
 */
export declare function parseClose(closeCode: number, reason: string): {
    code: string;
    retryMs: number;
};
/** An error with a stable `code` for programs and a sentence for people. */
export declare class SignalingError extends Error {
    /** Stable; a code of section 1, 5.1 or 6 of the protocol, or of {@link LOCAL_CODES}. */
    code: string;
    /** The invalid member of the request, if there is one. */
    field: string | undefined;
    /** The wait that the server asked for, in milliseconds. */
    retryMs: number | undefined;
    /** The HTTP status, if the error came over HTTP. */
    status: number | undefined;
    /** The close code, if the error came with a close. */
    closeCode: number | undefined;
    /**
     * @param {string} code
     * @param {string} [message]
     * @param {{ field?: string, retryMs?: number, status?: number, closeCode?: number,
     *   cause?: unknown }} [details]
     */
    constructor(code: string, message?: string, details?: {
        field?: string;
        retryMs?: number;
        status?: number;
        closeCode?: number;
        cause?: unknown;
    });
    /** Whether the same request may succeed later without a change. */
    get retryable(): boolean;
}
/**
 * Converts an exception of `getToken`: keeps a {@link SignalingError}, and makes any other
 * exception a `no_token` that may be retried.
 *
 * @param {unknown} cause
 */
export declare function toTokenError(cause: unknown): SignalingError;
