/** The URLs of ICE servers, by the way in which a browser reaches them. */

/** @typedef {'UDP' | 'TCP' | 'TLS'} Transport */

/**
 * The servers with STUN URLs, each with one URL.
 *
 * @param {RTCIceServer[]} iceServers
 */
export function stunServers(iceServers) {
  return splitUrls(iceServers).filter(({ urls }) => /^stun:/i.test(urls));
}

/**
 * The TURN servers that are reached over this transport, each with one URL.
 *
 * @param {RTCIceServer[]} iceServers
 * @param {Transport} transport
 */
export function turnServers(iceServers, transport) {
  return splitUrls(iceServers).filter(({ urls }) => transportOf(urls) === transport);
}

/** @param {RTCIceServer[]} iceServers */
function splitUrls(iceServers) {
  return iceServers.flatMap((server) => [server.urls].flat().map((urls) => ({ ...server, urls })));
}

/**
 * RFC 7065: `turn:` is UDP and `turns:` is TLS, if the URL names no transport. No browser speaks
 * `turns:` over UDP.
 *
 * @param {string} url
 * @returns {Transport | undefined}
 */
function transportOf(url) {
  const [, scheme = '', named] = /^(turns?):[^?]*(?:\?transport=(\w+))?$/i.exec(url) ?? [];
  const transport = named?.toLowerCase();
  if (scheme.toLowerCase() === 'turns') return transport === 'udp' ? undefined : 'TLS';
  if (scheme.toLowerCase() !== 'turn') return undefined;
  return transport === 'tcp' ? 'TCP' : 'UDP';
}
