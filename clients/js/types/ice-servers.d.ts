/**
 * The ICE servers that this browser accepts. A browser refuses a whole configuration because of one
 * server, for example Firefox because of a `stuns:` URL. Owns no connection.
 */
import { SignalingError } from './signaling-error.js';
/**
 * Calls `apply` with the configuration, or without the URLs of ICE servers that this browser
 * refuses.
 *
 * @template T
 * @param {RTCConfiguration} configuration
 * @param {(configuration: RTCConfiguration) => T} apply throws if the browser refuses it
 * @param {typeof globalThis.RTCPeerConnection} RTCPeerConnection
 * @param {(error: SignalingError) => void} onRefused called for each URL that is skipped
 * @returns {T}
 */
export declare function applyConfiguration<T>(configuration: RTCConfiguration, apply: (configuration: RTCConfiguration) => T, RTCPeerConnection: typeof globalThis.RTCPeerConnection, onRefused: (error: SignalingError) => void): T;
