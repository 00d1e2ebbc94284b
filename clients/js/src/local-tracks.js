/**
 * The tracks that this side sends over one connection: at most one of each kind, and none without
 * the permission. Owns the senders and their directions. Does not negotiate: the connection asks
 * for a negotiation when a direction changes.
 */

/**
 * @typedef {Pick<RTCPeerConnection, 'addTrack' | 'addTransceiver' | 'getTransceivers'>}
 *   TrackConnection
 */

/**
 * Direction → the direction with the permission to send, and without it.
 *
 * @type {Record<string, [RTCRtpTransceiverDirection, RTCRtpTransceiverDirection]>}
 */
const DIRECTIONS = {
  sendrecv: ['sendrecv', 'recvonly'],
  recvonly: ['sendrecv', 'recvonly'],
  sendonly: ['sendonly', 'inactive'],
  inactive: ['sendonly', 'inactive'],
};

export class LocalTracks {
  #stream = new MediaStream();
  /**
   * Kind → the track to send, also while sending is not permitted.
   *
   * @type {Map<string, MediaStreamTrack | null>}
   */
  #tracks = new Map();
  /** @type {Map<string, RTCRtpTransceiver>} */
  #transceivers = new Map();
  #permitted;
  #pc;

  /** @param {TrackConnection} pc @param {boolean} permitted whether this side may send */
  constructor(pc, permitted) {
    this.#pc = pc;
    this.#permitted = permitted;
  }

  /** Adds receivers, so that a side without tracks has sections to offer. */
  addReceivers() {
    for (const kind of ['audio', 'video']) this.#pc.addTransceiver(kind, { direction: 'recvonly' });
  }

  /** @param {string} kind @param {MediaStreamTrack | null} track */
  setTrack(kind, track) {
    this.#tracks.set(kind, track);
    return this.#apply(kind);
  }

  /** @param {boolean} permitted whether this side may send from now on */
  async setPermitted(permitted) {
    if (permitted === this.#permitted) return;
    this.#permitted = permitted;
    await Promise.all([...this.#tracks.keys()].map((kind) => this.#apply(kind)));
  }

  /** @param {string} kind */
  async #apply(kind) {
    const track = (this.#permitted && this.#tracks.get(kind)) || null;
    const transceiver = this.#transceivers.get(kind);
    if (transceiver) {
      const direction = DIRECTIONS[transceiver.direction]?.[this.#permitted ? 0 : 1];
      if (direction && direction !== transceiver.direction) transceiver.direction = direction;
      await transceiver.sender.replaceTrack(track);
    } else if (track) {
      const sender = this.#pc.addTrack(track, this.#stream);
      const added = this.#pc.getTransceivers().find((one) => one.sender === sender);
      if (added) this.#transceivers.set(kind, added);
    }
  }
}
