/** What a peer may do, who waits before the room, and what a moderator asks for. */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, mock, test } from 'node:test';
import { SignalingError } from '../src/codes.js';
import { Outgoing } from '../src/outgoing.js';
import { Room } from '../src/room.js';
import { withoutData } from '../src/sdp.js';
import { ALICE, BOB, CAROL, connectClient, joinedFrame, peerEntry, resumedFrame, scriptedServer } from './scripted.js';
import { settle, side } from './scripted-rtc.js';

const WAITING = {
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
const KNOCKER = { peerId: CAROL, userId: 'carol', name: 'Carol', role: 'guest', metadata: {} };
const HOST = ['publish', 'message', 'moderate', 'admit', 'end', 'share', 'data', 'create'];

class ScriptedTransceiver {
  sender = { track: null, replaceTrack: async (track) => void (this.sender.track = track) };
  constructor(direction) {
    this.direction = direction;
  }
}

/** As much of a connection as sending needs; every side is the impolite one toward it. */
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
    const known = this.transceivers.find(({ kind, sender }) => kind === track.kind && sender.track === null);
    const transceiver = known ?? Object.assign(new ScriptedTransceiver('sendrecv'), { kind: track.kind });
    if (!known) this.transceivers.push(transceiver);
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

const replaced = { RTCPeerConnection: SendingConnection, MediaStream: class {}, WebSocket: null };
before(() => Object.assign(globalThis, replaced));
after(() => Object.keys(replaced).forEach((name) => delete globalThis[name]));
beforeEach(() => mock.timers.enable({ apis: ['setTimeout', 'Date'] }));
afterEach(() => mock.timers.reset());

const camera = { kind: 'video' };

/** A room with Bob in it, toward whom this side is impolite. */
async function inRoom({ joined = {}, ...options } = {}) {
  const server = scriptedServer();
  globalThis.WebSocket = server.WebSocket;
  const media = { getTracks: () => [camera] };
  const room = new Room({ room: 'r', url: 'http://signal.example', getToken: () => 'T', media, ...options });
  const arrived = server.next();
  const inside = room.join();
  const socket = await arrived;
  socket.join({ resume: 'handle.1', peers: [peerEntry(BOB, { polite: false })], ...joined });
  await inside;
  let seq = 0;
  const say = async (frame) => {
    socket.say({ seq: (seq += 1), ...frame });
    await settle();
  };
  return { room, server, socket, say, pc: room.peers.get(BOB).pc };
}

const directions = (pc) => pc.transceivers.map(({ kind, direction, sender }) => `${kind} ${direction} ${sender.track ? 'on' : 'off'}`);
const permissions = (...names) => ({ type: 'permissions', role: 'guest', permissions: names });

test('who may not publish offers to receive, and sends as soon as it may', async () => {
  const { pc, say, room } = await inRoom({ joined: { permissions: [] } });
  assert.deepEqual(directions(pc), ['audio recvonly off', 'video recvonly off']);
  assert.deepEqual([pc.channels.length, room.may('publish')], [0, false]);
  await say(permissions('publish', 'data'));
  assert.deepEqual(directions(pc), ['audio recvonly off', 'video sendrecv on']);
  assert.deepEqual([pc.channels.length, room.may('publish')], [1, true]);
});

test('who is muted stops sending at once, and goes on with what is there when it may again', async () => {
  const { pc, say, room } = await inRoom();
  assert.deepEqual(directions(pc), ['video sendrecv on']);
  await say(permissions('message', 'data'));
  assert.deepEqual(directions(pc), ['video recvonly off']);
  const other = { kind: 'video' };
  await room.setTrack('video', other);
  assert.deepEqual(directions(pc), ['video recvonly off']);
  await say(permissions('publish', 'data'));
  assert.deepEqual([directions(pc), pc.transceivers[0].sender.track], [['video sendrecv on'], other]);
});

test('a change of permissions while the connection was away is followed', async () => {
  const { pc, socket, room } = await inRoom();
  socket.say(resumedFrame({ permissions: ['message'], peers: [] }));
  await settle();
  assert.deepEqual([directions(pc), room.may('publish'), pc.channels[0].readyState], [['video recvonly off'], false, 'connecting']);
});

test('a data channel that was given up is not opened a second time', async () => {
  const { pc, say } = await inRoom();
  await say(permissions('publish'));
  await say(permissions('publish', 'data'));
  assert.equal(pc.channels.length, 1);
});

test('a direction that was sending only is inactive without leave', async () => {
  const pc = new SendingConnection();
  const outgoing = new Outgoing(pc, true);
  await outgoing.set('video', camera);
  pc.transceivers[0].direction = 'sendonly';
  await outgoing.allow(false);
  assert.equal(pc.transceivers[0].direction, 'inactive');
  await outgoing.allow(true);
  assert.equal(pc.transceivers[0].direction, 'sendonly');
});

test('new ICE servers go to every connection; another policy restarts ICE, new credentials do not', async () => {
  const { pc, socket, room } = await inRoom({ rtc: { bundlePolicy: 'max-bundle' } });
  assert.equal(pc.configuration.iceTransportPolicy, 'all');
  const iceServers = [{ urls: ['turn:t.example'], username: 'u', credential: 'c' }];
  socket.say({ type: 'ice-servers', iceServers, icePolicy: 'all', expiresIn: 1000 });
  assert.deepEqual(pc.configuration, { iceServers, bundlePolicy: 'max-bundle', iceTransportPolicy: 'all' });
  assert.equal(pc.restarts, 0);
  socket.say({ type: 'permissions', seq: 1, role: 'guest', permissions: ['publish', 'message', 'data'], icePolicy: 'relay' });
  assert.deepEqual([pc.configuration.iceTransportPolicy, pc.restarts], ['relay', 1]);
  socket.say({ type: 'peer-joined', seq: 2, ...peerEntry(CAROL) });
  assert.deepEqual(room.peers.get(CAROL).pc.configuration, { iceServers, bundlePolicy: 'max-bundle', iceTransportPolicy: 'relay' });
});

test('an application may ask for relays only, but not for more than the server allows', async () => {
  const strict = await inRoom({ rtc: { iceTransportPolicy: 'relay' } });
  assert.equal(strict.pc.configuration.iceTransportPolicy, 'relay');
  const loose = await inRoom({ joined: { icePolicy: 'relay' }, rtc: { iceTransportPolicy: 'all' } });
  assert.equal(loose.pc.configuration.iceTransportPolicy, 'relay');
});

test('a token that says the same again is no change of permissions', async () => {
  const { room, socket } = await inRoom();
  const heard = [];
  room.client.on('permissions', ({ role }) => heard.push(role));
  const refreshed = { type: 'token-refreshed', expiresIn: 1, resume: 'handle.2' };
  socket.say({ ...refreshed, role: 'guest', permissions: ['data', 'message', 'publish'] });
  assert.deepEqual(heard, []);
  socket.say({ ...refreshed, role: 'host', permissions: HOST });
  assert.deepEqual([heard, room.client.self.role, room.may('end')], [['host'], 'host', true]);
});

test('an offer that was refused because of a permission is made anew when that is known, and not for ever', async () => {
  let may = true;
  const { pc, negotiation, sent, sendings, errors } = side(false, { taken: false, mayHaveData: () => may });
  pc.text = () => 'v=0\r\na=group:BUNDLE 0 1\r\nm=audio 9 x\r\na=mid:0\r\nm=application 9 x\r\na=mid:1\r\n';
  pc.need();
  await settle();
  await settle();
  sendings[0].reject(new SignalingError('not_permitted', 'no', { field: 'sdp' }));
  await settle();
  may = false;
  negotiation.allowed();
  await settle();
  assert.equal(sent[1].sdp, 'v=0\r\na=group:BUNDLE 0\r\nm=audio 9 x\r\na=mid:0\r\nm=application 0 x\r\na=mid:1\r\n');
  for (let n = 1; n < 10; n += 1) {
    sendings.at(-1).reject(new SignalingError('not_permitted'));
    await settle();
    mock.timers.tick(4000);
    await settle();
  }
  assert.deepEqual([sent.length, errors.map(({ code }) => code)], [6, ['not_permitted']]);
});

test('an offer with a data channel is answered without one where there may be none', async () => {
  const { pc, receive } = side(true, { mayHaveData: () => false });
  await receive({ type: 'offer', id: 5, sdp: 'v=0\r\na=group:BUNDLE 0\r\nm=application 9 x\r\na=mid:0\r\n' });
  assert.equal(pc.remoteDescription.sdp, 'v=0\r\nm=application 0 x\r\na=mid:0\r\n');
});

test('a description without a data channel is left alone', () => {
  for (const sdp of ['', 'v=0\r\n', 'v=0\na=group:BUNDLE 0\nm=audio 9 x\na=mid:0\na=x m=application 9\n']) assert.equal(withoutData(sdp), sdp);
});

test('in the lobby a client waits, keeps its connection, and joins on it when it is let in', async () => {
  const { client, socket, states, joined } = await connectClient();
  const lobby = client.next('lobby');
  socket.open();
  socket.say(WAITING);
  assert.equal((await lobby).roomId, 'r');
  mock.timers.tick(20_000);
  assert.deepEqual([client.state, client.self, socket.readyState], ['lobby', null, 1]);
  client.message('early').catch(() => {});
  assert.deepEqual(socket.frames(), []);
  socket.say(joinedFrame());
  assert.equal((await joined).peerId, ALICE);
  assert.deepEqual(states.map(({ state }) => state), ['connecting', 'lobby', 'open']);
  assert.equal(socket.frames('message').length, 1);
});

test('who is not let in is told so, and does not come back', async () => {
  const { socket, joined, client } = await connectClient();
  socket.open();
  socket.say(WAITING);
  socket.end(4521, 'denied');
  await assert.rejects(joined, { code: 'denied', closeCode: 4521 });
  assert.equal(client.state, 'closed');
});

for (const first of ['waiting', 'joined', 'resumed']) {
  test(`a connection that is lost in the lobby comes back by its handle, and ${first} may be what it finds`, async () => {
    const { client, server, socket, joined } = await connectClient();
    socket.open();
    socket.say(WAITING);
    const arrived = server.next();
    socket.end(1006);
    mock.timers.runAll();
    const again = await arrived;
    assert.equal(again.protocols[1], 'resume.handle.1');
    again.open();
    again.say({ waiting: WAITING, joined: joinedFrame(), resumed: resumedFrame({ seq: 0 }) }[first]);
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
  socket.say(WAITING);
  socket.say({ type: 'token-expiring', expiresIn: 60_000 });
  await settle();
  assert.deepEqual(socket.frames('refresh'), [{ type: 'refresh', token: 'T2' }]);
});

test('who must wait anew is nobody\'s peer meanwhile', async () => {
  const { room, server, socket } = await inRoom();
  const [bob] = room.peers.values();
  const arrived = server.next();
  socket.end(4004, 'session_gone');
  mock.timers.runAll();
  const again = await arrived;
  again.open();
  again.say(WAITING);
  assert.deepEqual([bob.state, room.peers.size, room.client.peers.size], ['closed', 0, 0]);
});

test('who may let somebody in hears who knocks, and loses that with the permission', async () => {
  const { room, say } = await inRoom({ joined: { permissions: HOST, role: 'host', waiting: [KNOCKER] } });
  const heard = [];
  room.client.on('knock', ({ peerId }) => heard.push(`knock ${peerId[0]}`));
  room.client.on('knock-ended', ({ peerId, reason }) => heard.push(`${reason} ${peerId[0]}`));
  assert.deepEqual([...room.waiting.values()], [KNOCKER]);
  await say({ type: 'knock', ...KNOCKER, peerId: 'd'.repeat(32) });
  await say({ type: 'knock-ended', peerId: CAROL, reason: 'admitted' });
  assert.deepEqual([heard, [...room.waiting.keys()]], [['knock d', 'admitted c'], ['d'.repeat(32)]]);
  await say(permissions('publish', 'data'));
  assert.equal(room.waiting.size, 0);
});

test('what a moderator asks for goes out as the protocol has it, and is answered', async () => {
  const { room, socket } = await inRoom({ joined: { permissions: HOST } });
  const acts = [room.admit(CAROL), room.deny(KNOCKER), room.kick(room.peers.get(BOB)), room.mute(BOB), room.mute(BOB, false), room.lock(true), room.lock(false), room.end(), room.end({ lock: true })];
  const frames = socket.frames();
  assert.deepEqual(frames.map(({ id: _id, ...frame }) => frame), [
    { type: 'admit', peer: CAROL },
    { type: 'kick', peer: CAROL },
    { type: 'kick', peer: BOB },
    { type: 'mute', peer: BOB },
    { type: 'mute', peer: BOB, muted: false },
    { type: 'lock', locked: true },
    { type: 'lock', locked: false },
    { type: 'end' },
    { type: 'end', lock: true },
  ]);
  const [refused, ...others] = frames;
  socket.say({ type: 'error', id: refused.id, code: 'not_permitted', message: 'no' });
  for (const { id } of others) socket.say({ type: 'ack', id });
  await assert.rejects(acts[0], { code: 'not_permitted' });
  await Promise.all(acts.slice(1));
});

test('the room is as the last word about it says', async () => {
  const info = { enabled: true, locked: false, lobby: false, e2ee: 'off' };
  const { room, say } = await inRoom({ joined: { room: info } });
  assert.deepEqual(room.client.room, info);
  await say({ type: 'room-updated', ...info, locked: true });
  assert.deepEqual(room.client.room, { ...info, locked: true });
});

test('a notice to everybody and a message from the backend reach their listeners, inside and outside of the mailbox', async () => {
  const { room, socket } = await inRoom();
  const heard = [];
  room.client.on('notice', ({ message }) => heard.push(message));
  room.client.on('message', ({ from, data }) => heard.push([from, data]));
  socket.say({ type: 'notice', code: 'x', message: 'to all' });
  socket.say({ type: 'notice', seq: 1, code: 'x', message: 'to the room' });
  socket.say({ type: 'message', seq: 2, room: true, data: 1 });
  socket.say({ type: 'message', data: 2 });
  assert.deepEqual(heard, ['to all', 'to the room', [undefined, 1], [undefined, 2]]);
  assert.equal(socket.readyState, 1);
});
