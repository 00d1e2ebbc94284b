/** The only change that this client makes to session descriptions (RFC 8866). No state. */

/**
 * Rejects the data channel section of a description: port 0 and no place in the bundle (RFC 9429,
 * section 5.2.2), because RTCPeerConnection has no call for it. A changed remote offer makes the
 * browser reject the section in its answer; a changed offer makes the other side reject it. Never
 * apply a changed *local* description: it crashes the renderer process of Chromium.
 *
 * @param {string} sdp
 */
export function rejectDataChannels(sdp) {
  const [session = '', ...media] = sdp.split(/^(?=m=)/m);
  /** @type {Set<string>} */
  const rejected = new Set();
  const sections = media.map((section) => {
    if (!section.startsWith('m=application ')) return section;
    rejected.add(/^a=mid:(\S+)/m.exec(section)?.[1] ?? '');
    return section.replace(/^m=application \d+/, 'm=application 0');
  });
  if (rejected.size === 0) return sdp;
  const group = (/** @type {string} */ _line, /** @type {string} */ mids, /** @type {string} */ end) => {
    const kept = mids.split(' ').filter((mid) => mid !== '' && !rejected.has(mid));
    return kept.length > 0 ? `a=group:BUNDLE ${kept.join(' ')}${end}` : '';
  };
  return [session.replace(/^a=group:BUNDLE([^\r\n]*)(\r?\n)/gm, group), ...sections].join('');
}
