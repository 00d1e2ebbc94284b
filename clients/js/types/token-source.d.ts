export type Grant = import('./http.js').Grant;
export type TokenSourceOptions = {
    /**
     * of the server; default: the origin of the page
     */
    url?: string | URL;
    /**
     * asks your backend for a token and a refresh
     * token; called first, and again when the refresh token is no longer valid
     */
    grant?: () => Promise<Grant> | Grant;
    /**
     * instead of `grant`, with `room`:
     * an ID or access token of your identity provider, or a function that returns a current one
     */
    userToken?: (() => Promise<string> | string) | string;
    /**
     * without `grant`: the room of a guest, or of the user of `userToken`
     */
    room?: string;
    user?: string;
    name?: string;
    /**
     * instead of `room`: an invite code
     */
    invite?: string;
    fetch?: typeof fetch;
};
/**
 * Creates a `getToken` for a client. Each call returns a new token; calls at the same time share
 * one request.
 *
 * @param {TokenSourceOptions} options
 * @returns {() => Promise<string>} rejected with a {@link SignalingError}
 */
export declare function tokenSource(options: TokenSourceOptions): () => Promise<string>;
/**
 * Exchanges a token for a ticket, which opens one connection within half a minute: a value for the
 * option `getTicket`.
 *
 * @param {import('./http.js').Server & { token: string }} options
 * @returns {Promise<string>} rejected with a {@link SignalingError}
 */
export declare function ticketFor({ token, ...server }: import('./http.js').Server & {
    token: string;
}): Promise<string>;
