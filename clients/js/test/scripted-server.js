/** A WebSocket with a scripted server in the test, for failures that a real server rarely has. */
import { SignalingClient, join } from '../src/index.js';

export const ALICE = 'a'.repeat(32);
export const BOB = 'b'.repeat(32);
export const CAROL = 'c'.repeat(32);

export function peerEntry(peerId, more = {}) {
  return { peerId, userId: `user-${peerId[0]}`, name: peerId[0], role: 'guest', metadata: {}, polite: true, detached: false, ...more };
}

export function joinedFrame(more = {}) {
  return {
    type: 'joined',
    peerId: ALICE,
    roomId: 'r',
    userId: 'alice',
    role: 'guest',
    permissions: ['publish', 'message', 'data'],
    node: 'n1',
    peers: [peerEntry(BOB)],
    iceServers: [],
    icePolicy: 'all',
    resume: null,
    seq: 0,
    limits: { frameBytes: 65536, sdpBytes: 49152, candidateBytes: 2048, dataBytes: 16384, metadataBytes: 4096, roomPeers: 100, burst: 1000, ratePerSecond: 100, backlog: 512 },
    pingInterval: 25000,
    features: [],
    ...more,
  };
}

export function resumedFrame(more = {}) {
  return joinedFrame({ type: 'resumed', recovered: true, lastId: 0, resume: 'handle.2', ...more });
}

class ScriptedSocket {
  readyState = 0;
  sent = [];
  constructor(address, protocols) {
    Object.assign(this, { address, protocols });
    this.server.sockets.push(this);
    this.server.onSocket?.(this);
  }

  /** The frames that the client sent. */
  frames(type) {
    return this.sent.map((text) => JSON.parse(text)).filter((frame) => !type || frame.type === type);
  }

  send(text) {
    this.sent.push(text);
    this.server.onFrame?.(this, JSON.parse(text));
  }

  close() {
    this.readyState = 3;
  }

  open() {
    this.readyState = 1;
    this.onopen?.({});
  }

  deliver(frame) {
    this.onmessage?.({ data: typeof frame === 'string' ? frame : JSON.stringify(frame) });
  }

  join(more) {
    this.open();
    this.deliver(joinedFrame(more));
  }

  resume(more) {
    this.open();
    this.deliver(resumedFrame(more));
  }

  /** Closes the connection, as the client sees it. */
  end(code, reason = '') {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
}

/** Creates a scripted server; `next()` resolves with the next socket that the client opens. */
export function scriptedServer() {
  const server = {
    sockets: [],
    onSocket: null,
    onFrame: null,
    next: () => new Promise((resolve) => (server.onSocket = resolve)),
  };
  server.WebSocket = class extends ScriptedSocket {
    get server() {
      return server;
    }
  };
  return server;
}

/**
 * Connects a client to a scripted server. `random` is the jitter: 0 is none. Requests over HTTP fail at
 * once, unless the options have a `fetch`: a real request would end during a later test, and clear a
 * timer of that test.
 */
export async function connectClient({ random = () => 0, ...options } = {}) {
  Math.random = random;
  const server = scriptedServer();
  const states = [];
  const client = new SignalingClient({
    url: 'http://signal.example',
    getToken: () => 'T',
    WebSocket: server.WebSocket,
    fetch: () => Promise.reject(new TypeError('network')),
    ...options,
  });
  client.on('state', (state) => states.push(state));
  const arrived = server.next();
  const joined = client.connect();
  joined.catch(() => {});
  return { client, server, states, joined, socket: await arrived };
}

let users = 0;

/**
 * Starts to join the room r. The `Room` is there at once. Each call has a user of its own, because the
 * same user would get the same `Room`.
 */
export function startJoin(options) {
  let room;
  users += 1;
  const joined = join({ room: 'r', url: 'http://signal.example', user: `user-${users}`, getToken: () => 'T', ...options, onState: (_change, given) => (room = given) });
  joined.catch(() => {});
  return { room, joined };
}

/** Creates a random number generator that repeats its numbers for the same seed (mulberry32). */
export function seededRandom(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
