/**
 * The one error type of this package, and what a close means. Decides which codes allow a retry;
 * retries nothing itself. See codes.js for the lists of codes.
 */
/** The peer no longer exists: the handle is invalid, and the client must join as a new peer. */
export declare const SESSION_GONE = 4004;
/** The token expired and the peer has left: the handle is invalid too. */
export declare const TOKEN_EXPIRED = 4006;
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
 * Parses a close reason, `code` or `code;retryMs`. The server gives one with each close.
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
    /** Stable; a code of section 1, 5.1 or 6 of the protocol, or of `LOCAL_CODES`. */
    code: string;
    /** The invalid member of the request, if there is one. @type {string | undefined} */
    field: string | undefined;
    /** The wait that the server asked for, in milliseconds. @type {number | undefined} */
    retryMs: number | undefined;
    /** The HTTP status, if the error came over HTTP. @type {number | undefined} */
    status: number | undefined;
    /** The close code, if the error came with a close. @type {number | undefined} */
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
/** @param {import('./messages.js').ErrorFrame} frame */
export declare function toError({ code, message, field, retryMs }: import('./messages.js').ErrorFrame): SignalingError;
/**
 * Converts an exception of `getToken`: keeps a {@link SignalingError}, and makes any other
 * exception a `no_token` that may be retried.
 *
 * @param {unknown} cause
 */
export declare function toTokenError(cause: unknown): SignalingError;
