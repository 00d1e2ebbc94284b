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

/** Whether two sections have the same mid. @param {string} sdp */
export function hasRepeatedMid(sdp) {
  const mids = sdp.match(/^a=mid:\S+/gm) ?? [];
  return new Set(mids).size < mids.length;
}

/** The certificate of the connection. @param {string} sdp */
export function fingerprintOf(sdp) {
  return /^a=fingerprint:(.*)/m.exec(sdp)?.[1];
}
