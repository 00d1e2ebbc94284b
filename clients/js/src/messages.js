/**
 * The frames of `signalbox.v1` as types, and the one place where text from the server becomes an object. Checks what this
 * client relies on; members and types it does not know pass, as section 5 of docs/PROTOCOL.md asks.
 */
import { SignalingError } from './codes.js';

/**
 * @typedef {object} PeerEntry another peer of the room
 * @property {string} peerId
 * @property {string} userId
 * @property {string} [name]
 * @property {string} role
 * @property {Record<string, unknown>} metadata
 * @property {boolean} polite whether *this* side is the polite one toward that peer
 * @property {boolean} detached whether its socket is lost for now
 * @property {boolean} [muted] whether a moderator took `publish` away from it
 *
 * @typedef {Pick<PeerEntry, 'peerId' | 'userId' | 'name' | 'role' | 'metadata'>} Knocker somebody who waits to be let in
 *
 * @typedef {object} RoomInfo what the members are told of the room
 * @property {string} [name]
 * @property {Record<string, unknown>} [metadata]
 * @property {boolean} enabled
 * @property {boolean} locked whether it is closed to newcomers
 * @property {boolean} lobby whether newcomers wait until they are let in
 * @property {'off' | 'optional' | 'required'} e2ee
 * @property {number} [maxPeers]
 * @property {number} [endsAt] when everybody must leave, milliseconds since 1970
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
 * @typedef {object} Joined the first frame of a connection
 * @property {'joined'} type
 * @property {string} peerId
 * @property {string} roomId
 * @property {string} userId
 * @property {string} role
 * @property {string[]} permissions
 * @property {string} node
 * @property {PeerEntry[]} peers the others
 * @property {RoomInfo} [room]
 * @property {Knocker[]} [waiting] for those who may let them in
 * @property {RTCIceServer[]} iceServers
 * @property {RTCIceTransportPolicy} icePolicy
 * @property {string | null} resume the handle to come back with; null where the server offers none
 * @property {number} seq
 * @property {Limits} limits
 * @property {number} pingInterval milliseconds
 * @property {string[]} features
 *
 * @typedef {Omit<Joined, 'type'> & { type: 'resumed', recovered: boolean, lastId: number }} Resumed this peer is back;
 *   `recovered: false`: what is told by `peers` replaces all that was known, and it may come unasked
 *
 * @typedef {{ seq?: number, from: string, id?: number, re?: number }} Forwarded without `seq`: outside the mailbox
 * @typedef {Forwarded & { type: 'offer' | 'answer' | 'pranswer', sdp: string }} Description
 * @typedef {Forwarded & { type: 'rollback' }} Rollback
 * @typedef {Forwarded & { type: 'candidate', candidate: RTCIceCandidateInit }} Candidate
 * @typedef {{ type: 'message', seq?: number, from?: string, id?: number, data: any, room?: boolean }} Message without `from`: the
 *   application's backend says it
 * @typedef {Description | Rollback | Candidate} Signal what a negotiation is made of
 *
 * @typedef {{ seq: number, type: 'peer-joined' | 'peer-updated' } & PeerEntry} PeerFrame
 * @typedef {{ seq: number, type: 'peer-detached' | 'peer-attached', peerId: string }} PeerLink
 * @typedef {{ seq: number, type: 'peer-left', peerId: string, reason: string }} PeerLeft
 * @typedef {{ seq: number, type: 'knock' } & Knocker} Knock
 * @typedef {{ seq: number, type: 'knock-ended', peerId: string, reason: string }} KnockEnded `admitted`, or why it is gone
 * @typedef {{ seq: number, type: 'room-updated' } & RoomInfo} RoomUpdated
 * @typedef {object} Permissions this peer's own, from now on
 * @property {'permissions'} type
 * @property {number} seq
 * @property {string} role
 * @property {string[]} permissions
 * @property {boolean} [muted] whether a moderator took `publish` away
 * @property {RTCIceServer[]} [iceServers]
 * @property {RTCIceTransportPolicy} [icePolicy]
 *
 * @typedef {object} Waiting this peer waits to be let in
 * @property {'waiting'} type
 * @property {string} peerId
 * @property {string} roomId
 * @property {string} userId
 * @property {string} role
 * @property {string | null} resume
 * @property {number} seq
 * @property {Limits} limits
 * @property {number} pingInterval milliseconds
 *
 * @typedef {{ seq?: number, type: 'notice', code: string, message: string }} Notice without `seq`: to everybody
 * @typedef {{ type: 'token-expiring', expiresIn: number }} TokenExpiring milliseconds
 * @typedef {object} TokenRefreshed the newer token counts
 * @property {'token-refreshed'} type
 * @property {number} expiresIn milliseconds
 * @property {string} role
 * @property {string[]} permissions
 * @property {string | null} resume
 *
 * @typedef {object} IceServers
 * @property {'ice-servers'} type
 * @property {RTCIceServer[]} iceServers
 * @property {RTCIceTransportPolicy} icePolicy
 * @property {number} [expiresIn] milliseconds
 *
 * @typedef {{ type: 'duplicate', seq: number, from: string, id: number }} Duplicate an entry that this peer has had; it only counts
 * @typedef {{ type: 'ack', id: number, duplicate?: boolean, durable?: boolean }} Ack
 * @typedef {{ type: 'error', id?: number, code: string, message: string, field?: string, retryMs?: number }} ErrorFrame
 * @typedef {{ type: 'pong', id?: number }} Pong
 * @typedef {{ type: 'goaway', reconnectIn: number }} Goaway
 * @typedef {Joined | Resumed | Waiting | Signal | Message | PeerFrame | PeerLink | PeerLeft | Knock | KnockEnded | RoomUpdated |
 *   Permissions | Notice | TokenExpiring | TokenRefreshed | IceServers | Duplicate | Ack | ErrorFrame | Pong | Goaway} ServerFrame
 */

const forwarded = { from: 'string' };
const peer = { peerId: 'string' };
const entry = { ...peer, userId: 'string', role: 'string', metadata: 'object', polite: 'boolean' };
const beginning = {
  ...peer,
  roomId: 'string',
  userId: 'string',
  role: 'string',
  permissions: 'array',
  peers: 'array',
  iceServers: 'array',
  icePolicy: 'string',
  seq: 'number',
  limits: 'object',
  pingInterval: 'number',
};

/** Type → the members this client relies on, and their kind. @type {Record<string, Record<string, string>>} */
const MEMBERS = {
  joined: beginning,
  resumed: { ...beginning, recovered: 'boolean', lastId: 'number' },
  waiting: { ...peer, roomId: 'string', userId: 'string', role: 'string', seq: 'number', limits: 'object', pingInterval: 'number' },
  duplicate: { seq: 'number', from: 'string', id: 'number' },
  offer: { ...forwarded, sdp: 'string' },
  answer: { ...forwarded, sdp: 'string' },
  pranswer: { ...forwarded, sdp: 'string' },
  rollback: forwarded,
  candidate: { ...forwarded, candidate: 'object' },
  message: { data: 'any' },
  'peer-joined': { seq: 'number', ...entry },
  'peer-updated': { seq: 'number', ...entry },
  'peer-detached': { seq: 'number', ...peer },
  'peer-attached': { seq: 'number', ...peer },
  'peer-left': { seq: 'number', ...peer, reason: 'string' },
  knock: { seq: 'number', ...peer, userId: 'string', role: 'string', metadata: 'object' },
  'knock-ended': { seq: 'number', ...peer, reason: 'string' },
  'room-updated': { seq: 'number', locked: 'boolean' },
  permissions: { seq: 'number', role: 'string', permissions: 'array' },
  'token-expiring': { expiresIn: 'number' },
  'token-refreshed': { expiresIn: 'number', role: 'string', permissions: 'array' },
  'ice-servers': { iceServers: 'array', icePolicy: 'string' },
  notice: { code: 'string', message: 'string' },
  ack: { id: 'number' },
  error: { code: 'string', message: 'string' },
  pong: {},
  goaway: { reconnectIn: 'number' },
};

/** @param {unknown} value */
function kindOf(value) {
  if (Array.isArray(value)) return 'array';
  return value === null ? 'null' : typeof value;
}

/**
 * Reads one text message.
 *
 * @param {unknown} text
 * @returns {ServerFrame | { type: string, seq?: number }} an unknown type comes back as it is
 * @throws {SignalingError} `bad_frame`, with the member at fault, and as `cause` the object if it is one
 */
export function parseFrame(text) {
  let frame;
  try {
    frame = typeof text === 'string' ? JSON.parse(text) : undefined;
  } catch {
    frame = undefined;
  }
  if (kindOf(frame) !== 'object' || typeof frame.type !== 'string') {
    throw new SignalingError('bad_frame', 'The server sent something that is no message.', { field: 'type' });
  }
  if (!Object.hasOwn(MEMBERS, frame.type)) return frame;
  for (const [name, kind] of Object.entries(MEMBERS[frame.type] ?? {})) {
    const fits = kind === 'any' ? Object.hasOwn(frame, name) : kindOf(frame[name]) === kind;
    if (!fits) throw new SignalingError('bad_frame', `The server sent a "${frame.type}" with a wrong member.`, { field: name, cause: frame });
  }
  return frame;
}
