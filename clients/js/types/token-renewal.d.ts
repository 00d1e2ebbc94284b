import { SignalingError } from './signaling-error.js';
export declare class TokenRenewal {
    #private;
    /**
     * @param {() => Promise<string> | string} getToken
     * @param {(text: string) => void} send
     * @param {(error: SignalingError) => void} onFailed called for each failed attempt, even if another
     *   attempt follows
     */
    constructor(getToken: () => Promise<string> | string, send: (text: string) => void, onFailed: (error: SignalingError) => void);
    /** @param {number} expiresIn the rest of the token's life in milliseconds */
    start(expiresIn: number): void;
    /**
     * Sends a token to the server.
     *
     * @param {string} token
     * @returns {Promise<void>} settles with the answer of the server
     */
    refresh(token: string): Promise<void>;
    /** The server sent `token-refreshed`. */
    onRefreshed(): void;
    /**
     * The server sent an `error` without an id.
     *
     * @param {SignalingError} error
     * @returns {boolean} whether it answers the pending `refresh`
     */
    onError(error: SignalingError): boolean;
    /** The connection is lost; the next connection announces the end of its own token. */
    stop(): void;
}
/** There is no connection on which the server could accept a token. */
export declare function connectionLost(): SignalingError;
