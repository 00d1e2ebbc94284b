/**
 * The tracks that this side sends over one connection, each by its name and on its own transceiver:
 * `audio` and `video`, and any other name, such as `screen`. Sends only what the permissions allow.
 * Owns the senders and their directions. Does not negotiate: the connection asks for a negotiation
 * when a direction changes.
 */

/**
 * @typedef {object} LocalTrack
 * @property {MediaStreamTrack | null} track
 * @property {MediaStream} stream tells the other side which tracks belong together
 */

/** The names of the tracks of a microphone and a camera. */
const MAIN = ['audio', 'video'];

/**
 * Names the tracks of a stream: the first of each kind by its kind, the others by their ids.
 *
 * @param {readonly MediaStreamTrack[]} tracks
 * @returns {[name: string, track: MediaStreamTrack][]}
 */
export function nameTracks(tracks) {
  const isFirst = (/** @type {MediaStreamTrack} */ track) => tracks.find(({ kind }) => kind === track.kind) === track;
  return tracks.map((track) => [isFirst(track) ? track.kind : track.id, track]);
}

export class LocalTracks {
  #stream = new MediaStream();
  /** Name → the track to send, also while sending is not permitted. @type {Map<string, LocalTrack>} */
  #tracks = new Map();
  /** @type {Map<string, RTCRtpTransceiver>} */
  #transceivers = new Map();
  /** The connection, also after {@link connect}. @type {RTCPeerConnection} */
  pc;
  #may;

  /**
   * @param {RTCPeerConnection} pc
   * @param {(permission: string) => boolean} may whether this side has the permission now
   */
  constructor(pc, may) {
    this.pc = pc;
    this.#may = may;
  }

  /** Uses another connection, see {@link applyAll}. @param {RTCPeerConnection} pc */
  connect(pc) {
    this.pc = pc;
    this.#transceivers.clear();
  }

  /** Adds receivers, so that a side without tracks has sections to offer. */
  addReceivers() {
    for (const kind of MAIN) if (!this.#transceivers.has(kind)) this.pc.addTransceiver(kind, { direction: 'recvonly' });
  }

  /**
   * Sends this track instead of the current one of this name; null stops sending. A track that ends
   * is no longer sent.
   *
   * @param {string} name
   * @param {MediaStreamTrack | null} track
   * @param {MediaStream} [stream] default: the stream of microphone and camera. A name keeps its first
   *   stream, because Chromium may ignore `setStreams`
   */
  setTrack(name, track, stream = this.#stream) {
    if (track?.readyState === 'ended') track = null;
    this.#tracks.set(name, { track, stream });
    const onEnded = () => this.#tracks.get(name)?.track === track && void this.setTrack(name, null).catch(() => {});
    track?.addEventListener?.('ended', onEnded, { once: true });
    return this.#apply(name);
  }

  /** Sends all tracks that the permissions allow. */
  applyAll() {
    return Promise.all([...this.#tracks.keys()].map((name) => this.#apply(name)));
  }

  /**
   * Whether this side may send a track. The server counts the sections that send video, and a second
   * one needs `share`.
   *
   * @param {string} name
   * @param {MediaStreamTrack | null} track
   */
  #maySend(name, track) {
    const isExtraVideo = !MAIN.includes(name) && track?.kind === 'video';
    return this.#may('publish') && (!isExtraVideo || this.#may('share'));
  }

  /** @param {string} name */
  async #apply(name) {
    const { track: wanted = null, stream = this.#stream } = this.#tracks.get(name) ?? {};
    const maySend = this.#maySend(name, wanted);
    const track = maySend ? wanted : null;
    const transceiver = this.#transceivers.get(name);
    if (transceiver && transceiver.direction !== 'stopped') {
      // A camera is switched without a negotiation. Any other track ends for the other side.
      const direction = directionOf(transceiver, track !== null || (maySend && MAIN.includes(name)));
      if (direction !== transceiver.direction) transceiver.direction = direction;
      await transceiver.sender.replaceTrack(track);
    } else if (track) {
      this.#transceivers.set(name, this.#add(track, stream));
    }
  }

  /** @param {MediaStreamTrack} track @param {MediaStream} stream */
  #add(track, stream) {
    try {
      const sender = this.pc.addTrack(track, stream);
      const added = this.pc.getTransceivers().find((one) => one.sender === sender);
      if (added && added.direction !== 'stopped') return added;
    } catch {
      // Browsers may choose a transceiver that is stopped, and Chromium then refuses it.
    }
    return this.pc.addTransceiver(track, { streams: [stream] });
  }
}

/**
 * Returns the direction that receives as before.
 *
 * @param {RTCRtpTransceiver} transceiver
 * @param {boolean} sends
 * @returns {RTCRtpTransceiverDirection}
 */
function directionOf({ direction }, sends) {
  if (/recv/.test(direction)) return sends ? 'sendrecv' : 'recvonly';
  return sends ? 'sendonly' : 'inactive';
}
