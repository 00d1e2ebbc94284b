import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { ALICE, BOB, CAROL, connectClient, joinedFrame, peerEntry } from './scripted.js';

beforeEach(() => mock.timers.enable({ apis: ['setTimeout', 'Date'] }));
afterEach(() => mock.timers.reset());

const settle = () => new Promise((resolve) => setImmediate(resolve));
const offer = (seq, id) => ({ type: 'offer', seq, from: BOB, id, sdp: 'v=0' });

async function joinedClient(options) {
  const context = await connectClient(options);
  context.socket.join();
  await context.joined;
  return context;
}

/** Lets the wait end and answers with the socket of the next attempt. */
async function nextSocket({ server }) {
  const arrived = server.next();
  mock.timers.runAll();
  return arrived;
}

function problem(status, body, headers = {}) {
  return async () => new Response(JSON.stringify(body), { status, headers });
}

test('the token goes beside the subprotocol and not into the address', async () => {
  const { socket } = await connectClient({ getToken: async () => 'abc.def' });
  assert.equal(socket.address, 'ws://signal.example/ws/signal');
  assert.deepEqual(socket.protocols, ['signalbox.v1', 'token.abc.def']);
});

test('connect resolves with joined, and the roster is there', async () => {
  const { client } = await joinedClient();
  assert.equal(client.peerId, ALICE);
  assert.equal(client.state, 'open');
  assert.deepEqual([...client.peers.keys()], [BOB]);
});

test('presence frames keep the roster', async () => {
  const { client, socket } = await joinedClient();
  socket.say({ type: 'peer-joined', seq: 1, ...peerEntry(CAROL) });
  socket.say({ type: 'peer-updated', seq: 2, ...peerEntry(CAROL, { name: 'Carol' }) });
  socket.say({ type: 'peer-detached', seq: 3, peerId: CAROL });
  assert.deepEqual([client.peers.get(CAROL).name, client.peers.get(CAROL).detached], ['Carol', true]);
  socket.say({ type: 'peer-attached', seq: 4, peerId: CAROL });
  assert.equal(client.peers.get(CAROL).detached, false);
  socket.say({ type: 'peer-left', seq: 5, peerId: CAROL, reason: 'left' });
  assert.deepEqual([...client.peers.keys()], [BOB]);
});

test('an entry that comes twice is delivered once, by seq and by sender and id', async () => {
  const { client, socket } = await joinedClient();
  const heard = [];
  client.on('offer', ({ seq }) => heard.push(seq));
  socket.say(offer(1, 7));
  socket.say(offer(1, 7));
  socket.say(offer(2, 7));
  socket.say(offer(3, 8));
  assert.deepEqual(heard, [1, 3]);
});

test('a gap in seq means a broken connection: the client comes back', async () => {
  const context = await joinedClient();
  const heard = [];
  context.client.on('offer', ({ seq }) => heard.push(seq));
  context.socket.say(offer(2, 7));
  assert.deepEqual(heard, []);
  assert.equal(context.states.at(-1).state, 'waiting');
  assert.equal(context.states.at(-1).error.code, 'seq_gap');
  const again = await nextSocket(context);
  again.join({ peerId: CAROL });
  assert.equal(context.client.peerId, CAROL);
});

test('received is sent after 64 entries, and for fewer after 5 seconds', async () => {
  const { socket } = await joinedClient();
  for (let seq = 1; seq <= 64; seq += 1) socket.say(offer(seq, seq));
  assert.deepEqual(socket.frames('received'), [{ type: 'received', seq: 64 }]);
  socket.say(offer(65, 65));
  mock.timers.tick(4999);
  assert.equal(socket.frames('received').length, 1);
  mock.timers.tick(1);
  assert.deepEqual(socket.frames('received').at(-1), { type: 'received', seq: 65 });
});

test('silence for one and a half intervals is answered with a ping, and no pong in 5 seconds is a lost connection', async () => {
  const { socket, states } = await joinedClient();
  mock.timers.tick(37_500);
  assert.deepEqual(socket.frames('ping'), [{ type: 'ping' }]);
  mock.timers.tick(5000);
  assert.equal(states.findLast(({ state }) => state === 'waiting').error.code, 'no_pong');
});

test('a pong keeps the connection', async () => {
  const { client, socket } = await joinedClient();
  mock.timers.tick(37_500);
  socket.say({ type: 'pong' });
  mock.timers.tick(5000);
  assert.equal(client.state, 'open');
});

test('every retryable close is waited out for as long as it asks', async () => {
  const { socket, states } = await joinedClient();
  socket.end(4005, 'unavailable;500');
  assert.equal(states.at(-1).state, 'waiting');
  assert.equal(states.at(-1).retryInMs, 500);
});

test('a final close ends the client with the words of the error before it', async () => {
  const { client, socket, joined } = await connectClient();
  socket.open();
  socket.say({ type: 'error', code: 'room_full', message: 'the room has 2 places' });
  socket.end(4510, 'room_full');
  await assert.rejects(joined, { code: 'room_full', message: 'the room has 2 places', closeCode: 4510 });
  assert.equal(client.state, 'closed');
});

test('goaway is obeyed: the client comes back after so many milliseconds, not before', async () => {
  const context = await joinedClient();
  context.socket.say({ type: 'goaway', reconnectIn: 2000 });
  mock.timers.tick(500);
  context.socket.end(4000, 'going_away');
  assert.equal(context.states.at(-1).retryInMs, 1500);
  assert.equal((await nextSocket(context)).protocols[0], 'signalbox.v1');
});

test('a refused token is replaced once, and the second refusal is the end', async () => {
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

test('a server without a place for now is asked again after Retry-After', async () => {
  const fetch = problem(503, { code: 'overloaded' }, { 'Retry-After': '3' });
  const { client, socket } = await connectClient({ fetch });
  const waiting = client.next('state');
  socket.end(1006);
  const { state, retryInMs, error } = await waiting;
  assert.deepEqual([state, retryInMs, error.code], ['waiting', 3000, 'overloaded']);
});

test('a getToken that is refused ends the client, one that fails is tried again', async () => {
  const { SignalingError } = await import('../src/index.js');
  const answers = [() => Promise.reject(new TypeError('network')), () => Promise.reject(new SignalingError('guests_off', '', { status: 401 }))];
  const { SignalingClient } = await import('../src/index.js');
  const client = new SignalingClient({ url: 'http://x', getToken: () => answers.shift()(), random: () => 0 });
  const joined = client.connect();
  joined.catch(() => {});
  await client.next('state');
  assert.equal(client.state, 'waiting');
  mock.timers.runAll();
  await assert.rejects(joined, { code: 'guests_off' });
});

test('after a reconnect what was on its way is rejected, and what was not goes out', async () => {
  const context = await joinedClient();
  const { client, socket } = context;
  const lost = client.message('lost');
  lost.catch(() => {});
  socket.end(1006);
  const kept = client.message('kept');
  const again = await nextSocket(context);
  again.open();
  again.say(joinedFrame({ peerId: CAROL, peers: [] }));
  await assert.rejects(lost, { code: 'session_gone' });
  assert.deepEqual(again.frames('message').map(({ data }) => data), ['kept']);
  again.say({ type: 'ack', id: again.frames('message')[0].id });
  await kept;
});

test('leave says so before the socket closes, and everything that waits is told', async () => {
  const { client, socket } = await joinedClient();
  const waiting = client.message('x');
  client.leave();
  assert.deepEqual(socket.frames('leave'), [{ type: 'leave' }]);
  assert.equal(socket.readyState, 3);
  await assert.rejects(waiting, { code: 'left' });
  await assert.rejects(client.message('y'), { code: 'closed' });
});

test('what is no frame is an error event and not the end, and unknown types are no events', async () => {
  const { client, socket } = await joinedClient();
  const errors = [];
  client.on('error', ({ code, field }) => errors.push([code, field]));
  let states = 0;
  client.on('state', () => (states += 1));
  for (const junk of ['', '[]', '{"type":1}', '{"type":"offer","seq":1,"from":"x"}']) socket.say(junk);
  socket.say({ type: 'state' });
  socket.say({ type: 'later-invention', seq: 1 });
  assert.deepEqual(errors, [['bad_frame', 'type'], ['bad_frame', 'type'], ['bad_frame', 'type'], ['bad_frame', 'sdp']]);
  assert.equal(states, 0);
  assert.equal(client.state, 'open');
});

test('the network coming back ends the wait at once', async (t) => {
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

test('a connection that opens and stays silent is given up', async () => {
  const { socket, states } = await connectClient();
  socket.open();
  mock.timers.tick(15_000);
  await settle();
  assert.equal(states.findLast(({ state }) => state === 'waiting').error.code, 'join_timeout');
});
