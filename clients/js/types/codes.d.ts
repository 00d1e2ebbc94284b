/**
 * The close codes and error codes of the protocol (docs/PROTOCOL.md, sections 1, 5.1 and 6), and the
 * codes of this client. The client itself does not need these lists.
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
/** The codes of `error` frames. */
export declare const ERROR_CODES: readonly string[];
/** Codes of the event `trouble`. */
export declare const TROUBLE_CODES: readonly string[];
/** Codes that this client creates itself. */
export declare const LOCAL_CODES: readonly string[];
/**
 * Returns the whole sentence for a person: what happened, and for the codes of this client also the
 * likely reason and what to do. For other codes the server has said so in its message.
 *
 * @param {import('./signaling-error.js').SignalingError | import('./connection-report.js').Trouble} reason
 *   an error, or the detail of the event `trouble`
 */
export declare function explain(reason: import('./signaling-error.js').SignalingError | import('./connection-report.js').Trouble): string;
