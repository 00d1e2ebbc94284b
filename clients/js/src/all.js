/** All entry points together: the exports of the file `signalbox.js` that a server offers. */
export { SignalingClient } from './client.js';
export { CLOSE_CODES, ERROR_CODES, LOCAL_CODES, TROUBLE_CODES, explain } from './codes.js';
export { earlyConnection } from './early-connection.js';
export { guestToken } from './http.js';
export { admit, deny, end, kick, lock, mute, setLobby } from './moderation.js';
export { limitSending } from './media.js';
export { Peer } from './peer.js';
export { answerRequests, request } from './requests.js';
export { join } from './room.js';
export { SignalingError } from './signaling-error.js';
export { ticketFor, tokenSource } from './token-source.js';

/**
 * @typedef {import('./client.js').ClientOptions} ClientOptions
 * @typedef {import('./client.js').ClientState} ClientState
 * @typedef {import('./client.js').StateChange} StateChange
 * @typedef {import('./resume-handle.js').HandleStorage} HandleStorage
 * @typedef {import('./messages.js').Ack} Ack
 * @typedef {import('./messages.js').Joined} Joined
 * @typedef {import('./messages.js').Resumed} Resumed
 * @typedef {import('./messages.js').PeerEntry} PeerEntry
 * @typedef {import('./messages.js').WaitingPeer} WaitingPeer
 * @typedef {import('./messages.js').RoomInfo} RoomInfo
 * @typedef {import('./http.js').Grant} Grant
 * @typedef {import('./token-source.js').TokenSourceOptions} TokenSourceOptions
 * @typedef {import('./messages.js').Message} Message
 * @typedef {import('./moderation.js').PeerReference} PeerReference
 * @typedef {import('./connection-report.js').Trouble} Trouble
 * @typedef {import('./connection-report.js').Diagnosis} Diagnosis
 * @typedef {import('./trouble.js').TroubleCode} TroubleCode
 * @typedef {import('./peer.js').PeerOptions} PeerOptions
 * @typedef {import('./peer.js').PeerState} PeerState
 * @typedef {import('./room.js').Room} Room
 * @typedef {import('./room.js').RoomOptions} RoomOptions
 */
