/** The only change that this client makes to session descriptions (RFC 8866). No state. */
/**
 * Rejects the data channel section of a description: port 0 and no place in the bundle (RFC 9429,
 * section 5.2.2), because RTCPeerConnection has no call for it. A changed remote offer makes the
 * browser reject the section in its answer; a changed offer makes the other side reject it. Never
 * apply a changed *local* description: it crashes the renderer process of Chromium.
 *
 * @param {string} sdp
 */
export declare function rejectDataChannels(sdp: string): string;
