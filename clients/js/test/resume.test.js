/** Coming back as the same peer (docs/PROTOCOL.md, sections 2, 5 and 8). */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { ALICE, BOB, CAROL, connectClient, joinedFrame, peerEntry, resumedFrame } from './scripted.js';

beforeEach(() => mock.timers.enable({ apis: ['setTimeout', 'Date'] }));
afterEach(() => mock.timers.reset());

const settle = () => new Promise((resolve) => setImmediate(resolve));
const offer = (seq, id, from = BOB) => ({ type: 'offer', seq, from, id, sdp: 'v=0' });
const message = (seq, id, data) => ({ type: 'message', seq, from: BOB, id, data });

/** A client that has joined with a handle, and held its connection. */
async function heldClient(options = {}) {
  const tokens = [];
  const getToken = () => tokens.push('T') && 'T';
  const context = await connectClient({ getToken, ...options });
  context.socket.join({ resume: 'handle.1' });
  await context.joined;
  mock.timers.tick(6_000);
  const heard = [];
  for (const name of ['joined', 'resumed', 'offer', 'message', 'error']) context.client.on(name, (detail) => heard.push([name, detail]));
  return { ...context, tokens, heard };
}

/** Lets the wait end and answers with the socket of the next attempt. */
async function nextSocket({ server }) {
  const arrived = server.next();
  mock.timers.runAll();
  return arrived;
}

const problem = (status, code, asked = []) => async (address, init) => {
  asked.push([String(address), init.headers?.Authorization]);
  return status === 200 ? new Response('{"valid":true}') : new Response(JSON.stringify({ code, status }), { status, headers: { 'Retry-After': '2' } });
};

for (const [code, reason] of [[1006, ''], [1001, ''], [4000, 'going_away'], [4001, 'slow_consumer'], [4002, 'ping_timeout'], [4005, 'unavailable'], [4007, 'internal']]) {
  test(`after ${code} ${reason} the client comes back with its handle and the last seq, and without a token`, async () => {
    const context = await heldClient();
    context.socket.say(offer(1, 1));
    context.socket.say(offer(2, 2));
    context.socket.end(code, reason);
    const again = await nextSocket(context);
    assert.equal(again.address, 'ws://signal.example/ws/signal?since=2');
    assert.deepEqual(again.protocols, ['signalbox.v1', 'resume.handle.1']);
    assert.equal(context.tokens.length, 1);
  });
}

test('resumed: the same peer, the roster of before, and each entry once', async () => {
  const context = await heldClient();
  const { client, socket, heard, states } = context;
  socket.say(message(1, 1, 'a'));
  socket.end(1006);
  assert.deepEqual([...client.peers.keys()], [BOB], 'the roster stays while the connection is away');
  const again = await nextSocket(context);
  again.resume({ seq: 1, peers: [] });
  again.say({ type: 'peer-joined', seq: 2, ...peerEntry(CAROL) });
  again.say(message(3, 2, 'b'));
  assert.equal(client.peerId, ALICE);
  assert.equal(client.state, 'open');
  assert.deepEqual([...client.peers.keys()], [BOB, CAROL], 'until an entry says otherwise');
  assert.deepEqual(heard.map(([name, { data, recovered }]) => [name, data ?? recovered]), [['message', 'a'], ['resumed', true], ['message', 'b']]);
  assert.deepEqual(states.slice(-3).map(({ state }) => state), ['waiting', 'connecting', 'open']);
});

test('every resumed brings the next handle', async () => {
  const context = await heldClient();
  context.socket.end(1006);
  const second = await nextSocket(context);
  second.resume({ resume: 'handle.2' });
  second.end(1006);
  assert.equal((await nextSocket(context)).protocols[1], 'resume.handle.2');
});

test('a resumed that got lost on the way is asked for again with the handle of before', async () => {
  const context = await heldClient();
  context.socket.end(1006);
  const second = await nextSocket(context);
  second.open();
  second.end(1006);
  assert.equal((await nextSocket(context)).protocols[1], 'resume.handle.1');
});

test('sends with an id up to lastId are done, the rest goes out again under the same ids, before what is new', async () => {
  const context = await heldClient();
  const { client, socket } = context;
  const sends = ['a', 'b', 'c'].map((data) => client.message(data));
  socket.end(1006);
  const late = client.message('d');
  const again = await nextSocket(context);
  again.resume({ lastId: 2 });
  assert.deepEqual(again.frames('message').map(({ id, data }) => `${id}:${data}`), ['3:c', '4:d']);
  assert.deepEqual([await sends[0], await sends[1]], [{ type: 'ack', id: 1, duplicate: true }, { type: 'ack', id: 2, duplicate: true }]);
  again.say({ type: 'ack', id: 3 });
  again.say({ type: 'ack', id: 4 });
  await Promise.all([...sends, late]);
});

test('recovered: false replaces the roster, goes on at its seq, and drops what was heard before', async () => {
  const context = await heldClient();
  const { client, socket, heard } = context;
  socket.say(message(1, 5, 'a'));
  socket.end(1006);
  const again = await nextSocket(context);
  again.resume({ recovered: false, seq: 70, peers: [peerEntry(BOB), peerEntry(CAROL)] });
  again.say(message(71, 5, 'a'));
  again.say(message(72, 6, 'b'));
  assert.deepEqual([...client.peers.keys()], [BOB, CAROL]);
  assert.deepEqual(heard.map(([name, { data, recovered }]) => [name, data ?? recovered]), [['message', 'a'], ['resumed', false], ['message', 'b']]);
});

test('recovered: false may come unasked on a live connection: same peer, no new socket, the same rules', async () => {
  const context = await heldClient();
  const { client, socket, server, heard, states } = context;
  const before = states.length;
  const sends = ['a', 'b'].map((data) => client.message(data));
  socket.say(resumedFrame({ recovered: false, seq: 9, lastId: 1, resume: 'handle.7', peers: [peerEntry(CAROL)] }));
  assert.deepEqual(await sends[0], { type: 'ack', id: 1, duplicate: true });
  assert.deepEqual(socket.frames('message').map(({ id }) => id), [1, 2, 2]);
  socket.say({ type: 'ack', id: 2 });
  socket.say({ type: 'ack', id: 2, duplicate: true });
  await sends[1];
  assert.deepEqual([client.peerId, client.state, [...client.peers.keys()]], [ALICE, 'open', [CAROL]]);
  assert.deepEqual([server.sockets.length, states.length], [1, before]);
  assert.deepEqual(heard.map(([name]) => name), ['resumed']);
  socket.end(1006);
  const again = await nextSocket(context);
  assert.deepEqual([again.protocols[1], again.address], ['resume.handle.7', 'ws://signal.example/ws/signal?since=9']);
});

test('a gap in seq and a half-open connection are resumed from where the mailbox was', async () => {
  for (const breakIt of [({ socket }) => socket.say(offer(3, 3)), () => mock.timers.tick(60_000)]) {
    const context = await heldClient();
    context.socket.say(offer(1, 1));
    breakIt(context);
    const again = await nextSocket(context);
    assert.equal(again.address, 'ws://signal.example/ws/signal?since=1');
    again.resume({ seq: 1 });
    again.say(offer(2, 2));
    assert.deepEqual(context.heard.map(([name, { seq }]) => [name, seq]), [['offer', 1], ['resumed', 1], ['offer', 2]]);
    context.client.leave();
  }
});

test('an entry that cannot be read is told and counted: it would come back for ever', async () => {
  const context = await heldClient();
  context.socket.say({ type: 'offer', seq: 1, from: BOB, id: 1 });
  context.socket.say(offer(2, 2));
  assert.deepEqual(context.heard.map(([name, { code, seq }]) => [name, code ?? seq]), [['error', 'bad_frame'], ['offer', 2]]);
});

test('goaway: the client resumes at its own moment', async () => {
  const context = await heldClient();
  context.socket.say({ type: 'goaway', reconnectIn: 1500 });
  mock.timers.tick(1499);
  assert.equal(context.client.state, 'open');
  mock.timers.tick(1);
  assert.equal(context.states.findLast(({ state }) => state === 'waiting').error.code, 'going_away');
  assert.deepEqual(context.server.sockets.slice(1).map(({ protocols }) => protocols[1]), ['resume.handle.1']);
});

test('after the loss of a connection that held, the first attempt waits for a small jitter only; then the waits grow', async () => {
  const context = await heldClient({ random: () => 1, fetch: problem(503, 'draining') });
  context.socket.end(1006);
  assert.equal(context.states.at(-1).retryInMs, 200);
  const waits = [];
  for (let n = 0; n < 3; n += 1) {
    const again = await nextSocket(context);
    const waiting = context.client.next('state');
    again.end(1006);
    waits.push((await waiting).retryInMs);
  }
  assert.deepEqual(waits, [2500, 3000, 4000], 'Retry-After first, then the backoff');
});

test('as long as the server may keep its place, the client asks often; then it takes its time', async () => {
  const context = await heldClient({ random: () => 1, fetch: async () => Promise.reject(new TypeError('no network')) });
  context.socket.end(1006);
  const waits = [];
  for (let passed = 200; passed < 75_000; passed += waits.at(-1)) {
    const again = await nextSocket(context);
    const waiting = context.client.next('state');
    again.end(1006);
    waits.push((await waiting).retryInMs);
  }
  const later = waits.findIndex((wait) => wait > 4000);
  assert.ok(waits.slice(0, later).reduce((sum, wait) => sum + wait) >= 60_000 - 200, String(waits));
  assert.equal(waits[later], 20_000);
});

test('a connection that is lost as soon as it is there is no reason to hurry', async () => {
  const context = await heldClient({ random: () => 1 });
  context.socket.end(1006);
  const again = await nextSocket(context);
  again.resume();
  again.end(1006);
  assert.equal(context.states.at(-1).retryInMs, 500);
});

for (const code of ['resume_expired', 'resume_invalid']) {
  test(`${code}: the handle is forgotten, and the client joins anew with a token`, async () => {
    const asked = [];
    const context = await heldClient({ fetch: problem(401, code, asked) });
    const { client, socket, server } = context;
    const lost = client.message('lost');
    lost.catch(() => {});
    socket.end(1006);
    const kept = client.message('kept');
    const refused = await nextSocket(context);
    const arrived = server.next();
    refused.end(1006);
    const anew = await arrived;
    assert.deepEqual(asked, [['http://signal.example/ws/validate?resume=handle.1', undefined]]);
    assert.deepEqual([anew.protocols[1], anew.address], ['token.T', 'ws://signal.example/ws/signal']);
    anew.open();
    anew.say(joinedFrame({ peerId: CAROL, peers: [] }));
    assert.equal(client.peerId, CAROL);
    await assert.rejects(lost, { code: 'session_gone' });
    assert.deepEqual(anew.frames('message').map(({ data }) => data), ['kept']);
    anew.say({ type: 'ack', id: 2 });
    await kept;
  });
}

test('resume_replaced is the end: a newer connection has this peer', async () => {
  const context = await heldClient({ fetch: problem(401, 'resume_replaced') });
  context.socket.end(1006);
  const refused = await nextSocket(context);
  refused.end(1006);
  await settle();
  assert.deepEqual([context.client.state, context.states.at(-1).error.code], ['closed', 'replaced']);
});

test('close 4512 is the end, too', async () => {
  const context = await heldClient();
  context.socket.end(4512, 'replaced');
  assert.deepEqual([context.client.state, context.states.at(-1).error.code], ['closed', 'replaced']);
});

test('503 and an unreachable server are waited out with the handle in hand', async () => {
  const answers = [problem(503, 'unavailable'), () => Promise.reject(new TypeError('network'))];
  const context = await heldClient({ fetch: (...args) => answers.shift()(...args) });
  context.socket.end(1006);
  const codes = [];
  for (let n = 0; n < 2; n += 1) {
    const refused = await nextSocket(context);
    const waiting = context.client.next('state');
    refused.end(1006);
    codes.push((await waiting).error.code);
  }
  assert.deepEqual(codes, ['unavailable', 'unreachable']);
  assert.equal((await nextSocket(context)).protocols[1], 'resume.handle.1');
});

test('a verdict that is fine by the time it is asked for means: once more', async () => {
  const context = await heldClient({ fetch: problem(200) });
  context.socket.end(1006);
  const refused = await nextSocket(context);
  const waiting = context.client.next('state');
  refused.end(1006);
  assert.equal((await waiting).state, 'waiting');
  assert.equal((await nextSocket(context)).protocols[1], 'resume.handle.1');
});

test('close 4004: the peer is gone, and the client joins anew with a token', async () => {
  const context = await heldClient();
  context.socket.end(4004, 'session_gone');
  assert.equal((await nextSocket(context)).protocols[1], 'token.T');
});

test('a handle that is none is not used', async () => {
  const context = await connectClient();
  context.socket.join({ resume: 'two words' });
  await context.joined;
  context.socket.end(1006);
  assert.equal((await nextSocket(context)).protocols[1], 'token.T');
});

test('leave forgets the handle and leaves no timer behind', async () => {
  const context = await heldClient();
  context.socket.say(offer(1, 1));
  context.socket.say({ type: 'goaway', reconnectIn: 2000 });
  context.client.message('x').catch(() => {});
  context.client.leave();
  const before = Date.now();
  mock.timers.runAll();
  assert.equal(Date.now(), before);
  assert.equal(context.server.sockets.length, 1);
});
