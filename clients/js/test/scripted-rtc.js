/** A scripted RTCPeerConnection, because Node has none, and one side of a negotiation with it. */
import { Negotiation } from '../src/negotiation.js';
import { PendingMessage } from '../src/send-queue.js';

/** The signaling states of a connection that matter for glare (RFC 9429, section 3.2). */
export class ScriptedConnection extends EventTarget {
  signalingState = 'stable';
  iceGatheringState = 'new';
  localDescription = null;
  remoteDescription = null;
  currentLocalDescription = null;
  log = [];
  /** The local and the remote description of the last stable state. */
  agreed = [null, null];
  text = (type) => `local ${type}`;
  /** Whether it asks for a negotiation after a rollback, as Firefox does and Chromium does not. */
  firesAfterRollback = false;
  #needed = false;
  /** Whether an ICE restart is still necessary. */
  #restart = false;

  async createOffer() {
    return { type: 'offer', sdp: this.text('offer') };
  }

  async createAnswer() {
    return { type: 'answer', sdp: this.text('answer') };
  }

  async setLocalDescription({ type, sdp = this.text(type) } = { type: this.signalingState === 'have-remote-offer' ? 'answer' : 'offer' }) {
    if (type === 'rollback') return this.#rollBack();
    this.localDescription = { type, sdp };
    this.log.push(`local ${type}`);
    if (type === 'offer') this.#needed = false;
    this.#setState(type === 'offer' ? 'have-local-offer' : 'stable');
  }

  #rollBack() {
    this.log.push('rolled back');
    this.localDescription = this.currentLocalDescription;
    this.signalingState = 'stable';
    this.#needed = this.firesAfterRollback;
    this.#fireIfNeeded();
  }

  async setRemoteDescription({ type, sdp }) {
    if (type === 'rollback') return this.#rollBack();
    const wanted = type === 'offer' ? this.signalingState !== 'have-remote-offer' : this.signalingState === 'have-local-offer';
    if (!wanted) throw new DOMException(`${type} in ${this.signalingState}`, 'InvalidStateError');
    if (type === 'offer' && this.signalingState === 'have-local-offer') {
      this.log.push('rolled back');
      this.#needed = this.#restart;
    }
    if (type === 'answer') this.#restart = false;
    this.remoteDescription = { type, sdp };
    this.log.push(`remote ${type}`);
    this.#setState(type === 'offer' ? 'have-remote-offer' : 'stable');
  }

  async addIceCandidate({ candidate }) {
    this.log.push(`add ${candidate}`);
  }

  restartIce() {
    this.log.push('restart');
    this.#restart = true;
    this.requestNegotiation();
  }

  requestNegotiation() {
    this.#needed = true;
    this.#fireIfNeeded();
  }

  #setState(state) {
    this.signalingState = state;
    if (state !== 'stable') return;
    this.currentLocalDescription = this.localDescription;
    this.agreed = [this.localDescription.sdp, this.remoteDescription.sdp];
    this.#fireIfNeeded();
  }

  /** Fires the event in a later task, as browsers do. */
  #fireIfNeeded() {
    setImmediate(() => this.#needed && this.signalingState === 'stable' && this.dispatchEvent(new Event('negotiationneeded')));
  }

  gather(candidate) {
    const event = new Event('icecandidate');
    event.candidate = candidate === null ? null : { candidate, toJSON: () => ({ candidate }) };
    this.dispatchEvent(event);
  }
}

/** Creates one side. With `accepted`, its server accepts each frame at once. */
export function createSide(polite, { accepted = true, random, ...options } = {}) {
  if (random) Math.random = random;
  const side = { pc: new ScriptedConnection(), sent: [], messages: [], errors: [], replaced: 0, onSent: null };
  let id = 0;
  const post = (frame) => {
    const message = new PendingMessage(frame);
    message.id = ++id;
    message.done.catch(() => {});
    if (accepted) message.resolve({ type: 'ack', id });
    side.messages.push(message);
    side.sent.push(JSON.parse(message.encode()));
    side.onSent?.(side.sent.at(-1));
    return message;
  };
  const replaceConnection = () => {
    const { text, firesAfterRollback } = side.pc;
    side.replaced += 1;
    side.pc = Object.assign(new ScriptedConnection(), { text, firesAfterRollback });
    side.pc.requestNegotiation();
    return side.pc;
  };
  const onError = (error) => side.errors.push(error);
  side.negotiation = new Negotiation({ pc: side.pc, polite, post, onError, replaceConnection, isReachable: () => true, mayUseData: () => true, ...options });
  side.receive = (frame) => side.negotiation.receive({ seq: 1, from: 'x', ...frame });
  return side;
}

export const settle = () => new Promise((resolve) => setImmediate(resolve));
