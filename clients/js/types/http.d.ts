/**
 * The HTTP requests of a client: tokens, tickets, and the reason of a refused upgrade. Converts
 * problem details (RFC 9457) into a {@link SignalingError}. Stores nothing.
 *
 * An answer may be unreadable: a browser hides it from a page whose origin the server does not
 * allow, and a proxy may answer instead of the server. Then the error is `unreadable` and names the
 * likely cause. Only an error with a `status` is a verdict of the server.
 */
import { SignalingError } from './signaling-error.js';
export type Server = {
    url?: string | URL;
    fetch?: typeof globalThis.fetch;
};
export type Grant = {
    token: string;
    refreshToken?: string;
    expiresIn?: number;
};
/**
 * @typedef {{ url?: string | URL, fetch?: typeof globalThis.fetch }} Server `url`: its base address;
 *   default: the origin of the page
 * @typedef {{ token: string, refreshToken?: string, expiresIn?: number }} Grant `expiresIn` in
 *   seconds
 */
/**
 * Returns the address of an endpoint below the base address of the server.
 *
 * @param {string | URL | undefined} base `https://host[/prefix]`; default: the origin of the page
 * @param {string} path without a leading slash
 */
export declare function endpointUrl(base: string | URL | undefined, path: string): URL;
/**
 * Returns the WebSocket address of the server.
 *
 * @param {string | URL | undefined} base
 * @param {number} [since] the last entry that a resuming peer has read
 */
export declare function signalAddress(base: string | URL | undefined, since?: number): string;
/**
 * Requests a token for a guest: `POST /auth/token` without an API key.
 *
 * @param {Server & { room: string, user?: string, name?: string }} options
 * @returns {Promise<string>} rejected with a {@link SignalingError}
 */
export declare function guestToken({ room, user, name, ...server }: Server & {
    room: string;
    user?: string;
    name?: string;
}): Promise<string>;
/** @param {Record<string, unknown>} body @returns {RequestInit} */
export declare function jsonRequest(body: Record<string, unknown>): RequestInit;
/**
 * Asks over HTTP why an upgrade failed, because a browser cannot read the status of an upgrade.
 *
 * @param {Server} server
 * @param {{ token?: string, resume?: string }} credential a token, or a handle
 * @returns {Promise<SignalingError>}
 */
export declare function fetchRefusal(server: Server, { token, resume }: {
    token?: string;
    resume?: string;
}): Promise<SignalingError>;
/**
 * Sends a request and returns the JSON object of a good answer.
 *
 * @param {Server} server
 * @param {string} path
 * @param {string} member what a good answer contains
 * @param {RequestInit} init
 * @param {number} [deadlineMs]
 * @returns {Promise<any>} rejected with a {@link SignalingError}
 */
export declare function request({ url, fetch }: Server, path: string, member: string, init: RequestInit, deadlineMs?: number): Promise<any>;
