/** How this client reads and changes session descriptions (RFC 8866). No state. */
/**
 * Rejects the data channel section of a description, which has one at most: port 0 and no place in the bundle (RFC 9429,
 * section 5.2.2), because RTCPeerConnection has no call for it. A changed remote offer makes the
 * browser reject the section in its answer; a changed offer makes the other side reject it. Never
 * apply a changed *local* description: it crashes the renderer process of Chromium.
 *
 * @param {string} sdp
 */
export declare function rejectDataChannels(sdp: string): string;
/**
 * Whether one of the descriptions rejects a section: port 0 (also if the section is part of a bundle).
 *
 * @param {Pick<RTCPeerConnection, 'localDescription' | 'remoteDescription'>} connection
 */
export declare function hasDeclined({ localDescription, remoteDescription }: Pick<RTCPeerConnection, 'localDescription' | 'remoteDescription'>): boolean;
/** Whether two sections have the same mid. @param {string} sdp */
export declare function hasRepeatedMid(sdp: string): boolean;
/** The certificate of the connection. @param {string} sdp */
export declare function fingerprintOf(sdp: string): string | undefined;
