/**
 * Who is in the room and who waits before it, kept from `joined` and the presence frames. Owns the two maps and nothing else.
 *
 * @typedef {import('./messages.js').PeerEntry} PeerEntry
 * @typedef {import('./messages.js').Knocker} Knocker
 * @typedef {import('./messages.js').ServerFrame} ServerFrame
 */
export class Roster {
  /** peerId → entry. @type {Map<string, PeerEntry>} */
  peers = new Map();
  /** peerId → who knocks. @type {Map<string, Knocker>} */
  waiting = new Map();

  /** @param {PeerEntry[]} entries @param {Knocker[]} [waiting] */
  reset(entries, waiting = []) {
    this.peers = new Map(entries.map((entry) => [entry.peerId, entry]));
    this.waiting = new Map(waiting.map((knocker) => [knocker.peerId, knocker]));
  }

  /** Who may let nobody in hears no more of those who knock. */
  forgetKnocks() {
    this.waiting.clear();
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
      case 'knock':
        this.waiting.set(frame.peerId, knockerOf(frame));
        break;
      case 'knock-ended':
        this.waiting.delete(frame.peerId);
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
function entryOf({ peerId, userId, name, role, metadata, polite, detached, muted }) {
  return { peerId, userId, name, role, metadata, polite, detached: detached ?? false, muted: muted ?? false };
}

/**
 * @param {Knocker} frame
 * @returns {Knocker}
 */
function knockerOf({ peerId, userId, name, role, metadata }) {
  return { peerId, userId, name, role, metadata };
}
