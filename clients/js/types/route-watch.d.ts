/**
 * Notices that a new connection finds no route. Without a candidate ICE never starts, so it never
 * fails either. Remembers what the relay servers (TURN) answered. Owns one timer; acts on nothing.
 */
export type RelayProblem = 'refused' | 'full' | 'unreachable';
export declare class RouteWatch {
    #private;
    /** @param {RTCPeerConnection} pc @param {() => void} onNoRoute repeated until {@link stop} */
    constructor(pc: RTCPeerConnection, onNoRoute: () => void);
    /** The most telling problem of the relay servers; undefined if one of them works, or if none was needed yet. */
    get relayProblem(): "full" | "refused" | "unreachable" | undefined;
    stop(): void;
}
