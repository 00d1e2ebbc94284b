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
export function applyConfiguration(configuration, apply, RTCPeerConnection, onRefused) {
  try {
    return apply(configuration);
  } catch {
    const iceServers = (configuration.iceServers ?? []).flatMap(splitUrls).filter((server) => {
      try {
        new RTCPeerConnection({ iceServers: [server] }).close();
        return true;
      } catch (cause) {
        onRefused(new SignalingError('ice_server_refused', `This browser refuses the ICE server ${server.urls}.`, { cause }));
        return false;
      }
    });
    // If the browser accepts each server, another member of the configuration is invalid.
    return apply({ ...configuration, iceServers });
  }
}

/** @param {RTCIceServer} server */
function splitUrls(server) {
  return [server.urls].flat().map((urls) => ({ ...server, urls }));
}
