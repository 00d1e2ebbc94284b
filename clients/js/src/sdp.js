/** How this client reads and changes session descriptions (RFC 8866). No state. */

/**
 * Rejects the data channel section of a description, which has one at most: port 0 and no place in the bundle (RFC 9429,
 * section 5.2.2), because RTCPeerConnection has no call for it. A changed remote offer makes the
 * browser reject the section in its answer; a changed offer makes the other side reject it. Never
 * apply a changed *local* description: it crashes the renderer process of Chromium.
 *
 * @param {string} sdp
 */
export function rejectDataChannels(sdp) {
  const [, rejected] = /^m=application [^]*?^a=mid:(\S+)/m.exec(sdp) ?? [];
  if (rejected === undefined) return sdp;
  /** @param {string} line */
  const withoutRejected = (line) => line.split(' ').filter((mid) => mid !== rejected).join(' ');
  return sdp
    .replace(/^m=application \d+/m, 'm=application 0')
    .replace(/^a=group:BUNDLE.*/m, withoutRejected)
    .replace(/^a=group:BUNDLE\r?\n/m, '');
}

/**
 * Whether one of the descriptions rejects a section: port 0 (also if the section is part of a bundle).
 *
 * @param {Pick<RTCPeerConnection, 'localDescription' | 'remoteDescription'>} connection
 */
export function hasDeclined({ localDescription, remoteDescription }) {
  return /^m=\S+ 0 /m.test(`${localDescription?.sdp}\n${remoteDescription?.sdp}`);
}

/**
 * Returns the part of an offer that changes with its media: kinds, codecs, tracks, directions, and
 * whether it restarts ICE. Two offers of the same media differ otherwise, for example in ports and new sections.
 *
 * @param {string} offer
 * @param {string} earlier an earlier offer, or nothing
 */
export function shapeOf(offer, earlier) {
  const lines = offer.match(/^(m=.*|a=msid:.*|a=(sendrecv|sendonly|recvonly|inactive))$/gm) ?? [];
  const isRestart = earlier !== '' && ufragOf(offer) !== ufragOf(earlier);
  return [...lines.map((line) => line.replace(/^(m=\S+) \d+/, '$1')), isRestart].join('\n');
}

/** Whether two sections have the same mid. @param {string} sdp */
export function hasRepeatedMid(sdp) {
  const mids = sdp.match(/^a=mid:\S+/gm) ?? [];
  return new Set(mids).size < mids.length;
}

/** The ICE credential of the first section, which the others share. @param {string} sdp */
function ufragOf(sdp) {
  return /^a=ice-ufrag:(\S+)/m.exec(sdp)?.[1];
}
