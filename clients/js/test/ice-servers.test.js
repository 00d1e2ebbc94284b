/** ICE servers that a browser refuses, and peers whose connection cannot be created. */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { mockTime, restoreTime } from './mock-time.js';
import { BOB, CAROL, peerEntry, scriptedServer, startJoin } from './scripted-server.js';
import { settle } from './scripted-rtc.js';

/** As Firefox does, it refuses `stuns:` URLs, and a whole configuration because of one of them. */
class PickyConnection extends EventTarget {
  signalingState = 'stable';
  connectionState = 'new';
  static broken = false;
  constructor(configuration) {
    super();
    if (PickyConnection.broken) throw new DOMException('too many connections', 'UnknownError');
    this.setConfiguration(configuration);
  }
  setConfiguration(configuration) {
    const urls = configuration.iceServers.flatMap(({ urls: some }) => some);
    if (urls.some((url) => url.startsWith('stuns:')) || configuration.bundlePolicy === 'no-such') throw new DOMException('no stuns:', 'NotSupportedError');
    this.configuration = configuration;
  }
  createDataChannel = () => new EventTarget();
  getTransceivers = () => [];
  restartIce() {}
  close() {}
}

const GLOBALS = { RTCPeerConnection: PickyConnection, MediaStream: class {}, WebSocket: null };
before(() => Object.assign(globalThis, GLOBALS));
after(() => Object.keys(GLOBALS).forEach((name) => delete globalThis[name]));
beforeEach(mockTime);
afterEach(() => {
  PickyConnection.broken = false;
  restoreTime();
});

const STUN = { urls: ['stun:s.example'] };
const MIXED = { urls: ['turn:t.example', 'stuns:s.example'], username: 'u', credential: 'c' };
const REFUSED = { urls: 'stuns:s.example' };

/** Joins a room with Bob and Carol in it. */
async function joinRoom({ iceServers = [], rtc } = {}) {
  const server = scriptedServer();
  globalThis.WebSocket = server.WebSocket;
  const arrived = server.next();
  const { room, joined: inside } = startJoin({ rtc });
  const errors = [];
  room.on('error', ({ peerId, error }) => errors.push([peerId[0], error.name]));
  room.on('peer', (peer) => peer.on('error', (error) => errors.push([peer.peerId[0], error.code, error.message])));
  const socket = await arrived;
  socket.join({ resume: 'handle.1', iceServers, peers: [peerEntry(BOB), peerEntry(CAROL)] });
  await inside;
  await settle();
  return { room, socket, errors };
}

test('an ICE server that this browser refuses is skipped and reported, and all peers are connected', async () => {
  const { room, errors } = await joinRoom({ iceServers: [STUN, MIXED, REFUSED] });
  for (const peer of room.peers.values()) assert.deepEqual(peer.pc.configuration.iceServers, [{ urls: 'stun:s.example' }, { ...MIXED, urls: 'turn:t.example' }]);
  assert.deepEqual([room.peers.size, errors.length, errors[0].slice(0, 2)], [2, 4, ['b', 'ice_server_refused']]);
  assert.match(errors[0][2], /stuns:s\.example/);
});

test('new ICE servers are applied without the refused ones', async () => {
  const { room, socket, errors } = await joinRoom();
  socket.deliver({ type: 'ice-servers', iceServers: [REFUSED, STUN], icePolicy: 'all' });
  await settle();
  for (const peer of room.peers.values()) assert.deepEqual(peer.pc.configuration.iceServers, [{ urls: 'stun:s.example' }]);
  assert.deepEqual(errors.map(([peer, code]) => [peer, code]), [['b', 'ice_server_refused'], ['c', 'ice_server_refused']]);
});

test('a connection that cannot be created is reported for each peer, and tried again with new ICE servers', async () => {
  PickyConnection.broken = true;
  const { room, socket, errors } = await joinRoom();
  assert.deepEqual([room.peers.size, room.client.peers.size, errors], [0, 2, [['b', 'UnknownError'], ['c', 'UnknownError']]]);
  PickyConnection.broken = false;
  socket.deliver({ type: 'ice-servers', iceServers: [STUN], icePolicy: 'all' });
  assert.deepEqual([...room.peers.keys()], [BOB, CAROL]);
});

test('another invalid member of the configuration is reported, and no ICE server is blamed', async () => {
  const { room, errors } = await joinRoom({ iceServers: [STUN], rtc: { bundlePolicy: 'no-such' } });
  assert.deepEqual([room.peers.size, errors], [0, [['b', 'NotSupportedError'], ['c', 'NotSupportedError']]]);
});
