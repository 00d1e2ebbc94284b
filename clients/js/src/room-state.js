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

export class RoomState {
  /** Null before the first `joined`. @type {Joined | Resumed | null} */
  self = null;
  /** peerId → entry. @type {Map<string, PeerEntry>} */
  peers = new Map();
  /** peerId → peer in the lobby. @type {Map<string, WaitingPeer>} */
  waiting = new Map();

  /** Whether this peer has the permission now. @param {string} permission */
  may(permission) {
    return this.self?.permissions.includes(permission) ?? false;
  }

  /**
   * @param {Joined | Resumed | null} self
   * @param {PeerEntry[]} [peers]
   * @param {WaitingPeer[]} [waiting]
   */
  replace(self, peers = [], waiting = []) {
    this.self = self;
    this.peers = new Map(peers.map((peer) => [peer.peerId, peer]));
    this.waiting = new Map(waiting.map((peer) => [peer.peerId, peer]));
  }

  /**
   * Applies a frame about another peer.
   *
   * @param {any} frame
   * @returns {any} the detail of its event: the record of a new or changed peer, or the frame
   */
  applyPresence(frame) {
    const { type, seq, ...record } = frame;
    const { peerId } = record;
    const known = this.peers.get(peerId);
    const entry = { detached: false, muted: false, ...record };
    switch (type) {
      case 'peer-joined':
      case 'peer-updated':
        this.peers.set(peerId, entry);
        return entry;
      case 'peer-detached':
      case 'peer-attached':
        if (known) this.peers.set(peerId, { ...known, detached: type === 'peer-detached' });
        break;
      case 'peer-left':
        this.peers.delete(peerId);
        break;
      case 'knock':
        this.waiting.set(peerId, record);
        return record;
      case 'knock-ended':
        this.waiting.delete(peerId);
    }
    return frame;
  }

  /**
   * Applies a change of the room or of this peer.
   *
   * @param {SelfChange} change
   * @returns {[name: any, detail: any][]} the events to emit
   */
  applyChange({ type, ...frame }) {
    const { seq, ...change } = /** @type {any} */ (frame);
    const before = this.self;
    if (!before) return [];
    if (type === 'room-updated') {
      this.self = { ...before, room: change };
      return [[type, change]];
    }
    const after = (this.self = { ...before, ...change });
    const { role, permissions, iceServers, icePolicy } = after;
    /** @type {[string, object][]} */
    const events = [];
    if (change.iceServers || icePolicy !== before.icePolicy) events.push(['ice-servers', { iceServers, icePolicy }]);
    // A refreshed token usually has the same permissions.
    const textOf = (/** @type {Joined | Resumed} */ self) => [self.role, ...[...self.permissions].sort()].join();
    if (textOf(after) !== textOf(before)) events.push(['permissions', { role, permissions, muted: change.muted ?? false }]);
    return events;
  }
}
