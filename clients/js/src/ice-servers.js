/**
 * The ICE servers that this browser accepts. A browser refuses a whole configuration because of one
 * server, for example Firefox because of a `stuns:` URL. Owns no connection.
 */
import { SignalingError } from './codes.js';

/**
 * Calls `apply` with the configuration, or without the URLs of ICE servers that this browser
 * refuses.
 *
 * @template T
 * @param {RTCConfiguration} configuration
 * @param {(configuration: RTCConfiguration) => T} apply throws if the browser refuses it
 * @param {(error: SignalingError) => void} onRefused called for each URL that is skipped
 * @returns {T}
 */
export function applyConfiguration(configuration, apply, onRefused) {
  try {
    return apply(configuration);
  } catch {
    const accepted = (configuration.iceServers ?? []).flatMap((server) => acceptedUrls(server, onRefused));
    // If the browser accepts each server, another member of the configuration is invalid.
    return apply({ ...configuration, iceServers: accepted });
  }
}

/**
 * Returns the server with the URLs that this browser accepts, or nothing if it accepts none.
 *
 * @param {RTCIceServer} server
 * @param {(error: SignalingError) => void} onRefused
 */
function acceptedUrls(server, onRefused) {
  const urls = [server.urls ?? []].flat().filter((url) => {
    try {
      new RTCPeerConnection({ iceServers: [{ ...server, urls: [url] }] }).close();
      return true;
    } catch (cause) {
      onRefused(new SignalingError('ice_server_refused', `This browser refuses the ICE server ${url}, so it is skipped.`, { cause }));
      return false;
    }
  });
  return urls.length > 0 ? [{ ...server, urls }] : [];
}
