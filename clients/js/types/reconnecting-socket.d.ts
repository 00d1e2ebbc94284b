import { SignalingError } from './signaling-error.js';
export type ErrorFrame = import('./messages.js').ErrorFrame;
export type Credential = {
    token: string;
    resume?: undefined;
    since?: undefined;
} | {
    token?: undefined;
    resume: string;
    since?: number;
};
export type ConnectOptions = {
    getToken: () => Promise<string> | string;
    getTicket?: import('./client.js').GetTicket;
    url?: string | URL;
    WebSocket: typeof WebSocket;
    fetch: typeof fetch;
    handleStorage?: import('./resume-handle.js').HandleStorage | null;
};
export type SocketCallbacks = {
    /**
     * the last entry of the mailbox that was read
     */
    since: () => number;
    onText: (text: string) => void;
    /**
     * the socket is closed, or a new one replaces it
     */
    onDown: () => void;
    onState: (state: 'connecting' | 'waiting' | 'paused', details?: {
        error: SignalingError;
        retryInMs: number;
    }) => void;
    /**
     * no attempt follows
     */
    onStopped: (error: SignalingError) => void;
};
export declare class ReconnectingSocket {
    #private;
    /** @param {ConnectOptions} options @param {SocketCallbacks} callbacks */
    constructor(options: ConnectOptions, callbacks: SocketCallbacks);
    start(): void;
    /** Closes the socket; no timer and no attempt follows until {@link resume}. */
    pause(): void;
    resume(): void;
    /** Closes the socket and makes no further attempt. @param {SignalingError} error */
    stop(error: SignalingError): void;
    /**
     * As {@link stop}, and tells the server that this peer has left, also if the socket is only
     * opening or lost.
     *
     * @param {SignalingError} error
     */
    leave(error: SignalingError): void;
    /** @param {string} text */
    send(text: string): void;
    /** Closes the socket and reconnects. @param {string} reason a code of `LOCAL_CODES` */
    drop(reason: string): void;
    /**
     * `joined`, `resumed` or `waiting` arrived: the connection is open.
     *
     * @param {{ resume: string | null, pingInterval: number, resumeWindow?: number }} frame
     */
    markUp({ resume, pingInterval, resumeWindow }: {
        resume: string | null;
        pingInterval: number;
        resumeWindow?: number;
    }): void;
    /** @param {string | null} resume the handle that belongs to a new token */
    setHandle(resume: string | null): void;
    /** @param {number} reconnectIn milliseconds, from a `goaway` */
    reconnectIn(reconnectIn: number): void;
    /** @param {ErrorFrame} frame an `error` without an id */
    noteError(frame: ErrorFrame): void;
    /** The page woke up, or the network has changed: the socket may be dead. */
    wake(): void;
}
