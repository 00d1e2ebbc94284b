import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { ALICE, BOB, CAROL, connectClient, joinedFrame, peerEntry } from './scripted-server.js';
import { mockTime, restoreTime } from './mock-time.js';

beforeEach(() => mockTime());
afterEach(restoreTime);

const settle = () => new Promise((resolve) => setImmediate(resolve));
const offer = (seq, id) => ({ type: 'offer', seq, from: BOB, id, sdp: 'v=0' });

async function joinedClient(options) {
  const context = await connectClient(options);
  context.socket.join();
  await context.joined;
  return context;
}

/** Ends the wait and resolves with the socket of the next attempt. */
async function nextSocket({ server }) {
  const arrived = server.next();
  mock.timers.runAll();
  return arrived;
}

function problem(status, body, headers = {}) {
  return async () => new Response(JSON.stringify(body), { status, headers });
}

test('the token is a subprotocol and not part of the address', async () => {
  const { socket } = await connectClient({ getToken: async () => 'abc.def' });
  assert.equal(socket.address, 'ws://signal.example/ws/signal');
  assert.deepEqual(socket.protocols, ['signalbox.v1', 'token.abc.def']);
});

test('connect resolves with joined, and the peers are known', async () => {
  const { client } = await joinedClient();
  assert.equal(client.peerId, ALICE);
  assert.equal(client.state, 'open');
  assert.deepEqual([...client.peers.keys()], [BOB]);
});

test('presence frames update the peers', async () => {
  const { client, socket } = await joinedClient();
  socket.deliver({ type: 'peer-joined', seq: 1, ...peerEntry(CAROL) });
  socket.deliver({ type: 'peer-updated', seq: 2, ...peerEntry(CAROL, { name: 'Carol' }) });
  socket.deliver({ type: 'peer-detached', seq: 3, peerId: CAROL });
  assert.deepEqual([client.peers.get(CAROL).name, client.peers.get(CAROL).detached], ['Carol', true]);
  socket.deliver({ type: 'peer-attached', seq: 4, peerId: CAROL });
  assert.equal(client.peers.get(CAROL).detached, false);
  socket.deliver({ type: 'peer-left', seq: 5, peerId: CAROL, reason: 'left' });
  assert.deepEqual([...client.peers.keys()], [BOB]);
});

test('a duplicate is recognized by seq, and by sender and id, and delivered once', async () => {
  const { client, socket } = await joinedClient();
  const received = [];
  client.on('offer', ({ seq }) => received.push(seq));
  socket.deliver(offer(1, 7));
  socket.deliver(offer(1, 7));
  socket.deliver(offer(2, 7));
  socket.deliver(offer(3, 8));
  assert.deepEqual(received, [1, 3]);
});

test('after a gap in seq the client reconnects', async () => {
  const context = await joinedClient();
  const received = [];
  context.client.on('offer', ({ seq }) => received.push(seq));
  context.socket.deliver(offer(2, 7));
  assert.deepEqual(received, []);
  assert.equal(context.states.at(-1).state, 'waiting');
  assert.equal(context.states.at(-1).error.code, 'seq_gap');
  const again = await nextSocket(context);
  again.join({ peerId: CAROL });
  assert.equal(context.client.peerId, CAROL);
});

test('received is sent after 64 entries, and for fewer after 5 seconds', async () => {
  const { socket } = await joinedClient();
  for (let seq = 1; seq <= 64; seq += 1) socket.deliver(offer(seq, seq));
  assert.deepEqual(socket.frames('received'), [{ type: 'received', seq: 64 }]);
  socket.deliver(offer(65, 65));
  mock.timers.tick(4999);
  assert.equal(socket.frames('received').length, 1);
  mock.timers.tick(1);
  assert.deepEqual(socket.frames('received').at(-1), { type: 'received', seq: 65 });
});

test('the client pings after one and a half silent intervals, and reconnects without a pong in 5 seconds', async () => {
  const { socket, states } = await joinedClient();
  mock.timers.tick(37_500);
  assert.deepEqual(socket.frames('ping'), [{ type: 'ping' }]);
  mock.timers.tick(5000);
  assert.equal(states.findLast(({ state }) => state === 'waiting').error.code, 'no_pong');
});

test('a pong keeps the connection open', async () => {
  const { client, socket } = await joinedClient();
  mock.timers.tick(37_500);
  socket.deliver({ type: 'pong' });
  mock.timers.tick(5000);
  assert.equal(client.state, 'open');
});

test('after a retryable close the client waits as long as the close asks', async () => {
  const { socket, states } = await joinedClient();
  socket.end(4005, 'unavailable;500');
  assert.equal(states.at(-1).state, 'waiting');
  assert.equal(states.at(-1).retryInMs, 500);
});

test('a final close ends the client with the message of the error before it', async () => {
  const { client, socket, joined } = await connectClient();
  socket.open();
  socket.deliver({ type: 'error', code: 'room_full', message: 'the room has 2 places' });
  socket.end(4510, 'room_full');
  await assert.rejects(joined, { code: 'room_full', message: 'the room has 2 places', closeCode: 4510 });
  assert.equal(client.state, 'closed');
});

test('after goaway the client reconnects when the server allows it, and not earlier', async () => {
  const context = await joinedClient();
  context.socket.deliver({ type: 'goaway', reconnectIn: 2000 });
  mock.timers.tick(500);
  context.socket.end(4000, 'going_away');
  assert.equal(context.states.at(-1).retryInMs, 1500);
  assert.equal((await nextSocket(context)).protocols[0], 'signalbox.v1');
});

test('a refused token is replaced once, and a second refusal is final', async () => {
  const tokens = ['old', 'new'];
  const fetch = problem(401, { code: 'token_expired', detail: 'The token has expired.' });
  const { client, server, socket, joined } = await connectClient({ fetch, getToken: () => tokens.shift() });
  const second = server.next();
  socket.end(1006);
  assert.equal((await second).protocols[1], 'token.new');
  server.sockets[1].end(1006);
  await assert.rejects(joined, { code: 'token_expired', status: 401 });
  assert.equal(client.state, 'closed');
});

test('after a 503 the client waits for Retry-After', async () => {
  const fetch = problem(503, { code: 'overloaded' }, { 'Retry-After': '3' });
  const { client, socket } = await connectClient({ fetch });
  const waiting = client.next('state');
  socket.end(1006);
  const { state, retryInMs, error } = await waiting;
  assert.deepEqual([state, retryInMs, error.code], ['waiting', 3000, 'overloaded']);
});

test('a final refusal of getToken ends the client, and another failure is retried', async () => {
  const { SignalingError } = await import('../src/index.js');
  const answers = [() => Promise.reject(new TypeError('network')), () => Promise.reject(new SignalingError('guests_off', '', { status: 401 }))];
  const { SignalingClient } = await import('../src/index.js');
  const client = new SignalingClient({ url: 'http://x', getToken: () => answers.shift()(), WebSocket: class {} });
  const joined = client.connect();
  joined.catch(() => {});
  await client.next('state');
  assert.equal(client.state, 'waiting');
  mock.timers.runAll();
  await assert.rejects(joined, { code: 'guests_off' });
});

test('as a new peer the client rejects transmitted messages and transmits the others', async () => {
  const context = await joinedClient();
  const { client, socket } = context;
  const lost = client.message('lost');
  lost.catch(() => {});
  socket.end(1006);
  const kept = client.message('kept');
  const again = await nextSocket(context);
  again.open();
  again.deliver(joinedFrame({ peerId: CAROL, peers: [] }));
  await assert.rejects(lost, { code: 'session_gone' });
  assert.deepEqual(again.frames('message').map(({ data }) => data), ['kept']);
  again.deliver({ type: 'ack', id: again.frames('message')[0].id });
  await kept;
});

test('leave is sent before the socket closes, and pending messages are rejected', async () => {
  const { client, socket } = await joinedClient();
  const waiting = client.message('x');
  client.leave();
  assert.deepEqual(socket.frames('leave'), [{ type: 'leave' }]);
  assert.equal(socket.readyState, 3);
  await assert.rejects(waiting, { code: 'left' });
  await assert.rejects(client.message('y'), { code: 'closed' });
});

test('an invalid frame is an error event without a close, and unknown types are not events', async () => {
  const { client, socket } = await joinedClient();
  const errors = [];
  client.on('error', ({ code }) => errors.push(code));
  let states = 0;
  client.on('state', () => (states += 1));
  for (const junk of ['', '[]', 'null', '{"type":1}', '{"type":"resumed"}']) socket.deliver(junk);
  socket.deliver({ type: 'state' });
  socket.deliver({ type: 'later-invention', seq: 1 });
  assert.deepEqual(errors, Array(5).fill('bad_frame'));
  assert.equal(states, 0);
  assert.equal(client.state, 'open');
});

test('the client reconnects at once when the network returns', async (t) => {
  const listeners = new Map();
  globalThis.addEventListener = (name, listener) => listeners.set(name, listener); // Node has none
  t.after(() => delete globalThis.addEventListener);
  const { client, server, socket } = await joinedClient({ random: () => 1 });
  socket.end(1006);
  assert.equal(client.state, 'waiting');
  const arrived = server.next();
  listeners.get('online')();
  await arrived;
  assert.equal(client.state, 'connecting');
});

test('a connection without a first frame is dropped', async () => {
  const { socket, states } = await connectClient();
  socket.open();
  mock.timers.tick(15_000);
  await settle();
  assert.equal(states.findLast(({ state }) => state === 'waiting').error.code, 'join_timeout');
});
