import { SignalingError } from './codes.js';
export declare class TokenRenewal {
    #private;
    /**
     * @param {{
     *   getToken: () => Promise<string> | string, send: (text: string) => void,
     *   onFailed: (error: SignalingError) => void, random?: () => number,
     * }} options `onFailed` is called for each failed attempt, even if another attempt follows
     */
    constructor({ getToken, send, onFailed, random }: {
        getToken: () => Promise<string> | string;
        send: (text: string) => void;
        onFailed: (error: SignalingError) => void;
        random?: () => number;
    });
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
