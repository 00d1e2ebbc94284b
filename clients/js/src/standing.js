/**
 * What this peer was told of itself and of its room: the latest `joined` or `resumed`, kept up to date by the frames that change parts of it. Owns that
 * one value; must not act on it.
 */

/**
 * @typedef {import('./messages.js').Joined} Joined
 * @typedef {import('./messages.js').Resumed} Resumed
 * @typedef {Omit<import('./messages.js').Permissions, 'seq'>} Permissions
 * @typedef {import('./messages.js').IceServers | Permissions | import('./messages.js').RoomUpdated} Change
 */

export class Standing {
  /** Null before the first `joined`. @type {Joined | Resumed | null} */
  self = null;

  /** Whether this peer has the permission now. @param {string} permission */
  may(permission) {
    return this.self?.permissions.includes(permission) ?? false;
  }

  /**
   * Takes a change over.
   *
   * @param {Change} change
   * @returns {[name: 'room-updated' | 'permissions' | 'ice-servers', detail: any][]} the events that it is
   */
  apply(change) {
    if (!this.self) return [];
    switch (change.type) {
      case 'room-updated':
        return this.#room(change);
      case 'ice-servers':
        return this.#ice(change);
      case 'permissions':
        return [...this.#ice(change), ...this.#permissions(change)];
    }
  }

  /** @param {import('./messages.js').RoomUpdated} change @returns {[name: any, detail: any][]} */
  #room({ type: _type, seq: _seq, ...room }) {
    this.#set({ room });
    return [['room-updated', room]];
  }

  /** @param {{ iceServers?: RTCIceServer[], icePolicy?: RTCIceTransportPolicy }} change @returns {[name: any, detail: any][]} */
  #ice({ iceServers, icePolicy }) {
    if (iceServers === undefined && (icePolicy === undefined || icePolicy === this.self?.icePolicy)) return [];
    this.#set({ ...(iceServers && { iceServers }), ...(icePolicy && { icePolicy }) });
    return [['ice-servers', { iceServers: this.self?.iceServers, icePolicy: this.self?.icePolicy }]];
  }

  /** @param {Permissions} change @returns {[name: any, detail: any][]} */
  #permissions({ role, permissions, muted = false }) {
    const before = this.self;
    this.#set({ role, permissions });
    // A refreshed token says the same again, most of the time.
    const isSame = role === before?.role && String([...permissions].sort()) === String([...before.permissions].sort());
    return isSame ? [] : [['permissions', { role, permissions, muted }]];
  }

  /** @param {Partial<Joined>} change */
  #set(change) {
    this.self = /** @type {Joined | Resumed} */ ({ ...this.self, ...change });
  }
}
