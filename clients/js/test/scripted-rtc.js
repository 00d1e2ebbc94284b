/** A scripted RTCPeerConnection, since Node has none, and one side of a negotiation with it. */
import { Negotiation } from '../src/negotiation.js';
import { Sending } from '../src/queue.js';

/** The parts of a connection's signaling state that decide who wins (RFC 9429, section 3.2). */
export class ScriptedConnection extends EventTarget {
  signalingState = 'stable';
  iceGatheringState = 'new';
  localDescription = null;
  remoteDescription = null;
  log = [];
  /** What both sides agreed on last: the local text, then the remote one. */
  agreed = [null, null];
  text = (type) => `local ${type}`;
  #needed = false;
  /** An ICE restart is wanted until an offer with it is agreed on. */
  #restart = false;

  async setLocalDescription() {
    const type = this.signalingState === 'have-remote-offer' ? 'answer' : 'offer';
    this.localDescription = { type, sdp: this.text(type) };
    this.log.push(`local ${type}`);
    if (type === 'offer') this.#needed = false;
    this.#enter(type === 'offer' ? 'have-local-offer' : 'stable');
  }

  async setRemoteDescription({ type, sdp }) {
    const wanted = type === 'offer' ? this.signalingState !== 'have-remote-offer' : this.signalingState === 'have-local-offer';
    if (!wanted) throw new DOMException(`${type} in ${this.signalingState}`, 'InvalidStateError');
    if (type === 'offer' && this.signalingState === 'have-local-offer') {
      this.log.push('rolled back');
      this.#needed = this.#restart;
    }
    if (type === 'answer') this.#restart = false;
    this.remoteDescription = { type, sdp };
    this.log.push(`remote ${type}`);
    this.#enter(type === 'offer' ? 'have-remote-offer' : 'stable');
  }

  async addIceCandidate({ candidate }) {
    this.log.push(`add ${candidate}`);
  }

  restartIce() {
    this.log.push('restart');
    this.#restart = true;
    this.need();
  }

  need() {
    this.#needed = true;
    this.#ask();
  }

  #enter(state) {
    this.signalingState = state;
    if (state !== 'stable') return;
    this.agreed = [this.localDescription.sdp, this.remoteDescription.sdp];
    this.#ask();
  }

  /** In a task of its own, as browsers do. */
  #ask() {
    setImmediate(() => this.#needed && this.signalingState === 'stable' && this.dispatchEvent(new Event('negotiationneeded')));
  }

  gather(candidate) {
    const event = new Event('icecandidate');
    event.candidate = candidate === null ? null : { toJSON: () => ({ candidate }) };
    this.dispatchEvent(event);
  }
}

/** One side, and a server that takes each frame at once unless told otherwise. */
export function side(polite, { taken = true, ...options } = {}) {
  const pc = new ScriptedConnection();
  const it = { pc, sent: [], sendings: [], errors: [], onSent: null };
  let id = 0;
  const post = (frame) => {
    const sending = new Sending(frame);
    sending.id = ++id;
    sending.done.catch(() => {});
    if (taken) sending.resolve({ type: 'ack', id });
    it.sendings.push(sending);
    it.sent.push(JSON.parse(sending.encode()));
    it.onSent?.(it.sent.at(-1));
    return sending;
  };
  it.negotiation = new Negotiation({ pc, polite, post, onError: (error) => it.errors.push(error), ...options });
  it.receive = (frame) => it.negotiation.receive({ seq: 1, from: 'x', ...frame });
  return it;
}

export const settle = () => new Promise((resolve) => setImmediate(resolve));
