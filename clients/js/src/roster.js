/**
 * Who is in the room, kept from `joined` and the presence frames. Owns the map and nothing else.
 *
 * @typedef {import('./messages.js').PeerEntry} PeerEntry
 * @typedef {import('./messages.js').ServerFrame} ServerFrame
 */
export class Roster {
  /** peerId → entry. @type {Map<string, PeerEntry>} */
  peers = new Map();

  /** @param {PeerEntry[]} entries */
  reset(entries) {
    this.peers = new Map(entries.map((entry) => [entry.peerId, entry]));
  }

  /** @param {ServerFrame} frame */
  apply(frame) {
    switch (frame.type) {
      case 'peer-joined':
      case 'peer-updated':
        this.peers.set(frame.peerId, entryOf(frame));
        break;
      case 'peer-detached':
      case 'peer-attached':
        this.#setDetached(frame.peerId, frame.type === 'peer-detached');
        break;
      case 'peer-left':
        this.peers.delete(frame.peerId);
        break;
    }
  }

  /** @param {string} peerId @param {boolean} detached */
  #setDetached(peerId, detached) {
    const entry = this.peers.get(peerId);
    if (entry) this.peers.set(peerId, { ...entry, detached });
  }
}

/**
 * @param {PeerEntry} frame
 * @returns {PeerEntry}
 */
function entryOf({ peerId, userId, name, role, metadata, polite, detached }) {
  return { peerId, userId, name, role, metadata, polite, detached: detached ?? false };
}
