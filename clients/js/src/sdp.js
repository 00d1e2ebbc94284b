/**
 * The one thing that is changed in a session description (RFC 8866). No state.
 */

/**
 * The description with its data channel section rejected (RFC 9429, section 5.2.2: port 0, and out of the bundle), for a side that may have none:
 * there is no call for that on an RTCPeerConnection. In an offer that arrived the answer then rejects it by itself; in an offer on its way out
 * the other side does. A *local* description must not be changed so: Chromium's renderer dies of it.
 *
 * @param {string} sdp
 */
export function withoutData(sdp) {
  const [session = '', ...media] = sdp.split(/^(?=m=)/m);
  /** @type {Set<string>} */
  const gone = new Set();
  const rest = media.map((section) => {
    if (!section.startsWith('m=application ')) return section;
    gone.add(/^a=mid:(\S+)/m.exec(section)?.[1] ?? '');
    return section.replace(/^m=application \d+/, 'm=application 0');
  });
  if (gone.size === 0) return sdp;
  const group = (/** @type {string} */ _line, /** @type {string} */ mids, /** @type {string} */ end) => {
    const kept = mids.split(' ').filter((mid) => mid !== '' && !gone.has(mid));
    return kept.length > 0 ? `a=group:BUNDLE ${kept.join(' ')}${end}` : '';
  };
  return [session.replace(/^a=group:BUNDLE([^\r\n]*)(\r?\n)/gm, group), ...rest].join('');
}
