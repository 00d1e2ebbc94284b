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

  /** @param {PeerEntry[]} peers @param {WaitingPeer[]} [waiting] */
  replacePeers(peers, waiting = []) {
    this.peers = new Map(peers.map((peer) => [peer.peerId, peer]));
    this.waiting = new Map(waiting.map((peer) => [peer.peerId, peer]));
  }

  /**
   * Applies a frame about another peer.
   *
   * @param {ServerFrame} frame
   */
  applyPresence(frame) {
    switch (frame.type) {
      case 'peer-joined':
      case 'peer-updated':
        this.peers.set(frame.peerId, toPeerEntry(frame));
        break;
      case 'peer-detached':
      case 'peer-attached':
        this.#setDetached(frame.peerId, frame.type === 'peer-detached');
        break;
      case 'peer-left':
        this.peers.delete(frame.peerId);
        break;
      case 'knock':
        this.waiting.set(frame.peerId, toWaitingPeer(frame));
        break;
      case 'knock-ended':
        this.waiting.delete(frame.peerId);
        break;
    }
  }

  /**
   * Applies a change of the room or of this peer.
   *
   * @param {SelfChange} change
   * @returns {[name: 'room-updated' | 'permissions' | 'ice-servers', detail: any][]} the events to
   *   emit
   */
  applyChange(change) {
    if (!this.self) return [];
    switch (change.type) {
      case 'room-updated':
        return this.#applyRoom(change);
      case 'ice-servers':
        return this.#applyIce(change);
      case 'permissions':
        return [...this.#applyIce(change), ...this.#applyPermissions(change)];
    }
  }

  /** @param {string} peerId @param {boolean} detached */
  #setDetached(peerId, detached) {
    const entry = this.peers.get(peerId);
    if (entry) this.peers.set(peerId, { ...entry, detached });
  }

  /** @param {import('./messages.js').RoomUpdated} change @returns {[name: any, detail: any][]} */
  #applyRoom({ type: _type, seq: _seq, ...room }) {
    this.#patchSelf({ room });
    return [['room-updated', room]];
  }

  /**
   * @param {{ iceServers?: RTCIceServer[], icePolicy?: RTCIceTransportPolicy }} change
   * @returns {[name: any, detail: any][]}
   */
  #applyIce({ iceServers, icePolicy }) {
    const isSame = icePolicy === undefined || icePolicy === this.self?.icePolicy;
    if (iceServers === undefined && isSame) return [];
    this.#patchSelf({ ...(iceServers && { iceServers }), ...(icePolicy && { icePolicy }) });
    return [['ice-servers', { iceServers: this.self?.iceServers, icePolicy: this.self?.icePolicy }]];
  }

  /** @param {PermissionsChange} change @returns {[name: any, detail: any][]} */
  #applyPermissions({ role, permissions, muted = false }) {
    const before = this.self;
    this.#patchSelf({ role, permissions });
    // A refreshed token usually has the same permissions.
    const isSame = role === before?.role && String([...permissions].sort()) === String([...before.permissions].sort());
    return isSame ? [] : [['permissions', { role, permissions, muted }]];
  }

  /** @param {Partial<Joined>} change */
  #patchSelf(change) {
    this.self = /** @type {Joined | Resumed} */ ({ ...this.self, ...change });
  }
}

/**
 * @param {PeerEntry} frame
 * @returns {PeerEntry}
 */
function toPeerEntry({ peerId, userId, source, name, role, metadata, polite, detached, muted }) {
  return { peerId, userId, source, name, role, metadata, polite, detached: detached ?? false, muted: muted ?? false };
}

/**
 * @param {WaitingPeer} frame
 * @returns {WaitingPeer}
 */
function toWaitingPeer({ peerId, userId, source, name, role, metadata }) {
  return { peerId, userId, source, name, role, metadata };
}
