/** How this client reads and changes session descriptions (RFC 8866). No state. */
/**
 * Rejects the data channel section of a description: port 0 and no place in the bundle (RFC 9429,
 * section 5.2.2), because RTCPeerConnection has no call for it. A changed remote offer makes the
 * browser reject the section in its answer; a changed offer makes the other side reject it. Never
 * apply a changed *local* description: it crashes the renderer process of Chromium.
 *
 * @param {string} sdp
 */
export declare function rejectDataChannels(sdp: string): string;
/**
 * Whether one of the descriptions rejects the section of this candidate: the section has port 0 and
 * is not part of a bundle.
 *
 * @param {Pick<RTCPeerConnection, 'localDescription' | 'remoteDescription'>} connection
 * @param {RTCIceCandidateInit} candidate
 */
export declare function isDeclined({ localDescription, remoteDescription }: Pick<RTCPeerConnection, 'localDescription' | 'remoteDescription'>, { sdpMid, sdpMLineIndex }: RTCIceCandidateInit): boolean;
/**
 * Returns the part of an offer that changes with its media: kinds, codecs, tracks, directions, and
 * whether it restarts ICE. Two offers of the same media differ otherwise, for example in ports and new sections.
 *
 * @param {string} offer
 * @param {string} earlier an earlier offer, or nothing
 */
export declare function shapeOf(offer: string, earlier: string): string;
/** Whether two sections have the same mid. @param {string} sdp */
export declare function hasRepeatedMid(sdp: string): boolean;
