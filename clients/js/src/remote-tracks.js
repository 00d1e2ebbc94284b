/**
 * The tracks that this side receives over one connection, kept by their transceivers. Owns the
 * streams that hold them. A track is dead when its transceiver no longer receives.
 */
import { NAME } from './local-tracks.js';

export class RemoteTracks {
  /** The live tracks that belong to no named stream; the stream stays the same. @type {MediaStream} */
  stream;
  /** Live track → the event that brought it. @type {Map<MediaStreamTrack, RTCTrackEvent>} */
  #events = new Map();
  #pc;
  #options;

  /**
   * @param {RTCPeerConnection} pc
   * @param {{ MediaStream: typeof MediaStream, onTrack: (event: RTCTrackEvent) => void,
   *   onChange: () => void, signal: AbortSignal }} options `onChange`: a track was added or removed
   */
  constructor(pc, options) {
    this.#pc = pc;
    this.#options = options;
    this.stream = new options.MediaStream();
    this.connect(pc);
  }

  /** Receives from this connection only. @param {RTCPeerConnection} pc */
  connect(pc) {
    const { onTrack, onChange, signal } = this.#options;
    const onEnded = () => this.#removeDead();
    this.#pc = pc;
    this.#removeDead();
    pc.addEventListener('track', (event) => {
      const { track, streams } = event;
      this.#events.set(track, event);
      if (!streams.some(({ id }) => NAME.test(id))) this.stream.addTrack(track);
      track.addEventListener('ended', onEnded, { signal });
      onTrack(event);
      onChange();
    }, { signal });
    pc.addEventListener('signalingstatechange', onEnded, { signal });
  }

  /** The events of the live tracks. */
  get events() {
    return [...this.#events.values()];
  }

  /** Stream id or name → the stream as the sender has grouped it, with at least one live track. */
  get streams() {
    return new Map(this.events.flatMap(({ streams }) => streams.map((stream) => [stream.id, stream])));
  }

  /** In `stable`, the directions say which tracks still come. */
  #removeDead() {
    if (this.#pc.signalingState !== 'stable' || this.#events.size === 0) return;
    const receives = (/** @type {RTCRtpTransceiver} */ { currentDirection }) => /recv/.test(currentDirection ?? '');
    const live = this.#pc.getTransceivers().filter(receives).map(({ receiver }) => receiver.track);
    const dead = [...this.#events.keys()].filter((track) => !live.includes(track) || track.readyState === 'ended');
    for (const track of dead) {
      this.#events.delete(track);
      this.stream.removeTrack(track);
    }
    if (dead.length > 0) this.#options.onChange();
  }
}
