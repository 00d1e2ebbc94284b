/** Resume of the same peer (docs/PROTOCOL.md, sections 2, 5 and 8). */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { ALICE, BOB, CAROL, connectClient, joinedFrame, peerEntry, resumedFrame } from './scripted-server.js';
import { mockTime, restoreTime } from './mock-time.js';

beforeEach(() => mockTime());
afterEach(restoreTime);

const settle = () => new Promise((resolve) => setImmediate(resolve));
const offer = (seq, id, from = BOB) => ({ type: 'offer', seq, from, id, sdp: 'v=0' });
const message = (seq, id, data) => ({ type: 'message', seq, from: BOB, id, data });

/** Creates a client with a handle and a good connection. */
async function createResumableClient(options = {}, joined = {}) {
  const tokens = [];
  const getToken = () => tokens.push('T') && 'T';
  const context = await connectClient({ getToken, ...options });
  context.socket.join({ resume: 'handle.1', ...joined });
  await context.joined;
  mock.timers.tick(6_000);
  const received = [];
  for (const name of ['joined', 'resumed', 'offer', 'message', 'error']) context.client.on(name, (detail) => received.push([name, detail]));
  return { ...context, tokens, received };
}

/** Ends the wait and resolves with the socket of the next attempt. */
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
  test(`after ${code} ${reason} the client resumes with its handle and the last seq, without a token`, async () => {
    const context = await createResumableClient();
    context.socket.deliver(offer(1, 1));
    context.socket.deliver(offer(2, 2));
    context.socket.end(code, reason);
    const again = await nextSocket(context);
    assert.equal(again.address, 'ws://signal.example/ws/signal?since=2');
    assert.deepEqual(again.protocols, ['signalbox.v1', 'resume.handle.1']);
    assert.equal(context.tokens.length, 1);
  });
}

test('after resumed the client is the same peer, with the same peers and each entry once', async () => {
  const context = await createResumableClient();
  const { client, socket, received, states } = context;
  socket.deliver(message(1, 1, 'a'));
  socket.end(1006);
  assert.deepEqual([...client.peers.keys()], [BOB], 'the peers stay while the connection is lost');
  const again = await nextSocket(context);
  again.resume({ seq: 1, peers: [] });
  again.deliver({ type: 'peer-joined', seq: 2, ...peerEntry(CAROL) });
  again.deliver(message(3, 2, 'b'));
  assert.equal(client.peerId, ALICE);
  assert.equal(client.state, 'open');
  assert.deepEqual([...client.peers.keys()], [BOB, CAROL], 'until an entry changes them');
  assert.deepEqual(received.map(([name, { data, recovered }]) => [name, data ?? recovered]), [['message', 'a'], ['resumed', true], ['message', 'b']]);
  assert.deepEqual(states.slice(-3).map(({ state }) => state), ['waiting', 'connecting', 'open']);
});

test('every resumed has the next handle', async () => {
  const context = await createResumableClient();
  context.socket.end(1006);
  const second = await nextSocket(context);
  second.resume({ resume: 'handle.2' });
  second.end(1006);
  assert.equal((await nextSocket(context)).protocols[1], 'resume.handle.2');
});

test('after a lost resumed frame the client resumes with the previous handle', async () => {
  const context = await createResumableClient();
  context.socket.end(1006);
  const second = await nextSocket(context);
  second.open();
  second.end(1006);
  assert.equal((await nextSocket(context)).protocols[1], 'resume.handle.1');
});

test('messages up to lastId are resolved, and the rest is sent again with the same ids before new messages', async () => {
  const context = await createResumableClient();
  const { client, socket } = context;
  const messages = ['a', 'b', 'c'].map((data) => client.message(data));
  socket.end(1006);
  const late = client.message('d');
  const again = await nextSocket(context);
  again.resume({ lastId: 2 });
  assert.deepEqual(again.frames('message').map(({ id, data }) => `${id}:${data}`), ['3:c', '4:d']);
  assert.deepEqual([await messages[0], await messages[1]], [{ type: 'ack', id: 1, duplicate: true }, { type: 'ack', id: 2, duplicate: true }]);
  again.deliver({ type: 'ack', id: 3 });
  again.deliver({ type: 'ack', id: 4 });
  await Promise.all([...messages, late]);
});

test('recovered: false replaces the peers, continues at its seq, and ignores known messages', async () => {
  const context = await createResumableClient();
  const { client, socket, received } = context;
  socket.deliver(message(1, 5, 'a'));
  socket.end(1006);
  const again = await nextSocket(context);
  again.resume({ recovered: false, seq: 70, peers: [peerEntry(BOB), peerEntry(CAROL)] });
  again.deliver(message(71, 5, 'a'));
  again.deliver(message(72, 6, 'b'));
  assert.deepEqual([...client.peers.keys()], [BOB, CAROL]);
  assert.deepEqual(received.map(([name, { data, recovered }]) => [name, data ?? recovered]), [['message', 'a'], ['resumed', false], ['message', 'b']]);
});

test('recovered: false may arrive on an open connection, with the same rules and no new socket', async () => {
  const context = await createResumableClient();
  const { client, socket, server, received, states } = context;
  const before = states.length;
  const messages = ['a', 'b'].map((data) => client.message(data));
  socket.deliver(resumedFrame({ recovered: false, seq: 9, lastId: 1, resume: 'handle.7', peers: [peerEntry(CAROL)] }));
  assert.deepEqual(await messages[0], { type: 'ack', id: 1, duplicate: true });
  assert.deepEqual(socket.frames('message').map(({ id }) => id), [1, 2, 2]);
  socket.deliver({ type: 'ack', id: 2 });
  socket.deliver({ type: 'ack', id: 2, duplicate: true });
  await messages[1];
  assert.deepEqual([client.peerId, client.state, [...client.peers.keys()]], [ALICE, 'open', [CAROL]]);
  assert.deepEqual([server.sockets.length, states.length], [1, before]);
  assert.deepEqual(received.map(([name]) => name), ['resumed']);
  socket.end(1006);
  const again = await nextSocket(context);
  assert.deepEqual([again.protocols[1], again.address], ['resume.handle.7', 'ws://signal.example/ws/signal?since=9']);
});

test('after a gap in seq or a half-open connection the client resumes at its last entry', async () => {
  for (const breakIt of [({ socket }) => socket.deliver(offer(3, 3)), () => mock.timers.tick(60_000)]) {
    const context = await createResumableClient();
    context.socket.deliver(offer(1, 1));
    breakIt(context);
    const again = await nextSocket(context);
    assert.equal(again.address, 'ws://signal.example/ws/signal?since=1');
    again.resume({ seq: 1 });
    again.deliver(offer(2, 2));
    assert.deepEqual(context.received.map(([name, { seq }]) => [name, seq]), [['offer', 1], ['resumed', 1], ['offer', 2]]);
    context.client.leave();
  }
});

test('an invalid entry is reported and counted', async () => {
  const context = await createResumableClient();
  context.socket.deliver({ type: 7, seq: 1 });
  context.socket.deliver(offer(2, 2));
  assert.deepEqual(context.received.map(([name, { code, seq }]) => [name, code ?? seq]), [['error', 'bad_frame'], ['offer', 2]]);
});

test('after goaway the client resumes at the given time', async () => {
  const context = await createResumableClient();
  context.socket.deliver({ type: 'goaway', reconnectIn: 1500 });
  mock.timers.tick(1499);
  assert.equal(context.client.state, 'open');
  mock.timers.tick(1);
  assert.equal(context.states.findLast(({ state }) => state === 'waiting').error.code, 'going_away');
  assert.deepEqual(context.server.sockets.slice(1).map(({ protocols }) => protocols[1]), ['resume.handle.1']);
});

test('after a good connection the first attempt waits for a small jitter only, and later waits grow', async () => {
  const context = await createResumableClient({ random: () => 1, fetch: problem(503, 'draining') });
  context.socket.end(1006);
  assert.equal(context.states.at(-1).retryInMs, 200);
  const waits = [];
  for (let n = 0; n < 3; n += 1) {
    const again = await nextSocket(context);
    const waiting = context.client.next('state');
    again.end(1006);
    waits.push((await waiting).retryInMs);
  }
  assert.deepEqual(waits, [2500, 3000, 4000], 'Retry-After plus the backoff');
});

test('while the server may keep the peer the waits are short, and later they are long', async () => {
  const context = await createResumableClient({ random: () => 1, fetch: async () => Promise.reject(new TypeError('no network')) }, { resumeWindow: 90_000 });
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

test('after a short connection the client uses the normal backoff', async () => {
  const context = await createResumableClient({ random: () => 1 });
  context.socket.end(1006);
  const again = await nextSocket(context);
  again.resume();
  again.end(1006);
  assert.equal(context.states.at(-1).retryInMs, 500);
});

for (const code of ['resume_expired', 'resume_invalid']) {
  test(`after ${code} the client forgets the handle and joins with a token`, async () => {
    const asked = [];
    const context = await createResumableClient({ fetch: problem(401, code, asked) });
    const { client, socket, server } = context;
    const lost = client.message('lost');
    lost.catch(() => {});
    socket.end(1006);
    const kept = client.message('kept');
    const refused = await nextSocket(context);
    const arrived = server.next();
    refused.end(1006);
    const anew = await arrived;
    assert.deepEqual(asked, [['http://signal.example/ws/validate', 'Resume handle.1']]);
    assert.deepEqual([anew.protocols[1], anew.address], ['token.T', 'ws://signal.example/ws/signal']);
    anew.open();
    anew.deliver(joinedFrame({ peerId: CAROL, peers: [] }));
    assert.equal(client.peerId, CAROL);
    await assert.rejects(lost, { code: 'session_gone' });
    assert.deepEqual(anew.frames('message').map(({ data }) => data), ['kept']);
    anew.deliver({ type: 'ack', id: 2 });
    await kept;
  });
}

test('resume_replaced is final, because a newer connection owns the peer', async () => {
  const context = await createResumableClient({ fetch: problem(401, 'resume_replaced') });
  context.socket.end(1006);
  const refused = await nextSocket(context);
  refused.end(1006);
  await settle();
  assert.deepEqual([context.client.state, context.states.at(-1).error.code], ['closed', 'replaced']);
});

test('close 4512 is final', async () => {
  const context = await createResumableClient();
  context.socket.end(4512, 'replaced');
  assert.deepEqual([context.client.state, context.states.at(-1).error.code], ['closed', 'replaced']);
});

test('after a 503 or without an answer the client retries with its handle', async () => {
  const answers = [problem(503, 'unavailable'), () => Promise.reject(new TypeError('network'))];
  const context = await createResumableClient({ fetch: (...args) => answers.shift()(...args) });
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

test('the client retries when /ws/validate accepts the handle', async () => {
  const context = await createResumableClient({ fetch: problem(200) });
  context.socket.end(1006);
  const refused = await nextSocket(context);
  const waiting = context.client.next('state');
  refused.end(1006);
  assert.equal((await waiting).state, 'waiting');
  assert.equal((await nextSocket(context)).protocols[1], 'resume.handle.1');
});

test('after close 4004 the client joins with a token', async () => {
  const context = await createResumableClient();
  context.socket.end(4004, 'session_gone');
  assert.equal((await nextSocket(context)).protocols[1], 'token.T');
});

test('an invalid handle is not used', async () => {
  const context = await connectClient();
  context.socket.join({ resume: 'two words' });
  await context.joined;
  context.socket.end(1006);
  assert.equal((await nextSocket(context)).protocols[1], 'token.T');
});

test('leave forgets the handle and stops all timers', async () => {
  const context = await createResumableClient();
  context.socket.deliver(offer(1, 1));
  context.socket.deliver({ type: 'goaway', reconnectIn: 2000 });
  context.client.message('x').catch(() => {});
  context.client.leave();
  context.socket.end(1000, 'left');
  const before = Date.now();
  mock.timers.runAll();
  assert.equal(Date.now(), before);
  assert.equal(context.server.sockets.length, 1);
});
