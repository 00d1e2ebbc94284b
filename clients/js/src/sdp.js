/** How this client reads and changes session descriptions (RFC 8866). No state. */

/** @param {string} sdp @returns {string[]} the session part, and the media sections */
function splitSections(sdp) {
  return sdp.split(/^(?=m=)/m);
}

/**
 * Rejects the data channel section of a description: port 0 and no place in the bundle (RFC 9429,
 * section 5.2.2), because RTCPeerConnection has no call for it. A changed remote offer makes the
 * browser reject the section in its answer; a changed offer makes the other side reject it. Never
 * apply a changed *local* description: it crashes the renderer process of Chromium.
 *
 * @param {string} sdp
 */
export function rejectDataChannels(sdp) {
  const [session = '', ...media] = splitSections(sdp);
  /** @type {Set<string>} */
  const rejected = new Set();
  const sections = media.map((section) => {
    if (!section.startsWith('m=application ')) return section;
    rejected.add(midOf(section));
    return section.replace(/^m=application \d+/, 'm=application 0');
  });
  if (rejected.size === 0) return sdp;
  const group = (/** @type {string} */ _line, /** @type {string} */ mids, /** @type {string} */ end) => {
    const kept = mids.split(' ').filter((mid) => mid !== '' && !rejected.has(mid));
    return kept.length > 0 ? `a=group:BUNDLE ${kept.join(' ')}${end}` : '';
  };
  return [session.replace(/^a=group:BUNDLE([^\r\n]*)(\r?\n)/gm, group), ...sections].join('');
}

/**
 * Whether one of the descriptions rejects the section of this candidate: the section has port 0 and
 * is not part of a bundle.
 *
 * @param {Pick<RTCPeerConnection, 'localDescription' | 'remoteDescription'>} connection
 * @param {RTCIceCandidateInit} candidate
 */
export function isDeclined({ localDescription, remoteDescription }, { sdpMid, sdpMLineIndex }) {
  return [localDescription, remoteDescription].some((description) => {
    const [, ...media] = splitSections(description?.sdp ?? '');
    const section = media.find((one, index) => (typeof sdpMid === 'string' ? midOf(one) === sdpMid : index === sdpMLineIndex)) ?? '';
    return /^m=\S+ 0 /.test(section) && !section.includes('\na=bundle-only');
  });
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

/** @param {string} section */
function midOf(section) {
  return /^a=mid:(\S+)/m.exec(section)?.[1] ?? '';
}
