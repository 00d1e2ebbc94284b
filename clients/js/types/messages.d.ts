export type UserSource = 'application' | 'provider' | 'guest' | 'invite';
export type PeerEntry = {
    peerId: string;
    userId: string;
    /**
     * absent if the server is an older one
     */
    source?: UserSource;
    name?: string;
    role: string;
    metadata: Record<string, unknown>;
    /**
     * whether *this* side is the polite one toward that peer
     */
    polite: boolean;
    /**
     * whether the peer has lost its connection
     */
    detached: boolean;
    /**
     * whether a moderator removed its permission `publish`
     */
    muted?: boolean;
};
export type WaitingPeer = Pick<PeerEntry, 'peerId' | 'userId' | 'source' | 'name' | 'role' | 'metadata'>;
export type RoomInfo = {
    name?: string;
    metadata?: Record<string, unknown>;
    enabled: boolean;
    /**
     * whether the room admits no new peers
     */
    locked: boolean;
    /**
     * whether new peers wait until a moderator admits them
     */
    lobby: boolean;
    e2ee: 'off' | 'optional' | 'required';
    maxPeers?: number;
    /**
     * when all peers must leave, milliseconds since 1970
     */
    endsAt?: number;
};
export type Limits = {
    frameBytes: number;
    sdpBytes: number;
    candidateBytes: number;
    dataBytes: number;
    metadataBytes: number;
    roomPeers: number;
    burst: number;
    ratePerSecond: number;
    backlog: number;
};
export type Joined = {
    type: 'joined';
    peerId: string;
    roomId: string;
    userId: string;
    role: string;
    permissions: string[];
    node: string;
    /**
     * the other peers
     */
    peers: PeerEntry[];
    room?: RoomInfo;
    /**
     * the peers in the lobby; only with the permission `admit`
     */
    waiting?: WaitingPeer[];
    iceServers: RTCIceServer[];
    icePolicy: RTCIceTransportPolicy;
    /**
     * the resume handle; null if the server offers none
     */
    resume: string | null;
    seq: number;
    limits: Limits;
    /**
     * milliseconds
     */
    pingInterval: number;
    /**
     * milliseconds; absent if the server is an older one
     */
    resumeWindow?: number;
    features: string[];
};
export type Resumed = Omit<Joined, 'type'> & {
    type: 'resumed';
    recovered: boolean;
    lastId: number;
};
export type Forwarded = {
    seq?: number;
    from: string;
    id?: number;
    re?: number;
};
export type DescriptionFrame = Forwarded & {
    type: 'offer' | 'answer' | 'pranswer';
    sdp: string;
};
export type RollbackFrame = Forwarded & {
    type: 'rollback';
};
export type CandidateFrame = Forwarded & {
    type: 'candidate';
    candidate: RTCIceCandidateInit;
};
export type Message = {
    type: 'message';
    seq?: number;
    from?: string;
    id?: number;
    data: any;
    room?: boolean;
};
export type NegotiationFrame = DescriptionFrame | RollbackFrame | CandidateFrame;
export type PeerFrame = {
    seq: number;
    type: 'peer-joined' | 'peer-updated';
} & PeerEntry;
export type PeerAttachment = {
    seq: number;
    type: 'peer-detached' | 'peer-attached';
    peerId: string;
};
export type PeerLeft = {
    seq: number;
    type: 'peer-left';
    peerId: string;
    reason: string;
};
export type KnockFrame = {
    seq: number;
    type: 'knock';
} & WaitingPeer;
export type KnockEnded = {
    seq: number;
    type: 'knock-ended';
    peerId: string;
    reason: string;
};
export type RoomUpdated = {
    seq: number;
    type: 'room-updated';
} & RoomInfo;
export type PermissionsFrame = {
    type: 'permissions';
    seq: number;
    role: string;
    permissions: string[];
    /**
     * whether a moderator removed `publish`
     */
    muted?: boolean;
    iceServers?: RTCIceServer[];
    icePolicy?: RTCIceTransportPolicy;
};
export type WaitingFrame = {
    type: 'waiting';
    peerId: string;
    roomId: string;
    userId: string;
    role: string;
    resume: string | null;
    seq: number;
    limits: Limits;
    /**
     * milliseconds
     */
    pingInterval: number;
    /**
     * milliseconds; absent if the server is an older one
     */
    resumeWindow?: number;
};
export type NoticeFrame = {
    seq?: number;
    type: 'notice';
    code: string;
    message: string;
};
export type TokenExpiring = {
    type: 'token-expiring';
    expiresIn: number;
};
export type TokenRefreshed = {
    type: 'token-refreshed';
    /**
     * milliseconds
     */
    expiresIn: number;
    role: string;
    permissions: string[];
    resume: string | null;
};
export type IceServersFrame = {
    type: 'ice-servers';
    iceServers: RTCIceServer[];
    icePolicy: RTCIceTransportPolicy;
    /**
     * milliseconds
     */
    expiresIn?: number;
};
export type DuplicateFrame = {
    type: 'duplicate';
    seq: number;
    from: string;
    id: number;
};
export type SupersededFrame = {
    type: 'superseded';
    seq: number;
};
export type Ack = {
    type: 'ack';
    id: number;
    duplicate?: boolean;
    durable?: boolean;
};
export type ErrorFrame = {
    type: 'error';
    id?: number;
    code: string;
    message: string;
    field?: string;
    retryMs?: number;
};
export type PongFrame = {
    type: 'pong';
    id?: number;
};
export type GoawayFrame = {
    type: 'goaway';
    reconnectIn: number;
};
export type ServerFrame = Joined | Resumed | WaitingFrame | NegotiationFrame | Message | PeerFrame | PeerAttachment | PeerLeft | KnockFrame | KnockEnded | RoomUpdated | PermissionsFrame | NoticeFrame | TokenExpiring | TokenRefreshed | IceServersFrame | DuplicateFrame | SupersededFrame | Ack | ErrorFrame | PongFrame | GoawayFrame;
/**
 * Parses one text message.
 *
 * @param {unknown} text
 * @returns {ServerFrame | { type: string, seq?: number }} a frame of an unknown
 *   type is returned unchanged
 * @throws {SignalingError} `bad_frame`, with the invalid member, and the parsed object as `cause`
 */
export declare function parseFrame(text: unknown): ServerFrame | {
    type: string;
    seq?: number;
};
