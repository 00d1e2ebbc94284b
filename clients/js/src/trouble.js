/**
 * Why two peers are not connected, as far as this side can tell: the rules, without a connection and
 * without a timer (see connection-report.js).
 */

/**
 * @typedef {'turn_refused' | 'turn_unreachable' | 'no_candidates' | 'no_relay' | 'udp_blocked' | 'no_path' | 'answer_missing'} TroubleCode docs/TROUBLESHOOTING.md says what each means
 *
 * @typedef {{ isTurn: boolean, host: string, protocol: 'udp' | 'tcp' | 'tls' }} IceServerUrl
 * @typedef {{ url: string, errorCode: number }} IceError of an `icecandidateerror` event
 *
 * @typedef {object} Findings what is known of a connection that does not work
 * @property {boolean} hasAnswer whether the peer has described its side
 * @property {string[]} local the types of the candidates of this side: `host`, `srflx`, `relay`
 * @property {string[]} remote those of the peer
 * @property {IceServerUrl[]} servers that this side asks for candidates
 * @property {IceError[]} errors
 * @property {boolean} hasGathered whether each server has answered, or has been given up
 * @property {boolean} relayOnly whether the server allows only relay candidates
 * @property {boolean} knowsErrors whether this browser reports the errors of ICE servers
 */

/** The code of browsers for a server that does not answer; other codes are its answers. */
const NO_ANSWER = 701;

/**
 * The rules in their order. A relay that works leaves only `no_path`. Other findings about relays come
 * before those about direct ways, because a relay that works would connect the peers.
 *
 * @param {Findings} findings
 * @returns {TroubleCode}
 */
export function findTrouble(findings) {
  const { hasAnswer, local, servers, errors, hasGathered, relayOnly, knowsErrors } = findings;
  if (!hasAnswer) return 'answer_missing';
  const isWithoutNetwork = hasGathered && knowsErrors && errors.length === 0 && servers.length > 0;
  if (local.length === 0 && (!relayOnly || isWithoutNetwork)) return 'no_candidates';
  if (local.includes('relay')) return 'no_path';
  if (errors.some(({ url, errorCode }) => parseServer(url)?.isTurn && errorCode !== NO_ANSWER)) return 'turn_refused';
  if (isUdpBlocked(findings)) return 'udp_blocked';
  return servers.some(({ isTurn }) => isTurn) ? 'turn_unreachable' : 'no_relay';
}

/**
 * Whether the network of this side lets no UDP out, and not a server is down: no server answers over
 * UDP, and there are several, or the peer has a candidate of a relay.
 *
 * @param {Findings} findings
 */
function isUdpBlocked({ local, remote, servers, errors, hasGathered, knowsErrors }) {
  const overUdp = servers.filter(({ protocol }) => protocol === 'udp');
  const isSilent = (/** @type {IceServerUrl} */ server) => {
    const own = errors.filter(({ url }) => isSame(parseServer(url), server)).map(({ errorCode }) => errorCode);
    return own.every((code) => code === NO_ANSWER) && (own.length > 0 || !hasGathered || !knowsErrors);
  };
  if (local.includes('srflx') || !overUdp.every(isSilent)) return false;
  const hosts = new Set(overUdp.map(({ host }) => host));
  return hosts.size > 1 || (hosts.size === 1 && remote.includes('relay'));
}

/** @param {IceServerUrl | undefined} one @param {IceServerUrl} other */
function isSame(one, other) {
  return one?.host === other.host && one.protocol === other.protocol && one.isTurn === other.isTurn;
}

/**
 * Parses the URL of an ICE server (RFC 7064, RFC 7065); the protocol is that to the server.
 *
 * @param {string} url
 * @returns {IceServerUrl | undefined} undefined for another text
 */
export function parseServer(url) {
  const [, scheme = '', secure, address = '', transport] = /^(stun|turn)(s?):([^?]+)(?:\?transport=(\w+))?/i.exec(url) ?? [];
  if (!scheme) return undefined;
  const isTcp = Boolean(secure) || transport?.toLowerCase() === 'tcp';
  // Without the port: another port is no other way through a firewall.
  return { isTurn: /turn/i.test(scheme), host: address.replace(/:\d+$/, ''), protocol: secure ? 'tls' : isTcp ? 'tcp' : 'udp' };
}

/**
 * The types of the candidates in a description.
 *
 * @param {RTCSessionDescription | null} description
 */
export function candidateTypes(description) {
  return [...(description?.sdp ?? '').matchAll(/^a=candidate:.* typ (\w+)/gm)].map(([, type]) => String(type));
}
