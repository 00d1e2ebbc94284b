/**
 * @param {import('./client.js').ClientOptions} options
 * @throws {SignalingError} `bad_option` or `not_supported`
 */
export declare function checkClientOptions({ url, token, getToken, WebSocket, fetch }: import('./client.js').ClientOptions): void;
/**
 * @param {{ room?: unknown }} options
 * @throws {SignalingError} `bad_option` or `not_supported`
 */
export declare function checkRoomOptions({ room }: {
    room?: unknown;
}): void;
