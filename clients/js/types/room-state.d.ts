/**
 * The state of the room as this peer knows it: the latest `joined` or `resumed`, the other peers,
 * and the peers that wait in the lobby. Applies the frames that change them; sends nothing.
 *
 * @typedef {import('./messages.js').Joined} Joined
 * @typedef {import('./messages.js').Resumed} Resumed
 * @typedef {import('./messages.js').PeerEntry} PeerEntry
 * @typedef {import('./messages.js').WaitingPeer} WaitingPeer
 * @typedef {import('./messages.js').ServerFrame} ServerFrame
 * @typedef {Omit<import('./messages.js').PermissionsFrame, 'seq'>} PermissionsChange
 * @typedef {import('./messages.js').IceServersFrame | PermissionsChange |
 *   import('./messages.js').RoomUpdated} SelfChange
 */
export type Joined = import('./messages.js').Joined;
export type Resumed = import('./messages.js').Resumed;
export type PeerEntry = import('./messages.js').PeerEntry;
export type WaitingPeer = import('./messages.js').WaitingPeer;
export type ServerFrame = import('./messages.js').ServerFrame;
export type PermissionsChange = Omit<import('./messages.js').PermissionsFrame, 'seq'>;
export type SelfChange = import('./messages.js').IceServersFrame | PermissionsChange | import('./messages.js').RoomUpdated;
export declare class RoomState {
    /** Null before the first `joined`. @type {Joined | Resumed | null} */
    self: Joined | Resumed | null;
    /** peerId → entry. @type {Map<string, PeerEntry>} */
    peers: Map<string, PeerEntry>;
    /** peerId → peer in the lobby. @type {Map<string, WaitingPeer>} */
    waiting: Map<string, WaitingPeer>;
    /** Whether this peer has the permission now. @param {string} permission */
    may(permission: string): boolean;
    /**
     * @param {Joined | Resumed | null} self
     * @param {PeerEntry[]} [peers]
     * @param {WaitingPeer[]} [waiting]
     */
    replace(self: Joined | Resumed | null, peers?: PeerEntry[], waiting?: WaitingPeer[]): void;
    /**
     * Applies a frame about another peer.
     *
     * @param {any} frame
     * @returns {any} the detail of its event: the record of a new or changed peer, or the frame
     */
    applyPresence(frame: any): any;
    /**
     * Applies a change of the room or of this peer.
     *
     * @param {SelfChange} change
     * @returns {[name: any, detail: any][]} the events to emit
     */
    applyChange({ type, ...frame }: SelfChange): [name: any, detail: any][];
}
