/** The types of the `signalbox.v1` frames (docs/PROTOCOL.md, sections 4 and 5). */
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
export type RefusedId = {
    id: number;
    code: string;
};
export type Resumed = Omit<Joined, 'type'> & {
    type: 'resumed';
    recovered: boolean;
    lastId: number;
    refused?: RefusedId[];
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
    /**
     * whether a peer of the room may admit this one; absent if the server is
     * an older one
     */
    moderatorPresent?: boolean;
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
export type LobbyUpdated = {
    type: 'lobby-updated';
    moderatorPresent: boolean;
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
export type ServerFrame = Joined | Resumed | WaitingFrame | LobbyUpdated | NegotiationFrame | Message | PeerFrame | PeerAttachment | PeerLeft | KnockFrame | KnockEnded | RoomUpdated | PermissionsFrame | NoticeFrame | TokenExpiring | TokenRefreshed | IceServersFrame | DuplicateFrame | SupersededFrame | Ack | ErrorFrame | PongFrame | GoawayFrame;
/**
 * @typedef {'application' | 'provider' | 'guest' | 'invite'} UserSource who has named a user; for
 *   `guest`, the server checks nothing but the prefix
 *
 * @typedef {object} PeerEntry another peer of the room
 * @property {string} peerId
 * @property {string} userId
 * @property {UserSource} [source] absent if the server is an older one
 * @property {string} [name]
 * @property {string} role
 * @property {Record<string, unknown>} metadata
 * @property {boolean} polite whether *this* side is the polite one toward that peer
 * @property {boolean} detached whether the peer has lost its connection
 * @property {boolean} [muted] whether a moderator removed its permission `publish`
 *
 * @typedef {Pick<PeerEntry, 'peerId' | 'userId' | 'source' | 'name' | 'role' | 'metadata'>} WaitingPeer
 *   a peer in the lobby
 *
 * @typedef {object} RoomInfo the public state of the room
 * @property {string} [name]
 * @property {Record<string, unknown>} [metadata]
 * @property {boolean} enabled
 * @property {boolean} locked whether the room admits no new peers
 * @property {boolean} lobby whether new peers wait until a moderator admits them
 * @property {'off' | 'optional' | 'required'} e2ee
 * @property {number} [maxPeers]
 * @property {number} [endsAt] when all peers must leave, milliseconds since 1970
 *
 * @typedef {object} Limits
 * @property {number} frameBytes
 * @property {number} sdpBytes
 * @property {number} candidateBytes
 * @property {number} dataBytes
 * @property {number} metadataBytes
 * @property {number} roomPeers
 * @property {number} burst
 * @property {number} ratePerSecond
 * @property {number} backlog
 *
 * @typedef {object} Joined the first frame of a new peer
 * @property {'joined'} type
 * @property {string} peerId
 * @property {string} roomId
 * @property {string} userId
 * @property {string} role
 * @property {string[]} permissions
 * @property {string} node
 * @property {PeerEntry[]} peers the other peers
 * @property {RoomInfo} [room]
 * @property {WaitingPeer[]} [waiting] the peers in the lobby; only with the permission `admit`
 * @property {RTCIceServer[]} iceServers
 * @property {RTCIceTransportPolicy} icePolicy
 * @property {string | null} resume the resume handle; null if the server offers none
 * @property {number} seq
 * @property {Limits} limits
 * @property {number} pingInterval milliseconds
 * @property {number} [resumeWindow] milliseconds; absent if the server is an older one
 * @property {string[]} features
 *
 * @typedef {{ id: number, code: string }} RefusedId a message that was refused, with the code of its
 *   answer
 * @typedef {Omit<Joined, 'type'> & { type: 'resumed', recovered: boolean, lastId: number,
 *   refused?: RefusedId[] }} Resumed
 *   this peer was resumed; with `recovered: false` the frame replaces all earlier state, and it may
 *   also come on an open connection
 *
 * @typedef {{ seq?: number, from: string, id?: number, re?: number }} Forwarded without `seq`: by
 *   direct delivery; `re`: the `id` of the offer to which the frame belongs
 * @typedef {Forwarded & { type: 'offer' | 'answer' | 'pranswer', sdp: string }} DescriptionFrame
 * @typedef {Forwarded & { type: 'rollback' }} RollbackFrame
 * @typedef {Forwarded & { type: 'candidate', candidate: RTCIceCandidateInit }} CandidateFrame
 * @typedef {{ type: 'message', seq?: number, from?: string, id?: number, data: any,
 *   room?: boolean }} Message without `from`: sent by the application
 * @typedef {DescriptionFrame | RollbackFrame | CandidateFrame} NegotiationFrame
 *
 * @typedef {{ seq: number, type: 'peer-joined' | 'peer-updated' } & PeerEntry} PeerFrame
 * @typedef {{ seq: number, type: 'peer-detached' | 'peer-attached',
 *   peerId: string }} PeerAttachment
 * @typedef {{ seq: number, type: 'peer-left', peerId: string, reason: string }} PeerLeft
 * @typedef {{ seq: number, type: 'knock' } & WaitingPeer} KnockFrame
 * @typedef {{ seq: number, type: 'knock-ended', peerId: string, reason: string }} KnockEnded
 *   `admitted`, or why the peer no longer waits
 * @typedef {{ seq: number, type: 'room-updated' } & RoomInfo} RoomUpdated
 * @typedef {object} PermissionsFrame the permissions of this peer from now on
 * @property {'permissions'} type
 * @property {number} seq
 * @property {string} role
 * @property {string[]} permissions
 * @property {boolean} [muted] whether a moderator removed `publish`
 * @property {RTCIceServer[]} [iceServers]
 * @property {RTCIceTransportPolicy} [icePolicy]
 *
 * @typedef {object} WaitingFrame this peer is in the lobby
 * @property {'waiting'} type
 * @property {string} peerId
 * @property {string} roomId
 * @property {string} userId
 * @property {string} role
 * @property {boolean} [moderatorPresent] whether a peer of the room may admit this one; absent if the server is
 *   an older one
 * @property {string | null} resume
 * @property {number} seq
 * @property {Limits} limits
 * @property {number} pingInterval milliseconds
 * @property {number} [resumeWindow] milliseconds; absent if the server is an older one
 * @typedef {{ type: 'lobby-updated', moderatorPresent: boolean }} LobbyUpdated
 *
 * @typedef {{ seq?: number, type: 'notice', code: string, message: string }} NoticeFrame without
 *   `seq`: to all rooms
 * @typedef {{ type: 'token-expiring', expiresIn: number }} TokenExpiring milliseconds
 * @typedef {object} TokenRefreshed the server accepted the new token
 * @property {'token-refreshed'} type
 * @property {number} expiresIn milliseconds
 * @property {string} role
 * @property {string[]} permissions
 * @property {string | null} resume
 *
 * @typedef {object} IceServersFrame
 * @property {'ice-servers'} type
 * @property {RTCIceServer[]} iceServers
 * @property {RTCIceTransportPolicy} icePolicy
 * @property {number} [expiresIn] milliseconds
 *
 * @typedef {{ type: 'duplicate', seq: number, from: string, id: number }} DuplicateFrame takes the
 *   place of an entry that this peer already has; it only counts
 * @typedef {{ type: 'superseded', seq: number }} SupersededFrame takes the place of an event
 *   that was dropped; it only counts
 * @typedef {{ type: 'ack', id: number, duplicate?: boolean, durable?: boolean }} Ack
 * @typedef {{ type: 'error', id?: number, code: string, message: string, field?: string,
 *   retryMs?: number }} ErrorFrame
 * @typedef {{ type: 'pong', id?: number }} PongFrame
 * @typedef {{ type: 'goaway', reconnectIn: number }} GoawayFrame
 * @typedef {Joined | Resumed | WaitingFrame | LobbyUpdated | NegotiationFrame | Message | PeerFrame |
 *   PeerAttachment | PeerLeft | KnockFrame | KnockEnded | RoomUpdated | PermissionsFrame |
 *   NoticeFrame | TokenExpiring | TokenRefreshed | IceServersFrame | DuplicateFrame |
 *   SupersededFrame | Ack |
 *   ErrorFrame | PongFrame | GoawayFrame} ServerFrame
 */
export {};
