/**
 * What React Native 0.74 with react-native-webrtc 124 has: no page and no EventTarget of its own, and
 * a WebRTC whose objects lack parts of those in a browser. Removes the rest of Node. Import it before
 * the client.
 */
const KEPT = ['Object', 'Function', 'Array', 'Number', 'parseFloat', 'parseInt', 'Infinity', 'NaN', 'undefined', 'Boolean', 'String', 'Symbol', 'Date', 'Promise', 'RegExp', 'Error', 'AggregateError',
  'EvalError', 'RangeError', 'ReferenceError', 'SyntaxError', 'TypeError', 'URIError', 'globalThis', 'JSON', 'Math', 'Intl', 'ArrayBuffer', 'Uint8Array', 'Int8Array', 'Uint16Array', 'Int16Array', 'Uint32Array',
  'Int32Array', 'Float32Array', 'Float64Array', 'Uint8ClampedArray', 'BigInt', 'BigUint64Array', 'BigInt64Array', 'DataView', 'Map', 'Set', 'WeakMap', 'WeakSet', 'WeakRef', 'Proxy', 'Reflect', 'decodeURI',
  'decodeURIComponent', 'encodeURI', 'encodeURIComponent', 'escape', 'unescape', 'eval', 'isFinite', 'isNaN', 'console', 'process', 'setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'setImmediate',
  'clearImmediate', 'queueMicrotask', 'performance', 'AbortController', 'AbortSignal', 'URL', 'URLSearchParams', 'TextEncoder'];

for (const name of Object.getOwnPropertyNames(globalThis)) if (!KEPT.includes(name)) delete globalThis[name];

/** Calls each listener with a plain object. */
class NativeTarget {
  #listeners = [];

  addEventListener(name, listener, { signal, once } = {}) {
    if (signal?.aborted) return;
    const entry = { name, listener, once };
    this.#listeners.push(entry);
    signal?.addEventListener('abort', () => this.#listeners.splice(this.#listeners.indexOf(entry), 1));
  }

  fire(name, details = {}) {
    for (const { name: its, listener } of [...this.#listeners]) if (its === name) listener({ type: name, ...details });
  }
}

let lastId = 0;

export class NativeTrack extends NativeTarget {
  readyState = 'live';
  enabled = true;
  constructor(kind) {
    super();
    Object.assign(this, { kind, id: `track-${(lastId += 1)}` });
  }
}

export class NativeStream extends NativeTarget {
  #tracks;
  id = `stream-${(lastId += 1)}-0123456789-0123456789-012345`;

  constructor(tracks = []) {
    super();
    if (!Array.isArray(tracks)) throw new TypeError('invalid type');
    this.#tracks = [...tracks];
  }
  addTrack(track) {
    this.#tracks.push(track);
  }
  removeTrack(track) {
    this.#tracks = this.#tracks.filter((one) => one !== track);
  }
  getTracks() {
    return [...this.#tracks];
  }
}

/** Has no `currentLocalDescription`, no `canTrickleIceCandidates` and no `icecandidateerror`. */
export class NativeConnection extends NativeTarget {
  static made = [];
  localDescription = null;
  remoteDescription = null;
  signalingState = 'stable';
  connectionState = 'new';
  iceGatheringState = 'new';
  candidates = [];
  #transceivers = [];
  #isAsking = false;

  constructor(configuration) {
    super();
    this.configuration = configuration;
    NativeConnection.made.push(this);
  }

  createDataChannel(label) {
    this.#ask();
    return (this.channel = Object.assign(new NativeTarget(), { label, readyState: 'connecting', close() {} }));
  }

  addTrack(track, ...streams) {
    const sender = { track, streams, replaceTrack: async (other) => void (sender.track = other) };
    this.#transceivers.push({ sender, direction: 'sendrecv', currentDirection: 'sendrecv', receiver: { track: new NativeTrack(track.kind) } });
    this.#ask();
    return sender;
  }

  addTransceiver() {
    return {};
  }

  getTransceivers() {
    return this.#transceivers;
  }

  #ask() {
    if (this.#isAsking) return;
    this.#isAsking = true;
    setImmediate(() => this.fire('negotiationneeded'));
  }

  async createAnswer() {
    return { type: 'answer', sdp: 'native answer' };
  }

  async setLocalDescription(description) {
    const { type, sdp } = description ?? { type: this.signalingState === 'have-remote-offer' ? 'answer' : 'offer', sdp: `native ${this.signalingState === 'have-remote-offer' ? 'answer' : 'offer'}` };
    this.localDescription = { type, sdp, toJSON: () => ({ type, sdp }) };
    this.signalingState = type === 'offer' ? 'have-local-offer' : 'stable';
    this.fire('signalingstatechange');
    const toJSON = () => ({ candidate: 'candidate:1', sdpMid: '0', sdpMLineIndex: 0 });
    setImmediate(() => this.fire('icecandidate', { candidate: { ...toJSON(), toJSON } }));
  }

  async setRemoteDescription({ type, sdp }) {
    this.remoteDescription = { type, sdp };
    this.signalingState = type === 'offer' ? 'have-remote-offer' : 'stable';
    this.fire('signalingstatechange');
  }

  async addIceCandidate(candidate) {
    if (candidate?.candidate) this.candidates.push(candidate.candidate);
  }

  async getStats() {
    return new Map();
  }

  setConnectionState(state) {
    this.connectionState = state;
    this.fire('connectionstatechange');
  }

  setConfiguration() {}
  restartIce() {}
  close() {
    this.isClosed = true;
  }
}
