/**
 * What this side sends over one connection: a track of each kind, or nothing where it may not. Owns the senders and their directions; must
 * not negotiate (the connection asks for that by itself when a direction changes).
 */

/** @typedef {Pick<RTCPeerConnection, 'addTrack' | 'addTransceiver' | 'getTransceivers'>} Connection */

/** With leave to send, and without. @type {Record<string, [RTCRtpTransceiverDirection, RTCRtpTransceiverDirection]>} */
const DIRECTIONS = {
  sendrecv: ['sendrecv', 'recvonly'],
  recvonly: ['sendrecv', 'recvonly'],
  sendonly: ['sendonly', 'inactive'],
  inactive: ['sendonly', 'inactive'],
};

export class Outgoing {
  #stream = new MediaStream();
  /** What would be sent, by kind. @type {Map<string, MediaStreamTrack | null>} */
  #tracks = new Map();
  /** @type {Map<string, RTCRtpTransceiver>} */
  #transceivers = new Map();
  #may;
  #pc;

  /** @param {Connection} pc @param {boolean} may whether anything may be sent */
  constructor(pc, may) {
    this.#pc = pc;
    this.#may = may;
  }

  /** Places for what the other side sends, so that a side which sends nothing has something to offer. */
  listen() {
    for (const kind of ['audio', 'video']) this.#pc.addTransceiver(kind, { direction: 'recvonly' });
  }

  /** @param {string} kind @param {MediaStreamTrack | null} track */
  set(kind, track) {
    this.#tracks.set(kind, track);
    return this.#apply(kind);
  }

  /** @param {boolean} may whether anything may be sent from now on */
  async allow(may) {
    if (may === this.#may) return;
    this.#may = may;
    await Promise.all([...this.#tracks.keys()].map((kind) => this.#apply(kind)));
  }

  /** @param {string} kind */
  async #apply(kind) {
    const track = (this.#may && this.#tracks.get(kind)) || null;
    const transceiver = this.#transceivers.get(kind);
    if (transceiver) {
      const direction = DIRECTIONS[transceiver.direction]?.[this.#may ? 0 : 1];
      if (direction && direction !== transceiver.direction) transceiver.direction = direction;
      await transceiver.sender.replaceTrack(track);
    } else if (track) {
      const sender = this.#pc.addTrack(track, this.#stream);
      const added = this.#pc.getTransceivers().find((one) => one.sender === sender);
      if (added) this.#transceivers.set(kind, added);
    }
  }
}
