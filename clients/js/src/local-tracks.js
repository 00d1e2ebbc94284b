/**
 * The tracks that this side sends over one connection, each on its own transceiver: `audio` and
 * `video`, and further tracks, which have a name and a kind. Tracks with the same name belong
 * together: the other side gets them as a stream with this name. Sends only what the permissions
 * allow. Owns the senders and their directions. Does not negotiate: the connection asks for a
 * negotiation when a direction changes.
 */
import { checkOption } from './option-checks.js';

/** The names of the tracks of a microphone and a camera. */
const MAIN = ['audio', 'video'];

/** A stream id of a browser is longer, so a stream with such an id has its name from a peer. */
export const NAME = /^[\w-]{1,32}$/;

/**
 * Names the tracks of a stream: the first of each kind by its kind, the next ones `video-2`, …
 *
 * @param {readonly MediaStreamTrack[]} tracks
 * @returns {[name: string, track: MediaStreamTrack][]}
 */
export function nameTracks(tracks) {
  return tracks.map((track) => {
    const number = tracks.filter(({ kind }) => kind === track.kind).indexOf(track) + 1;
    return [number > 1 ? `${track.kind}-${number}` : track.kind, track];
  });
}

/**
 * Sets the track of this name and kind; null sets all tracks of this name.
 *
 * @param {Map<string, MediaStreamTrack | null>} tracks `name/kind` → track
 * @param {string} name
 * @param {MediaStreamTrack | null} track
 * @returns {string[]} the keys that were set
 */
export function replaceTracks(tracks, name, track) {
  checkOption('name', NAME.test(name));
  const keys = track ? [`${name}/${track.kind}`] : [...tracks.keys()].filter((key) => nameOf(key) === name);
  for (const key of keys) tracks.set(key, track);
  return keys;
}

/** @param {string} key `name/kind` */
export function nameOf(key) {
  return key.replace(/\/.*/, '');
}

export class LocalTracks {
  /** Name → what tells the other side which tracks belong together. @type {Map<string, MediaStream>} */
  #streams = new Map();
  /** `name/kind` → transceiver. @type {Map<string, RTCRtpTransceiver>} */
  #transceivers = new Map();
  #pc;
  #may;
  #MediaStream;
  #tracks;

  /**
   * @param {RTCPeerConnection} pc
   * @param {(permission: string) => boolean} may whether this side has the permission now
   * @param {typeof globalThis.MediaStream} MediaStream
   * @param {Map<string, MediaStreamTrack | null>} [tracks] `name/kind` → the track to send, also while
   *   sending is not permitted; see {@link applyAll}
   */
  constructor(pc, may, MediaStream, tracks = new Map()) {
    this.#pc = pc;
    this.#may = may;
    this.#MediaStream = MediaStream;
    this.#tracks = tracks;
    // An early connection has its tracks, see early-connection.js.
    for (const transceiver of pc.getTransceivers()) {
      const kind = transceiver.receiver.track.kind;
      this.#transceivers.set(`${kind}/${kind}`, transceiver);
    }
  }

  /** Uses another connection, see {@link applyAll}. @param {RTCPeerConnection} pc */
  connect(pc) {
    this.#pc = pc;
    this.#transceivers.clear();
  }

  /** Adds receivers, so that a side without tracks has sections to offer. */
  addReceivers() {
    for (const kind of MAIN) if (!this.#transceivers.has(`${kind}/${kind}`)) this.#pc.addTransceiver(kind, { direction: 'recvonly' });
  }

  /**
   * Sends this track instead of the current one of this name and kind; null stops sending the name.
   *
   * @param {string} name
   * @param {MediaStreamTrack | null} track
   */
  setTrack(name, track) {
    return this.#applyKeys(replaceTracks(this.#tracks, name, track));
  }

  /** Sends all tracks that the permissions allow. */
  applyAll() {
    return this.#applyKeys([...this.#tracks.keys()]);
  }

  /**
   * Puts the names into a description of this side, in the place of the ids of their streams.
   *
   * @param {string} sdp
   */
  nameStreams(sdp) {
    for (const [name, { id }] of this.#streams) if (name) sdp = sdp.replaceAll(id, name);
    return sdp;
  }

  /** @param {string[]} keys */
  #applyKeys(keys) {
    return Promise.all(keys.map((key) => this.#apply(key)));
  }

  /** @param {string} key */
  async #apply(key) {
    const name = nameOf(key);
    const isMain = MAIN.includes(name);
    // The server counts the sections that send video, and a second one needs `share`.
    const maySend = this.#may('publish') && (isMain || !key.endsWith('video') || this.#may('share'));
    const wanted = this.#tracks.get(key);
    const track = maySend && wanted && wanted.readyState !== 'ended' ? wanted : null;
    // A track that ends is no longer sent.
    track?.addEventListener?.('ended', () => void this.#apply(key).catch(() => {}), { once: true });
    const transceiver = this.#transceivers.get(key);
    if (transceiver && transceiver.direction !== 'stopped') {
      // A camera is switched without a negotiation. Any other track ends for the other side.
      const direction = directionOf(transceiver, track !== null || (maySend && isMain));
      if (direction !== transceiver.direction) transceiver.direction = direction;
      await transceiver.sender.replaceTrack(track);
    } else if (track) {
      this.#transceivers.set(key, this.#add(track, isMain ? '' : name));
    }
  }

  /** @param {MediaStreamTrack} track @param {string} name of its stream */
  #add(track, name) {
    const stream = this.#streams.get(name) ?? new this.#MediaStream();
    this.#streams.set(name, stream);
    try {
      const sender = this.#pc.addTrack(track, stream);
      const added = this.#pc.getTransceivers().find((one) => one.sender === sender);
      if (added && added.direction !== 'stopped') return added;
    } catch {
      // Browsers may choose a transceiver that is stopped, and Chromium then refuses it.
    }
    return this.#pc.addTransceiver(track, { streams: [stream] });
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
