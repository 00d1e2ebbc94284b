/**
 * Detects a connection that is dead without a close (docs/PROTOCOL.md, section 7). A browser
 * reports neither pings nor a lost network, so this sends a `ping` after a silence. Owns its
 * timers; the caller sends the ping and drops the connection.
 */
export declare class Keepalive {
    #private;
    /** @param {{ ping: () => void, lost: () => void }} callbacks */
    constructor({ ping, lost }: {
        ping: () => void;
        lost: () => void;
    });
    /** @param {number} pingIntervalMs the ping interval of the server */
    start(pingIntervalMs: number): void;
    stop(): void;
    /** A frame arrived. Only stores the time, because a timer for each frame would cost too much. */
    noteActivity(): void;
    /**
     * Sends a ping now, because the page woke up or the network has changed.
     *
     * @param {number} connectMs how long the connection took to open, which is several times as long
     *   as an answer on a slow network
     */
    wake(connectMs: number): void;
}
