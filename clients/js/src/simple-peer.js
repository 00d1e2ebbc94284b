/**
 * The interface of simple-peer 9.11 for a {@link Peer} of a room, so that code for simple-peer runs
 * after a change of its construction. An entry point of its own, `@signalbox/client/simple-peer`.
 * Owns no connection: the room signals, restarts ICE and reconnects. The differences are in README.md.
 */
import { NAME, nameTracks } from './local-tracks.js';

/** @typedef {import('./peer.js').Peer} Peer */

/** A mistake of the caller, with a code as simple-peer has it. @param {string} code @param {string} message */
const makeError = (code, message) => Object.assign(new Error(message), { code });

export class SimplePeer {
  /** Whether this runtime has WebRTC. */
  static WEBRTC_SUPPORT = typeof globalThis.RTCPeerConnection === 'function';

  /** Whether {@link destroy} was called, or the peer has left. */
  destroyed = false;
  /** Event → its listeners. @type {Map<string, Set<(...details: any[]) => void>>} */
  #listeners = new Map();
  /**
   * Stream → its tracks and their names in {@link Peer.setTrack}; the `prefix` is empty for the first
   * stream, which has the microphone and the camera.
   *
   * @type {Map<MediaStream, { prefix: string, tracks: Map<MediaStreamTrack, string> }>}
   */
  #sent = new Map();
  /** The streams that were reported. @type {WeakSet<MediaStream>} */
  #received = new WeakSet();
  #wasConnected = false;
  #peer;

  /**
   * @param {Peer} peer of a room, as its event `peer` gives it
   * @param {{ stream?: MediaStream, streams?: MediaStream[] }} [options] what to send
   */
  constructor(peer, { stream, streams = stream ? [stream] : [] } = {}) {
    this.#peer = peer;
    for (const one of streams) this.addStream(one);
    // A late listener of a peer is called at once, and the caller has no listener here yet.
    queueMicrotask(() => this.#listen());
  }

  /** Whether this side makes the first offer. */
  get initiator() {
    return !this.#peer.info.polite;
  }

  get connected() {
    return !this.destroyed && this.#wasConnected && this.#peer.dataChannel?.readyState === 'open';
  }

  /** How many bytes of the data channel wait to be sent. */
  get bufferSize() {
    return this.#peer.dataChannel?.bufferedAmount ?? 0;
  }

  /** @param {string} event @param {(...details: any[]) => void} listener */
  on(event, listener) {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(listener));
    return this;
  }

  /** @param {string} event @param {(...details: any[]) => void} listener */
  once(event, listener) {
    const call = (/** @type {any[]} */ ...details) => {
      this.off(event, call);
      listener(...details);
    };
    return this.on(event, call);
  }

  /** @param {string} event @param {(...details: any[]) => void} listener */
  off(event, listener) {
    this.#listeners.get(event)?.delete(listener);
    return this;
  }

  /** @param {string} event @param {(...details: any[]) => void} listener */
  removeListener(event, listener) {
    return this.off(event, listener);
  }

  /** Does nothing, because the room signals; the event `signal` never comes. */
  signal() {}

  /** @param {string | ArrayBuffer | ArrayBufferView | Blob} data */
  send(data) {
    const { dataChannel } = this.#peer;
    if (!dataChannel) throw makeError('ERR_DATA_CHANNEL', 'Wait for the event connect before you send.');
    dataChannel.send(/** @type {any} */ (data));
  }

  /** @param {MediaStream} stream */
  addStream(stream) {
    for (const track of stream.getTracks()) this.addTrack(track, stream);
  }

  /** @param {MediaStream} stream */
  removeStream(stream) {
    for (const track of stream.getTracks()) this.removeTrack(track, stream);
  }

  /** @param {MediaStreamTrack} track @param {MediaStream} stream */
  addTrack(track, stream) {
    const sent = this.#sent.get(stream) ?? { prefix: this.#sent.size > 0 ? `stream-${this.#sent.size + 1}` : '', tracks: new Map() };
    this.#sent.set(stream, sent);
    if (sent.tracks.has(track)) throw makeError('ERR_SENDER_ALREADY_ADDED', 'The track is sent already.');
    const [name] = /** @type {[string, MediaStreamTrack]} */ (nameTracks([...sent.tracks.keys(), track]).at(-1));
    const ownName = sent.prefix ? sent.prefix + name.slice(track.kind.length) : name;
    sent.tracks.set(track, ownName);
    this.#send(ownName, track);
  }

  /** @param {MediaStreamTrack} before @param {MediaStreamTrack | null} after @param {MediaStream} stream */
  replaceTrack(before, after, stream) {
    const name = this.#take(before, stream);
    if (!after) return this.#end(name, stream);
    this.#sent.get(stream)?.tracks.set(after, name);
    return this.#send(name, after);
  }

  /** @param {MediaStreamTrack} track @param {MediaStream} stream */
  removeTrack(track, stream) {
    this.#end(this.#take(track, stream), stream);
  }

  /** @param {(error: unknown, reports?: unknown[]) => void} callback */
  getStats(callback) {
    this.#peer.pc.getStats().then((stats) => callback(null, [...stats.values()]), callback);
  }

  /** Closes the connection; the peer stays in the room. @param {Error} [error] why */
  destroy(error) {
    if (this.destroyed) return;
    this.destroyed = true;
    this.#peer.close();
    if (error) this.#emit('error', error);
    this.#emit('close');
  }

  /** @param {MediaStreamTrack} track @param {MediaStream} stream @returns {string} the name, which is free now */
  #take(track, stream) {
    const tracks = this.#sent.get(stream)?.tracks;
    const name = tracks?.get(track);
    if (name === undefined) throw makeError('ERR_TRACK_NOT_ADDED', 'The track was never added to this stream.');
    tracks?.delete(track);
    return name;
  }

  /** Ends this name, and sends what is left under it: the sound of a screen without its picture. @param {string} name @param {MediaStream} stream */
  #end(name, stream) {
    this.#send(name, null);
    for (const [track, its] of this.#sent.get(stream)?.tracks ?? []) if (its === name) this.#send(name, track);
  }

  /** @param {string} name @param {MediaStreamTrack | null} track */
  #send(name, track) {
    this.#peer.setTrack(name, track).catch((error) => this.destroy(error));
  }

  #listen() {
    const peer = this.#peer;
    // The channel is open, so the connection is there, though its state may follow the first data.
    peer.on('datachannel', (channel) => {
      channel.binaryType = 'arraybuffer';
      channel.addEventListener('message', ({ data }) => this.#emit('data', typeof data === 'string' ? data : new Uint8Array(data)));
      if (this.#wasConnected) return;
      this.#wasConnected = true;
      this.#emit('connect');
    });
    peer.on('track', ({ track, streams }) => this.#onTrack(track, streams.find(({ id }) => NAME.test(id)) ?? peer.stream));
    peer.on('closed', () => this.destroy());
  }

  /** @param {MediaStreamTrack} track @param {MediaStream} stream */
  #onTrack(track, stream) {
    this.#emit('track', track, stream);
    if (this.#received.has(stream)) return;
    this.#received.add(stream);
    // When all its tracks are there.
    queueMicrotask(() => this.#emit('stream', stream));
  }

  /** @param {string} event @param {any[]} details */
  #emit(event, ...details) {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) listener.apply(this, details);
  }
}
