/** `join`: the lobby, the same room twice, the end of a join, late listeners, and injected parts. */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, mock, test } from 'node:test';
import { join } from '../src/index.js';
import { mockTime, restoreTime } from './mock-time.js';
import { ALICE, BOB, CAROL, joinedFrame, peerEntry, resumedFrame, scriptedServer } from './scripted-server.js';
import { SilentConnection, SilentStream } from './silent-rtc.js';

before(() => Object.assign(globalThis, { RTCPeerConnection: SilentConnection, MediaStream: SilentStream }));
after(() => ['RTCPeerConnection', 'MediaStream'].forEach((name) => delete globalThis[name]));
beforeEach(mockTime);
afterEach(restoreTime);

const settle = () => new Promise((resolve) => setImmediate(resolve));
const LOBBY = { ...joinedFrame({ resume: 'handle.1' }), type: 'waiting' };

let number = 0;

/** A server, and the options for a room that no other test joins. */
function setUp(more = {}) {
  const server = scriptedServer();
  number += 1;
  return { server, options: { url: `http://signal-${number}.example`, room: 'r', getToken: () => 'T', WebSocket: server.WebSocket, ...more } };
}

/** Joins with Bob in the room. */
async function joinRoom(more) {
  const { server, options } = setUp(more);
  const arrived = server.next();
  const joined = join(options);
  const socket = await arrived;
  socket.join({ resume: 'handle.1' });
  return { server, options, socket, room: await joined };
}

test('join resolves in the room, and tells each state before and after', async () => {
  const states = [];
  const rooms = new Set();
  const onState = ({ state }, room) => {
    states.push(state);
    rooms.add(room);
  };
  const { server, options } = setUp({ onState });
  const arrived = server.next();
  const joined = join(options);
  assert.deepEqual(states, ['connecting'], 'the page can show the room at once');
  const socket = await arrived;
  socket.open();
  socket.deliver(LOBBY);
  assert.deepEqual(states, ['connecting', 'lobby']);
  await settle();
  socket.deliver(joinedFrame());
  const room = await joined;
  assert.deepEqual([room.state, [...rooms], room.client.peerId], ['open', [room], ALICE]);
  socket.end(4513, 'removed');
  const reason = await room.left;
  assert.deepEqual([states.slice(2), reason.code, room.state], [['open', 'closed'], 'removed', 'closed']);
});

test('the same room is joined once, and again after it has ended', async () => {
  const { server, options, room } = await joinRoom();
  assert.equal(await join(options), room);
  assert.equal(await join({ ...options, signal: new AbortController().signal }), room);
  assert.equal(server.sockets.length, 1);
  room.leave();
  const arrived = server.next();
  const again = join(options);
  const socket = await arrived;
  const once = join(options);
  socket.join();
  assert.notEqual(await again, room);
  assert.equal(await again, await once);
  (await again).leave();
});

for (const [difference, more] of Object.entries({ room: { room: 's' }, user: { user: 'u' }, name: { name: 'n' }, url: { url: 'http://other.example' } })) {
  test(`another ${difference} is another room`, async () => {
    const { server, options, room } = await joinRoom();
    const arrived = server.next();
    const other = join({ ...options, ...more });
    (await arrived).join({ roomId: more.room ?? 'r' });
    assert.notEqual(await other, room);
    for (const one of [room, await other]) one.leave();
  });
}

/** When a signal is aborted, and whether the client says on the socket that it leaves. */
const MOMENTS = {
  'before the call': { prepare: async () => {}, sockets: 0 },
  'while the token is requested': { prepare: async (server, start) => void start(), sockets: 0, getToken: () => new Promise(() => {}) },
  'while the socket opens': {
    prepare: async (server, start) => {
      const arrived = server.next();
      start();
      await arrived;
    },
    sockets: 1,
  },
  'in the lobby': {
    prepare: async (server, start) => {
      const arrived = server.next();
      start();
      const socket = await arrived;
      socket.open();
      socket.deliver(LOBBY);
    },
    sockets: 1,
    leaves: true,
  },
};

for (const [moment, { prepare, sockets, leaves, getToken }] of Object.entries(MOMENTS)) {
  test(`an abort ${moment} rejects, and leaves nothing open`, async () => {
    const abort = new AbortController();
    const made = [];
    const RTCPeerConnection = class extends SilentConnection {
      constructor() {
        super();
        made.push(this);
      }
    };
    const { server, options } = setUp({ signal: abort.signal, RTCPeerConnection, ...(getToken && { getToken }) });
    let joined;
    const start = () => {
      joined = join(options);
      joined.catch(() => {});
    };
    await prepare(server, start);
    abort.abort();
    if (!joined) start();
    await assert.rejects(joined, { name: 'SignalingError', code: 'aborted', retryable: false });
    assert.equal(server.sockets.length, sockets);
    if (leaves) assert.equal(server.sockets[0].frames('leave').length, 1);
    mock.timers.runAll();
    await settle();
    assert.equal(server.sockets.filter(({ readyState }) => readyState === 1).length, 0, 'no socket is open');
    assert.ok(made.every(({ isClosed }) => isClosed), 'no connection is open');
  });
}

test('an abort after the join leaves; with two callers, when both have aborted', async () => {
  const [first, second] = [new AbortController(), new AbortController()];
  const { options, room, socket } = await joinRoom({ signal: first.signal });
  assert.equal(await join({ ...options, signal: second.signal }), room);
  first.abort();
  assert.equal(room.state, 'open');
  second.abort();
  assert.deepEqual([room.state, socket.frames('leave').length, (await room.left).code], ['closed', 1, 'left']);
});

test('an abort of one caller does not reject the other one', async () => {
  const [first, second] = [new AbortController(), new AbortController()];
  const { server, options } = setUp();
  const arrived = server.next();
  const aborted = join({ ...options, signal: first.signal });
  const other = join({ ...options, signal: second.signal });
  first.abort();
  await assert.rejects(aborted, { code: 'aborted' });
  (await arrived).join();
  assert.equal((await other).state, 'open');
  second.abort();
});

test('a final refusal rejects, and the next call joins anew', async () => {
  const { server, options } = setUp();
  for (let round = 0; round < 2; round += 1) {
    const arrived = server.next();
    const joined = join(options);
    const socket = await arrived;
    socket.open();
    socket.end(4510, 'room_full');
    await assert.rejects(joined, { code: 'room_full' });
  }
});

test('a late listener gets the peers and the state, once each', async () => {
  const { room, socket } = await joinRoom();
  const seen = [];
  room.on('peer', ({ peerId }) => seen.push(peerId[0]));
  room.on('state', ({ state }) => seen.push(state));
  assert.deepEqual(seen, ['b', 'open'], 'before on() returns');
  socket.deliver({ type: 'peer-joined', seq: 1, ...peerEntry(CAROL) });
  await settle();
  assert.deepEqual(seen, ['b', 'open', 'c']);
  const once = [];
  room.on('peer', ({ peerId }) => once.push(peerId[0]), { once: true });
  room.on('peer', ({ peerId }) => once.push(peerId[0]), { signal: AbortSignal.abort() });
  assert.deepEqual(once, ['b']);
  room.leave();
});

test('a late listener of a peer gets its state, connection, tracks, data channel and end, once each', async () => {
  const { room } = await joinRoom();
  const peer = room.peers.get(BOB);
  const seen = [];
  const listen = (tag) => {
    const note = (name, what) => peer.on(name, (detail) => seen.push([tag, name, what(detail)]));
    note('state', (state) => state);
    note('connection', (pc) => pc === peer.pc);
    note('track', ({ track }) => track.id);
    note('datachannel', ({ label }) => label);
    note('message', (data) => data);
    note('closed', (why) => why);
  };
  listen('early');
  assert.deepEqual(seen.splice(0), [['early', 'state', 'connecting'], ['early', 'connection', true]]);
  const track = Object.assign(new EventTarget(), { id: 'camera', readyState: 'live' });
  peer.pc.dispatchEvent(Object.assign(new Event('track'), { track, streams: [] }));
  peer.pc.dispatchEvent(Object.assign(new Event('datachannel'), { channel: Object.assign(new EventTarget(), { label: 'signalbox', readyState: 'open' }) }));
  assert.deepEqual(seen.splice(0), [['early', 'track', 'camera'], ['early', 'datachannel', 'signalbox']]);
  listen('late');
  assert.deepEqual(seen.splice(0), [['late', 'state', 'connecting'], ['late', 'connection', true], ['late', 'track', 'camera'], ['late', 'datachannel', 'signalbox']]);
  peer.close('tired');
  assert.deepEqual(seen.splice(0), [['early', 'state', 'closed'], ['late', 'state', 'closed'], ['early', 'closed', 'tired'], ['late', 'closed', 'tired']]);
  peer.on('closed', (why) => seen.push(why));
  assert.deepEqual(seen, ['tired']);
  room.leave();
});

test('a listener that throws stops neither the others nor the client', async () => {
  const { room, socket } = await joinRoom();
  const seen = [];
  const thrown = [];
  const onError = (error) => thrown.push(error.message);
  process.prependOnceListener('uncaughtException', onError);
  const listeners = process.listeners('uncaughtException').filter((one) => one !== onError);
  listeners.forEach((one) => process.off('uncaughtException', one));
  room.on('message', () => {
    throw new Error('of the page');
  });
  room.on('message', ({ data }) => seen.push(data));
  socket.deliver({ type: 'message', seq: 1, from: BOB, id: 1, data: 1 });
  await settle();
  listeners.forEach((one) => process.on('uncaughtException', one));
  assert.deepEqual([seen, thrown, room.state], [[1], ['of the page'], 'open']);
  room.leave();
});

test('messages go to all peers or to one, and come with their peer', async () => {
  const { room, socket } = await joinRoom();
  const peer = room.peers.get(BOB);
  const seen = [];
  room.on('message', ({ data, peer: sender, from }) => seen.push(['room', data, sender === peer, from?.[0]]));
  peer.on('message', (data) => seen.push(['peer', data]));
  void room.send('to all').catch(() => {});
  void peer.send({ to: 'Bob' }).catch(() => {});
  assert.deepEqual(socket.frames('message').map(({ to, data }) => [to, data]), [[undefined, 'to all'], [BOB, { to: 'Bob' }]]);
  socket.deliver({ type: 'message', seq: 1, from: BOB, id: 1, data: 'from Bob' });
  socket.deliver({ type: 'message', seq: 2, data: 'from the application' });
  assert.deepEqual(seen, [['room', 'from Bob', true, 'b'], ['peer', 'from Bob'], ['room', 'from the application', false, undefined]]);
  room.leave();
});

test('a paused room has no socket and no timer, and keeps its connections; within the window it is the same peer', async () => {
  const { room, server, socket } = await joinRoom();
  const { pc } = room.peers.get(BOB);
  socket.deliver({ type: 'peer-left', seq: 1, peerId: CAROL, reason: 'left' });
  room.pause();
  assert.deepEqual([room.state, socket.readyState, socket.frames('leave'), socket.frames('going')], ['paused', 3, [], []]);
  const waiting = room.send('later');
  const before = Date.now();
  mock.timers.tick(25_000);
  await settle();
  assert.deepEqual([server.sockets.length, room.state, pc.isClosed, Date.now() - before], [1, 'paused', undefined, 25_000]);
  const arrived = server.next();
  room.resume();
  const next = await arrived;
  assert.deepEqual([next.protocols[1], new URL(next.address).searchParams.get('since')], ['resume.handle.1', '1']);
  next.resume();
  const [{ id }] = next.frames('message');
  next.deliver({ type: 'ack', id });
  await waiting;
  assert.deepEqual([room.state, room.peers.get(BOB).pc === pc, pc.isClosed], ['open', true, undefined]);
  room.leave();
});

test('after the window a resumed room joins as a new peer', async () => {
  const { room, server } = await joinRoom({ fetch: async () => new Response('{"code":"resume_expired"}', { status: 401 }) });
  const old = room.peers.get(BOB);
  room.pause();
  mock.timers.tick(60_000);
  let arrived = server.next();
  room.resume();
  const refused = await arrived;
  arrived = server.next();
  refused.end(1006);
  (await arrived).join({ peerId: 'd'.repeat(32) });
  assert.deepEqual([room.state, old.state, room.peers.get(BOB).state], ['open', 'closed', 'connecting']);
  room.leave();
});

test('a room can be left while it is paused, and pause and resume are harmless at any time', async () => {
  const { room, server, socket } = await joinRoom();
  room.resume();
  assert.equal(server.sockets.length, 1);
  room.pause();
  room.pause();
  room.client.wake();
  assert.equal(server.sockets.length, 1);
  const arrived = server.next();
  room.leave();
  const leaving = await arrived;
  leaving.open();
  assert.deepEqual([leaving.frames('leave').length, room.state, socket.readyState], [1, 'closed', 3]);
  room.pause();
  room.resume();
  assert.equal(room.state, 'closed');
});

test('names of further tracks reach the peer in the description, and the peer gets them as named streams', async () => {
  const MediaStream = class extends SilentStream {
    id = `{${Math.random().toString(16).padEnd(36, '0')}}`;
  };
  const { room, socket } = await joinRoom({ MediaStream });
  const peer = room.peers.get(BOB);
  const used = [];
  peer.pc.addTrack = (track, stream) => {
    used.push(stream.id);
    return SilentConnection.prototype.addTrack.call(peer.pc, track);
  };
  const track = (kind, id) => Object.assign(new EventTarget(), { kind, id, readyState: 'live' });
  socket.deliver({ type: 'permissions', seq: 1, role: 'host', permissions: ['publish', 'share', 'message'] });
  await room.setTrack('video', track('video', 'camera'));
  await room.setTrack('screen', track('video', 'screen'));
  await room.setTrack('screen', track('audio', 'sound'));
  assert.deepEqual([used.length, used[0] === used[1], used[1] === used[2]], [3, false, true]);
  peer.pc.localDescription = null;
  peer.pc.setLocalDescription = async () => (peer.pc.localDescription = { type: 'offer', sdp: used.map((id) => `a=msid:${id} x\r\n`).join('') });
  peer.pc.dispatchEvent(new Event('negotiationneeded'));
  await settle();
  mock.timers.tick(2_000);
  await settle();
  const [{ sdp }] = socket.frames('offer');
  assert.deepEqual(sdp.match(/(?<=msid:)\S+/g), [used[0], 'screen', 'screen']);

  const remote = (id, streamId) => {
    const streams = streamId ? [{ id: streamId }] : [];
    peer.pc.dispatchEvent(Object.assign(new Event('track'), { track: track('video', id), streams }));
  };
  remote('their camera', used[0]);
  remote('their screen', 'screen');
  assert.deepEqual(peer.stream.tracks.map(({ id }) => id), ['their camera']);
  assert.deepEqual([...peer.streams.keys()], [used[0], 'screen']);
  room.leave();
});

test('with injected parts a room needs nothing of a browser', async () => {
  const NAMES = ['RTCPeerConnection', 'MediaStream', 'WebSocket', 'fetch', 'EventTarget', 'CustomEvent', 'Event', 'MessageChannel', 'navigator', 'document', 'location', 'sessionStorage'];
  const saved = NAMES.map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]);
  const kept = new Map();
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value), removeItem: (key) => kept.delete(key) };
  const { server, options } = setUp({ RTCPeerConnection: SilentConnection, MediaStream: SilentStream, fetch: async () => assert.fail('no request'), handleStorage: { storage, key: 'k' } });
  for (const name of NAMES) delete globalThis[name];
  try {
    assert.deepEqual(NAMES.filter((name) => name in globalThis), []);
    kept.set('k', '{"handle":"earlier.1"}');
    const arrived = server.next();
    const joined = join(options);
    const socket = await arrived;
    assert.equal(socket.protocols[1], 'resume.earlier.1', 'the handle of an earlier start of the app');
    socket.open();
    socket.deliver(resumedFrame({ peers: [peerEntry(BOB)] }));
    const room = await joined;
    assert.ok(room.peers.get(BOB).pc instanceof SilentConnection);
    room.leave();
  } finally {
    for (const [name, descriptor] of saved) if (descriptor) Object.defineProperty(globalThis, name, descriptor);
  }
});
