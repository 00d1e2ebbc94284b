/** The permissions of a peer, the lobby, and the actions of a moderator. */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, mock, test } from 'node:test';
import { SignalingError } from '../src/signaling-error.js';
import { admit, deny, end, kick, lock, mute, setLobby } from '../src/moderation.js';
import { rejectDataChannels } from '../src/sdp.js';
import { mockTime, restoreTime } from './mock-time.js';
import { ALICE, BOB, CAROL, connectClient, joinedFrame, peerEntry, resumedFrame, scriptedServer, startJoin } from './scripted-server.js';
import { createSide, settle } from './scripted-rtc.js';

const WAITING_FRAME = {
  type: 'waiting',
  peerId: ALICE,
  roomId: 'r',
  userId: 'alice',
  role: 'guest',
  node: 'n1',
  resume: 'handle.1',
  seq: 0,
  limits: joinedFrame().limits,
  pingInterval: 25_000,
  features: ['resume'],
};
const WAITING_PEER = { peerId: CAROL, userId: 'carol', name: 'Carol', role: 'guest', metadata: {} };
const HOST = ['publish', 'message', 'moderate', 'admit', 'end', 'share', 'data', 'create'];

class ScriptedTransceiver {
  sender = { track: null, replaceTrack: async (track) => void (this.sender.track = track) };
  constructor(direction) {
    this.direction = direction;
  }
}

/** The parts of a connection that sending needs; the local side is always the impolite one. */
class SendingConnection extends EventTarget {
  signalingState = 'stable';
  connectionState = 'new';
  transceivers = [];
  channels = [];
  restarts = 0;
  constructor(configuration) {
    super();
    this.configuration = configuration;
  }
  addTransceiver(kind, { direction }) {
    this.transceivers.push(Object.assign(new ScriptedTransceiver(direction), { kind }));
  }
  addTrack(track) {
    const unused = this.transceivers.find(({ kind, sender }) => kind === track.kind && sender.track === null);
    const transceiver = unused ?? Object.assign(new ScriptedTransceiver('sendrecv'), { kind: track.kind });
    if (!unused) this.transceivers.push(transceiver);
    Object.assign(transceiver, { direction: 'sendrecv' }).sender.track = track;
    return transceiver.sender;
  }
  getTransceivers = () => this.transceivers;
  createDataChannel() {
    const channel = Object.assign(new EventTarget(), { readyState: 'connecting', close: () => (channel.readyState = 'closed') });
    this.channels.push(channel);
    return channel;
  }
  setConfiguration(configuration) {
    this.configuration = configuration;
  }
  restartIce = () => (this.restarts += 1);
  close() {}
}

const GLOBALS = { RTCPeerConnection: SendingConnection, MediaStream: class {}, WebSocket: null };
before(() => Object.assign(globalThis, GLOBALS));
after(() => Object.keys(GLOBALS).forEach((name) => delete globalThis[name]));
beforeEach(mockTime);
afterEach(restoreTime);

const camera = { kind: 'video' };

/** Joins a room with Bob in it; this side is the impolite one. */
async function joinRoom({ joined = {}, ...options } = {}) {
  const server = scriptedServer();
  globalThis.WebSocket = server.WebSocket;
  const media = { getTracks: () => [camera] };
  const arrived = server.next();
  const { room, joined: inside } = startJoin({ media, ...options });
  const socket = await arrived;
  socket.join({ resume: 'handle.1', peers: [peerEntry(BOB, { polite: false })], ...joined });
  await inside;
  let seq = 0;
  const deliver = async (frame) => {
    socket.deliver({ seq: (seq += 1), ...frame });
    await settle();
  };
  return { room, server, socket, deliver, pc: room.peers.get(BOB).pc };
}

const directions = (pc) => pc.transceivers.map(({ kind, direction, sender }) => `${kind} ${direction} ${sender.track ? 'on' : 'off'}`);
const permissions = (...names) => ({ type: 'permissions', role: 'guest', permissions: names });

test('a peer without publish offers to receive, and sends when it gets publish', async () => {
  const { pc, deliver, room } = await joinRoom({ joined: { permissions: [] } });
  assert.deepEqual(directions(pc), ['audio recvonly off', 'video recvonly off']);
  assert.deepEqual([pc.channels.length, room.may('publish')], [0, false]);
  await deliver(permissions('publish', 'data'));
  assert.deepEqual(directions(pc), ['audio recvonly off', 'video sendrecv on']);
  assert.deepEqual([pc.channels.length, room.may('publish')], [1, true]);
});

test('a muted peer stops sending at once, and sends its current track after the mute', async () => {
  const { pc, deliver, room } = await joinRoom();
  assert.deepEqual(directions(pc), ['video sendrecv on']);
  await deliver(permissions('message', 'data'));
  assert.deepEqual(directions(pc), ['video recvonly off']);
  const other = { kind: 'video' };
  await room.setTrack('video', other);
  assert.deepEqual(directions(pc), ['video recvonly off']);
  await deliver(permissions('publish', 'data'));
  assert.deepEqual([directions(pc), pc.transceivers[0].sender.track], [['video sendrecv on'], other]);
});

test('a change of permissions during a lost connection is applied after the resume', async () => {
  const { pc, socket, room } = await joinRoom();
  socket.deliver(resumedFrame({ permissions: ['message'], peers: [] }));
  await settle();
  assert.deepEqual([directions(pc), room.may('publish'), pc.channels[0].readyState], [['video recvonly off'], false, 'connecting']);
});

test('a data channel that was given up is not opened a second time', async () => {
  const { pc, deliver } = await joinRoom();
  await deliver(permissions('publish'));
  await deliver(permissions('publish', 'data'));
  assert.equal(pc.channels.length, 1);
});

test('new ICE servers reach every connection, and a new policy restarts ICE but new credentials do not', async () => {
  const { pc, socket, room } = await joinRoom({ rtc: { bundlePolicy: 'max-bundle' } });
  assert.equal(pc.configuration.iceTransportPolicy, 'all');
  const iceServers = [{ urls: ['turn:t.example'], username: 'u', credential: 'c' }];
  socket.deliver({ type: 'ice-servers', iceServers, icePolicy: 'all', expiresIn: 1000 });
  assert.deepEqual(pc.configuration, { iceServers, bundlePolicy: 'max-bundle', iceTransportPolicy: 'all' });
  assert.equal(pc.restarts, 0);
  socket.deliver({ type: 'permissions', seq: 1, role: 'guest', permissions: ['publish', 'message', 'data'], icePolicy: 'relay' });
  assert.deepEqual([pc.configuration.iceTransportPolicy, pc.restarts], ['relay', 1]);
  socket.deliver({ type: 'peer-joined', seq: 2, ...peerEntry(CAROL) });
  assert.deepEqual(room.peers.get(CAROL).pc.configuration, { iceServers, bundlePolicy: 'max-bundle', iceTransportPolicy: 'relay' });
});

test('an application may ask for relay only, but not for more than the server allows', async () => {
  const strict = await joinRoom({ rtc: { iceTransportPolicy: 'relay' } });
  assert.equal(strict.pc.configuration.iceTransportPolicy, 'relay');
  const loose = await joinRoom({ joined: { icePolicy: 'relay' }, rtc: { iceTransportPolicy: 'all' } });
  assert.equal(loose.pc.configuration.iceTransportPolicy, 'relay');
});

test('a refreshed token with the same permissions emits no permissions event', async () => {
  const { room, socket } = await joinRoom();
  const received = [];
  room.client.on('permissions', ({ role }) => received.push(role));
  const refreshed = { type: 'token-refreshed', expiresIn: 1, resume: 'handle.2' };
  socket.deliver({ ...refreshed, role: 'guest', permissions: ['data', 'message', 'publish'] });
  assert.deepEqual(received, []);
  socket.deliver({ ...refreshed, role: 'host', permissions: HOST });
  assert.deepEqual([received, room.client.self.role, room.may('end')], [['host'], 'host', true]);
});

test('an offer that was refused because of a permission is created again, but not for ever', async () => {
  let mayUseData = true;
  const { pc, negotiation, sent, messages, errors } = createSide(false, { accepted: false, mayUseData: () => mayUseData });
  pc.text = () => 'v=0\r\na=group:BUNDLE 0 1\r\nm=audio 9 x\r\na=mid:0\r\nm=application 9 x\r\na=mid:1\r\n';
  pc.requestNegotiation();
  await settle();
  await settle();
  messages[0].reject(new SignalingError('not_permitted', 'no', { field: 'sdp' }));
  await settle();
  mayUseData = false;
  negotiation.onChange();
  await settle();
  assert.equal(sent[1].sdp, 'v=0\r\na=group:BUNDLE 0\r\nm=audio 9 x\r\na=mid:0\r\nm=application 0 x\r\na=mid:1\r\n');
  for (let n = 1; n < 8; n += 1) {
    messages.at(-1).reject(new SignalingError('not_permitted'));
    await settle();
    mock.timers.tick(4000);
    await settle();
  }
  assert.deepEqual([sent.length, errors.map(({ code }) => code)], [6, ['not_permitted']]);
});

test('without permission the data channel of an offer is rejected', async () => {
  const { pc, receive } = createSide(true, { mayUseData: () => false });
  await receive({ type: 'offer', id: 5, sdp: 'v=0\r\na=group:BUNDLE 0\r\nm=application 9 x\r\na=mid:0\r\n' });
  assert.equal(pc.remoteDescription.sdp, 'v=0\r\nm=application 0 x\r\na=mid:0\r\n');
});

test('a description without a data channel is not changed', () => {
  for (const sdp of ['', 'v=0\r\n', 'v=0\na=group:BUNDLE 0\nm=audio 9 x\na=mid:0\na=x m=application 9\n']) assert.equal(rejectDataChannels(sdp), sdp);
});

test('in the lobby a client keeps its connection, and joins on it when it is admitted', async () => {
  const { client, socket, states, joined } = await connectClient();
  const lobby = client.next('lobby');
  socket.open();
  socket.deliver(WAITING_FRAME);
  assert.equal((await lobby).roomId, 'r');
  mock.timers.tick(20_000);
  assert.deepEqual([client.state, client.self, socket.readyState], ['lobby', null, 1]);
  client.message('early').catch(() => {});
  assert.deepEqual(socket.frames(), []);
  socket.deliver(joinedFrame());
  assert.equal((await joined).peerId, ALICE);
  assert.deepEqual(states.map(({ state }) => state), ['connecting', 'lobby', 'open']);
  assert.equal(socket.frames('message').length, 1);
});

test('a denied client gets the error and does not reconnect', async () => {
  const { socket, joined, client } = await connectClient();
  socket.open();
  socket.deliver(WAITING_FRAME);
  socket.end(4521, 'denied');
  await assert.rejects(joined, { code: 'denied', closeCode: 4521 });
  assert.equal(client.state, 'closed');
});

for (const first of ['waiting', 'joined', 'resumed']) {
  test(`a client that lost its connection in the lobby resumes with its handle and accepts ${first}`, async () => {
    const { client, server, socket, joined } = await connectClient();
    socket.open();
    socket.deliver(WAITING_FRAME);
    const arrived = server.next();
    socket.end(1006);
    mock.timers.runAll();
    const again = await arrived;
    assert.equal(again.protocols[1], 'resume.handle.1');
    again.open();
    again.deliver({ waiting: WAITING_FRAME, joined: joinedFrame(), resumed: resumedFrame({ seq: 0 }) }[first]);
    assert.equal(client.state, first === 'waiting' ? 'lobby' : 'open');
    if (first === 'waiting') return;
    await joined;
    assert.deepEqual([...client.peers.keys()], [BOB]);
  });
}

test('a token that ends in the lobby is renewed there', async () => {
  const tokens = ['T1', 'T2'];
  const { socket } = await connectClient({ getToken: () => tokens.shift() });
  socket.open();
  socket.deliver(WAITING_FRAME);
  socket.deliver({ type: 'token-expiring', expiresIn: 60_000 });
  await settle();
  assert.deepEqual(socket.frames('refresh'), [{ type: 'refresh', token: 'T2' }]);
});

test('a client that must wait in the lobby again has no peers', async () => {
  const { room, server, socket } = await joinRoom();
  const [bob] = room.peers.values();
  const arrived = server.next();
  socket.end(4004, 'session_gone');
  mock.timers.runAll();
  const again = await arrived;
  again.open();
  again.deliver(WAITING_FRAME);
  assert.deepEqual([bob.state, room.peers.size, room.client.peers.size], ['closed', 0, 0]);
});

test('a client with admit gets knock events, and loses the waiting peers with the permission', async () => {
  const { room, deliver } = await joinRoom({ joined: { permissions: HOST, role: 'host', waiting: [WAITING_PEER] } });
  const received = [];
  room.client.on('knock', ({ peerId }) => received.push(`knock ${peerId[0]}`));
  room.client.on('knock-ended', ({ peerId, reason }) => received.push(`${reason} ${peerId[0]}`));
  assert.deepEqual([...room.client.waiting.values()], [WAITING_PEER]);
  await deliver({ type: 'knock', ...WAITING_PEER, peerId: 'd'.repeat(32) });
  await deliver({ type: 'knock-ended', peerId: CAROL, reason: 'admitted' });
  assert.deepEqual([received, [...room.client.waiting.keys()]], [['knock d', 'admitted c'], ['d'.repeat(32)]]);
  await deliver(permissions('publish', 'data'));
  assert.equal(room.client.waiting.size, 0);
});

test('the actions of a moderator are sent as protocol frames and are answered', async () => {
  const { room, socket } = await joinRoom({ joined: { permissions: HOST } });
  const actions = [admit(room, CAROL), deny(room, WAITING_PEER), kick(room, room.peers.get(BOB)), mute(room, BOB), mute(room, BOB, false), lock(room, true), lock(room, false), setLobby(room, true), end(room), end(room, { lock: true })];
  const frames = socket.frames();
  assert.deepEqual(frames.map(({ id: _id, ...frame }) => frame), [
    { type: 'admit', peer: CAROL },
    { type: 'kick', peer: CAROL },
    { type: 'kick', peer: BOB },
    { type: 'mute', peer: BOB },
    { type: 'mute', peer: BOB, muted: false },
    { type: 'lock', locked: true },
    { type: 'lock', locked: false },
    { type: 'lobby', lobby: true },
    { type: 'end' },
    { type: 'end', lock: true },
  ]);
  const [refused, ...others] = frames;
  socket.deliver({ type: 'error', id: refused.id, code: 'not_permitted', message: 'no' });
  for (const { id } of others) socket.deliver({ type: 'ack', id });
  await assert.rejects(actions[0], { code: 'not_permitted' });
  await Promise.all(actions.slice(1));
});

test('room-updated replaces the room information', async () => {
  const info = { enabled: true, locked: false, lobby: false, e2ee: 'off' };
  const { room, deliver } = await joinRoom({ joined: { room: info } });
  assert.deepEqual(room.client.room, info);
  await deliver({ type: 'room-updated', ...info, locked: true });
  assert.deepEqual(room.client.room, { ...info, locked: true });
});

test('notices and application messages reach their listeners, inside and outside of the mailbox', async () => {
  const { room, socket } = await joinRoom();
  const received = [];
  room.client.on('notice', ({ message }) => received.push(message));
  room.client.on('message', ({ from, data }) => received.push([from, data]));
  socket.deliver({ type: 'notice', code: 'x', message: 'to all' });
  socket.deliver({ type: 'notice', seq: 1, code: 'x', message: 'to the room' });
  socket.deliver({ type: 'message', seq: 2, room: true, data: 1 });
  socket.deliver({ type: 'message', data: 2 });
  assert.deepEqual(received, ['to all', 'to the room', [undefined, 1], [undefined, 2]]);
  assert.equal(socket.readyState, 1);
});
