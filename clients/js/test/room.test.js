/** The lifetime of peer connections, with a counting fake; browser tests use real ones. */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, mock, test } from 'node:test';
import { mockTime, restoreTime } from './mock-time.js';
import { ALICE, BOB, CAROL, joinedFrame, peerEntry, resumedFrame, scriptedServer, startJoin } from './scripted-server.js';

class CountedConnection extends EventTarget {
  signalingState = 'stable';
  connectionState = 'new';
  restarts = 0;
  closed = false;
  createDataChannel = () => new EventTarget();
  getTransceivers = () => [];
  restartIce = () => (this.restarts += 1);
  close = () => (this.closed = true);
  setConfiguration = (configuration) => Object.assign(this, { configuration });
}

const GLOBALS = { RTCPeerConnection: CountedConnection, MediaStream: class {}, WebSocket: class {} };
before(() => Object.assign(globalThis, GLOBALS));
after(() => Object.keys(GLOBALS).forEach((name) => delete globalThis[name]));
beforeEach(mockTime);
afterEach(restoreTime);

const settle = () => new Promise((resolve) => setImmediate(resolve));

/** Joins a room with Bob in it. */
async function joinRoom() {
  const server = scriptedServer();
  globalThis.WebSocket = server.WebSocket;
  const arrived = server.next();
  const { room, joined } = startJoin();
  const made = [];
  const ends = [];
  room.on('peer', (peer) => {
    made.push(peer);
    peer.on('closed', (why) => ends.push([peer.peerId[0], why]));
  });
  const socket = await arrived;
  socket.open();
  socket.deliver(joinedFrame({ resume: 'handle.1' }));
  await joined;
  const resume = async (more) => {
    socket.deliver(resumedFrame(more));
    await settle();
  };
  return { room, server, socket, made, ends, resume, bob: room.peers.get(BOB) };
}

test('recovered: true changes no connection', async () => {
  const { room, bob, resume, made } = await joinRoom();
  await resume({ recovered: true, peers: [] });
  assert.deepEqual([room.peers.get(BOB), bob.pc.restarts, made.length], [bob, 0, 1]);
});

test('after recovered: false a present peer keeps its connection and renegotiates, and a new peer is connected', async () => {
  const { room, bob, resume, made, ends } = await joinRoom();
  const infos = [];
  bob.on('info', ({ detached }) => infos.push(detached));
  await resume({ recovered: false, peers: [peerEntry(BOB, { detached: true }), peerEntry(CAROL)] });
  assert.deepEqual([room.peers.get(BOB), bob.pc.restarts, bob.pc.closed], [bob, 1, false]);
  assert.deepEqual(infos, [true]);
  assert.deepEqual(made.map(({ peerId }) => peerId), [BOB, CAROL]);
  mock.timers.tick(60_000);
  assert.deepEqual(ends, []);
});

test('a peer that is missing from the snapshot is closed after five seconds', async () => {
  const { bob, resume, ends } = await joinRoom();
  await resume({ recovered: false, peers: [] });
  mock.timers.tick(4999);
  assert.deepEqual([bob.pc.closed, bob.pc.restarts], [false, 0]);
  mock.timers.tick(1);
  assert.deepEqual([bob.pc.closed, ends], [true, [['b', 'left']]]);
});

test('a missing peer with a working connection is closed after 45 seconds', async () => {
  const { bob, resume, ends } = await joinRoom();
  bob.pc.connectionState = 'connected';
  await resume({ recovered: false, peers: [] });
  mock.timers.tick(40_000);
  assert.equal(bob.pc.closed, false);
  mock.timers.tick(5000);
  assert.deepEqual([bob.pc.closed, ends], [true, [['b', 'left']]]);
});

test('a missing peer with a closed data channel is closed after five seconds', async () => {
  const { bob, resume } = await joinRoom();
  bob.pc.connectionState = 'connected';
  bob.dataChannel = { readyState: 'closed' };
  await resume({ recovered: false, peers: [] });
  mock.timers.tick(5000);
  assert.equal(bob.pc.closed, true);
});

for (const [how, comeBack] of [
  ['a peer-joined', ({ socket }) => socket.deliver({ type: 'peer-joined', seq: 1, ...peerEntry(BOB) })],
  ['another snapshot', ({ resume }) => resume({ recovered: false, peers: [peerEntry(BOB)] })],
]) {
  test(`a missing peer that returns with ${how} keeps its only connection`, async () => {
    const context = await joinRoom();
    const { room, bob, resume, made, ends } = context;
    await resume({ recovered: false, peers: [] });
    mock.timers.tick(3000);
    await comeBack(context);
    await settle();
    mock.timers.tick(60_000);
    assert.deepEqual([room.peers.get(BOB), bob.pc.restarts, made.length, ends], [bob, 1, 1, []]);
  });
}

test('another snapshot without the peer does not restart the five seconds', async () => {
  const { bob, resume } = await joinRoom();
  await resume({ recovered: false, peers: [] });
  mock.timers.tick(4000);
  await resume({ recovered: false, peers: [] });
  mock.timers.tick(1000);
  assert.equal(bob.pc.closed, true);
});

test('a connection without a route is failed and restarts ICE; one that fails at once restarts it every three seconds', async () => {
  const { bob } = await joinRoom();
  mock.timers.tick(20_000);
  assert.deepEqual([bob.state, bob.pc.restarts], ['connecting', 0], 'nothing is agreed yet');
  bob.pc.remoteDescription = {};
  mock.timers.tick(20_000);
  assert.deepEqual([bob.state, bob.pc.restarts], ['failed', 1]);
  const fail = () => {
    bob.pc.connectionState = 'failed';
    bob.pc.dispatchEvent(new Event('connectionstatechange'));
  };
  mock.timers.tick(3000);
  fail();
  mock.timers.tick(0);
  assert.equal(bob.pc.restarts, 2, 'the first restart is immediate');
  for (let tries = 0; tries < 30; tries += 1) {
    fail();
    mock.timers.tick(200);
  }
  assert.equal(bob.pc.restarts, 4, 'two more in six seconds');
  bob.pc.connectionState = 'connected';
  bob.pc.dispatchEvent(new Event('connectionstatechange'));
  mock.timers.tick(60_000);
  assert.deepEqual([bob.state, bob.pc.restarts], ['connected', 4]);
  bob.close();
});

test('after three restarts without success the impolite side makes a new connection with the same tracks', async () => {
  const made = [];
  const RTCPeerConnection = class extends CountedConnection {
    remoteDescription = {};
    senders = [];
    getTransceivers = () => this.senders.map((sender) => ({ sender, direction: 'sendrecv' }));
    constructor() {
      super();
      made.push(this);
    }
    addTrack(track) {
      const sender = { track, replaceTrack: async () => {} };
      this.senders.push(sender);
      return sender;
    }
  };
  for (const polite of [false, true]) {
    made.length = 0;
    const server = scriptedServer();
    const arrived = server.next();
    const media = { getTracks: () => [Object.assign(new EventTarget(), { kind: 'video', readyState: 'live' })] };
    const { room, joined } = startJoin({ RTCPeerConnection, WebSocket: server.WebSocket, media });
    const socket = await arrived;
    socket.join({ peers: [peerEntry(BOB, { polite })] });
    await joined;
    const bob = room.peers.get(BOB);
    const first = bob.pc;
    const connections = [];
    first.dispatchEvent(Object.assign(new Event('datachannel'), { channel: Object.assign(new EventTarget(), { label: 'signalbox', readyState: 'open' }) }));
    assert.ok(bob.dataChannel);
    bob.on('connection', (pc) => connections.push(pc));
    const fail = async () => {
      bob.pc.connectionState = 'failed';
      bob.pc.dispatchEvent(new Event('connectionstatechange'));
      mock.timers.tick(3_000);
      await settle();
    };
    for (let n = 0; n < 3; n += 1) await fail();
    assert.deepEqual([bob.pc === first, first.restarts], [true, 3]);
    await fail();
    if (polite) {
      assert.deepEqual([bob.pc === first, first.restarts], [true, 4], 'the polite side waits for the other one');
    } else {
      assert.deepEqual([bob.pc === made[1], first.closed, bob.pc.senders.length, connections], [true, true, 1, [first, made[1]]]);
      assert.equal(bob.dataChannel, null, 'a late listener does not get the old one');
      bob.pc.connectionState = 'connected';
      bob.pc.getStats = async () => new Map();
      bob.pc.dispatchEvent(new Event('connectionstatechange'));
      assert.equal(bob.state, 'connected');
    }
    room.leave();
  }
});

test('no_such_peer does not close a connection at once', async () => {
  const { bob, socket, made } = await joinRoom();
  made[0].pc.dispatchEvent(Object.assign(new Event('icecandidate'), { candidate: { toJSON: () => ({ candidate: 'host' }) } }));
  const [{ id }] = socket.frames('candidate');
  socket.deliver({ type: 'error', id, code: 'no_such_peer', message: '' });
  await settle();
  assert.equal(bob.pc.closed, false);
  socket.deliver({ type: 'peer-left', seq: 1, peerId: BOB, reason: 'left' });
  assert.equal(bob.pc.closed, true);
});

test('the peers stay while the connection to the server is lost', async () => {
  const { room, bob, socket } = await joinRoom();
  socket.end(1006);
  mock.timers.tick(20_000);
  assert.deepEqual([room.peers.get(BOB), bob.pc.closed, bob.pc.restarts], [bob, false, 0]);
});

test('a new peer connects to all peers again, also to peers that return later', async () => {
  const { room, bob, server, socket, made, ends } = await joinRoom();
  const arrived = server.next();
  socket.end(4004, 'session_gone');
  mock.timers.runAll();
  const again = await arrived;
  again.join({ peerId: 'd'.repeat(32) });
  assert.deepEqual([bob.pc.closed, made[1].pc.closed], [true, false]);
  assert.deepEqual([made.length, ends, room.peers.get(BOB) === made[1]], [2, [['b', 'session_gone']], true]);
  again.deliver(resumedFrame({ recovered: false, peers: [] }));
  mock.timers.tick(5000);
  again.deliver(resumedFrame({ recovered: false, peers: [peerEntry(BOB)] }));
  assert.equal(made.length, 3);
});

test('a connection that the page has closed stays closed', async () => {
  const { room, bob, resume, made } = await joinRoom();
  bob.close();
  await resume({ recovered: false, peers: [peerEntry(BOB)] });
  assert.deepEqual([room.peers.size, made.length], [0, 1]);
});

test('leave closes every connection and stops all timers', async () => {
  const { room, bob, resume, socket } = await joinRoom();
  await resume({ recovered: false, peers: [] });
  room.leave();
  assert.equal(bob.pc.closed, true);
  socket.end(1000, 'left');
  const now = Date.now();
  mock.timers.runAll();
  assert.equal(Date.now(), now);
  assert.equal(room.client.peerId, ALICE);
});

test('the handle has its own sessionStorage key for each room and user, and none with null', async () => {
  const kept = new Map();
  globalThis.sessionStorage = { getItem: (key) => kept.get(key) ?? null, setItem: () => {}, removeItem: (key) => asked.push(key) };
  const asked = [];
  try {
    for (const more of [{}, { room: 'other' }, { user: 'ada' }, { handleStorage: null }]) {
      const { room } = startJoin({ user: undefined, getToken: () => new Promise(() => {}), ...more });
      room.leave();
    }
  } finally {
    delete globalThis.sessionStorage;
  }
  assert.equal(new Set(asked).size, 3);
});

/** How this peer can learn that its token is for another room. */
const WRONG_ROOMS = {
  'the server admits this peer': joinedFrame({ roomId: 'other', peers: [peerEntry(BOB)] }),
  'this peer waits in the lobby': { ...joinedFrame({ roomId: 'other' }), type: 'waiting' },
};

for (const [name, frame] of Object.entries(WRONG_ROOMS)) {
  test(`join refuses another room: ${name}`, async () => {
    const server = scriptedServer();
    globalThis.WebSocket = server.WebSocket;
    const arrived = server.next();
    const { room, joined } = startJoin();
    const made = [];
    room.on('peer', (peer) => made.push(peer));
    const socket = await arrived;
    socket.open();
    socket.deliver(frame);
    assert.deepEqual(socket.frames('leave').length, 1);
    await assert.rejects(joined, { code: 'wrong_room', retryable: false, message: /for the room other, and not for r/ });
    assert.deepEqual(made, []);
    mock.timers.runAll();
    await settle();
    assert.equal(server.sockets.length, 1, 'no attempt follows');
  });
}

test('a peer without a name is called as its user', async () => {
  const { room, socket, bob } = await joinRoom();
  assert.equal(bob.name, 'b');
  for (const [peerId, name] of [[CAROL, ''], ['d'.repeat(32), undefined]]) {
    socket.deliver({ type: 'peer-joined', seq: room.peers.size, ...peerEntry(peerId, { name }) });
    assert.equal(room.peers.get(peerId).name, `user-${peerId[0]}`);
  }
});
