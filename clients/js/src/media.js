/**
 * What is sent to many peers at once costs the sender a stream each. This keeps a budget for all of
 * them, and prefers codecs. An entry point of its own, `@signalbox/client/media`. Owns the parameters
 * of the senders; the tracks belong to the room.
 */
import { SignalingError } from './signaling-error.js';

/**
 * @typedef {import('./room.js').Room} Room
 *
 * @typedef {object} SendLimits
 * @property {number} [videoBitrate] for the videos to all peers together, in bits per second
 * @property {number} [audioBitrate] for the sound to each peer, in bits per second
 * @property {number} [maxHeight] the most lines of a video; more are scaled down
 * @property {number} [maxFramerate]
 * @property {string[]} [codecs] names such as `AV1`, `VP9` or `H264`, the best first. A codec that
 *   this browser lacks is left out, and the others follow
 */

/** A video with less is no longer of use. */
const MIN_VIDEO_BITRATE = 100_000;

/**
 * Applies the limits to all connections of a room, now and later. The video budget is shared by the
 * videos that are sent: with three peers, each video gets a third.
 *
 * @param {Room} room
 * @param {SendLimits} limits
 * @returns {{ set: (limits: SendLimits) => void, stop: () => void }} `set` replaces the limits
 * @throws {SignalingError} `bad_option`
 */
export function limitSending(room, limits) {
  const media = new SendLimiter(room);
  media.set(limits);
  return media;
}

class SendLimiter {
  /** @type {SendLimits} */
  #limits = {};
  #room;
  #abort = new AbortController();

  /** @param {Room} room */
  constructor(room) {
    this.#room = room;
    const { signal } = this.#abort;
    room.on('peer', (peer) => {
      peer.on('connection', (pc) => this.#watch(pc), { signal });
      peer.on('closed', () => this.#apply(), { signal });
    }, { signal });
  }

  /** @param {SendLimits} limits */
  set(limits) {
    for (const [field, value] of Object.entries(limits)) {
      const isGood = field === 'codecs' ? Array.isArray(value) : Number(value) > 0;
      if (!isGood) throw new SignalingError('bad_option', `The option ${field} must be ${field === 'codecs' ? 'a list of codecs' : 'a number above 0'}.`, { field });
    }
    this.#limits = limits;
    this.#apply();
  }

  /** Ends the limits for later changes; what was set stays. */
  stop() {
    this.#abort.abort();
  }

  /** @param {RTCPeerConnection} pc */
  #watch(pc) {
    // In the capture phase it runs before the negotiation, which reads the preferences.
    const options = { signal: this.#abort.signal, capture: true };
    for (const name of ['negotiationneeded', 'signalingstatechange']) pc.addEventListener(name, () => this.#apply(), options);
    this.#apply();
  }

  #apply() {
    if (this.#abort.signal.aborted) return;
    const transceivers = [...this.#room.peers.values()].flatMap(({ pc }) => (pc.signalingState === 'closed' ? [] : pc.getTransceivers()));
    const videos = transceivers.filter(({ sender }) => sender.track?.kind === 'video').length;
    for (const transceiver of transceivers) {
      this.#preferCodecs(transceiver);
      void this.#limit(transceiver.sender, videos).catch(() => {
        // The sender was stopped, or a newer change is on its way.
      });
    }
  }

  /** @param {RTCRtpTransceiver} transceiver */
  #preferCodecs(transceiver) {
    const { codecs: wanted = [] } = this.#limits;
    const { kind } = transceiver.receiver.track;
    const codecs = globalThis.RTCRtpReceiver?.getCapabilities?.(kind)?.codecs ?? [];
    const rank = (/** @type {{ mimeType: string }} */ { mimeType }) => {
      const index = wanted.findIndex((name) => `${kind}/${name}`.toLowerCase() === mimeType.toLowerCase());
      return index < 0 ? wanted.length : index;
    };
    if (transceiver.direction === 'stopped' || !codecs.some((codec) => rank(codec) < wanted.length)) return;
    transceiver.setCodecPreferences?.([...codecs].sort((one, other) => rank(one) - rank(other)));
  }

  /** @param {RTCRtpSender} sender @param {number} videos how many are sent */
  async #limit(sender, videos) {
    const { track } = sender;
    if (!track) return;
    const { videoBitrate, audioBitrate, maxHeight, maxFramerate } = this.#limits;
    const parameters = sender.getParameters();
    // Firefox has no encodings before the first negotiation.
    const encodings = parameters.encodings?.length ? parameters.encodings : [{}];
    const isVideo = track.kind === 'video';
    const share = isVideo ? videoBitrate && Math.max(MIN_VIDEO_BITRATE, Math.floor(videoBitrate / videos)) : audioBitrate;
    const { height = 0 } = track.getSettings();
    const wanted = {
      ...(share && { maxBitrate: share }),
      ...(isVideo && maxFramerate && { maxFramerate }),
      ...(isVideo && maxHeight && { scaleResolutionDownBy: Math.max(1, height / maxHeight) }),
    };
    const [first] = encodings;
    const isSet = Object.entries(wanted).every(([name, value]) => /** @type {any} */ (first)[name] === value);
    if (!isSet) await sender.setParameters({ ...parameters, encodings: encodings.map((encoding) => ({ ...encoding, ...wanted })) });
  }
}
