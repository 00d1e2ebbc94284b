/** Leaving is announced: others must not wait for the resume window of a peer that has left. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { SignalingClient } from '../src/index.js';
import { connectClient, scriptedServer } from './scripted-server.js';
import { mockTime, restoreTime } from './mock-time.js';

/** @type {EventTarget} */
let page;

beforeEach(() => {
  mockTime();
  page = new EventTarget(); // Node has no window
  for (const name of ['addEventListener', 'removeEventListener']) globalThis[name] = page[name].bind(page);
});
afterEach(() => {
  restoreTime();
  for (const name of ['addEventListener', 'removeEventListener']) delete globalThis[name];
});

const settle = async () => {
  for (let n = 0; n < 20; n += 1) await new Promise((resolve) => setImmediate(resolve));
};
const unreachable = () => Promise.reject(new TypeError('network'));

async function connectedClient(options = {}) {
  const context = await connectClient({ fetch: unreachable, ...options });
  context.socket.join({ resume: 'handle.1', seq: 3, resumeWindow: 20_000 });
  await context.joined;
  mock.timers.tick(6_000);
  return context;
}

test('leave while the socket opens: the frame follows as soon as it is open', async () => {
  const { client, socket, joined } = await connectClient();
  client.leave();
  await assert.rejects(joined, { code: 'left' });
  assert.deepEqual([client.state, socket.readyState, socket.frames()], ['closed', 0, []]);
  socket.open();
  assert.deepEqual(socket.frames(), [{ type: 'leave' }]);
  assert.equal(socket.readyState, 3);
});

test('leave between the open socket and joined', async () => {
  const { client, socket } = await connectClient();
  socket.open();
  client.leave();
  assert.deepEqual(socket.frames(), [{ type: 'leave' }]);
});

test('leave while the token is requested opens no socket', async () => {
  let grantToken;
  const asked = new Promise((resolve) => (grantToken = resolve));
  const server = scriptedServer();
  const client = new SignalingClient({ url: 'http://signal.example', getToken: () => asked, WebSocket: server.WebSocket });
  const joined = client.connect();
  client.leave();
  grantToken('T');
  await assert.rejects(joined, { code: 'left' });
  await settle();
  assert.equal(server.sockets.length, 0);
});

test('leave on an open connection is one frame and a close', async () => {
  const { client, socket, server } = await connectedClient();
  client.leave();
  assert.deepEqual(socket.frames(), [{ type: 'leave' }]);
  socket.end(1000, 'left');
  await settle();
  mock.timers.tick(60_000);
  await settle();
  assert.equal(server.sockets.length, 1);
});

for (const state of ['waiting', 'connecting', 'asking for the reason', 'dead']) {
  test(`leave while the connection is lost (${state}): the client resumes to say so`, async () => {
    const never = new Promise(() => {});
    const { client, socket, server } = await connectedClient(state === 'asking for the reason' ? { fetch: () => never } : {});
    if (state !== 'dead') socket.end(1006);
    if (state === 'connecting' || state === 'asking for the reason') mock.timers.tick(0);
    await settle();
    if (state === 'asking for the reason') server.sockets.at(-1).end(1006);
    await settle();
    client.leave();
    await settle();
    // The server does not answer on a dead connection.
    if (state === 'dead') mock.timers.tick(3_000);
    for (let n = 0; n < 5; n += 1) {
      await settle();
      mock.timers.tick(100);
    }
    const last = server.sockets.at(-1);
    assert.deepEqual([last.protocols[1], last.address], ['resume.handle.1', 'ws://signal.example/ws/signal?since=3']);
    last.open();
    assert.deepEqual(last.frames(), [{ type: 'leave' }]);
    assert.equal(client.state, 'closed');
  });
}

test('an announcement that cannot be made is retried for the window, and no longer', async () => {
  const { client, socket, server } = await connectedClient();
  socket.end(1006);
  client.leave();
  for (let ms = 0; ms < 60_000; ms += 500) {
    server.sockets.at(-1).end(1006);
    await settle();
    mock.timers.tick(500);
    await settle();
  }
  const attempts = server.sockets.length;
  assert.ok(attempts > 5, String(attempts));
  mock.timers.tick(60_000);
  await settle();
  assert.equal(server.sockets.length, attempts);
});

test('an announcement ends when the server refuses the handle', async () => {
  const refusal = async () => new Response('{"code":"resume_expired"}', { status: 401 });
  const { client, socket, server } = await connectedClient({ fetch: refusal });
  socket.end(1006);
  client.leave();
  await settle();
  assert.equal(server.sockets.length, 2);
  server.sockets.at(-1).end(1006);
  await settle();
  mock.timers.tick(20_000);
  await settle();
  assert.equal(server.sockets.length, 2);
});

test('a page that closes says that it is going, and keeps its handle for a reload', async () => {
  const values = new Map();
  const storage = { getItem: (key) => values.get(key) ?? null, setItem: (key, value) => values.set(key, value), removeItem: (key) => values.delete(key) };
  const { socket } = await connectedClient({ handleStorage: { storage, key: 'k' } });
  page.dispatchEvent(Object.assign(new Event('pagehide'), { persisted: false }));
  assert.deepEqual(socket.frames(), [{ type: 'going' }]);
  assert.deepEqual([...values.values()], ['{"handle":"handle.1"}']);
});

for (const isClosed of [true, false]) {
  test(`a page that closes opens no socket to leave (its own is closed ${isClosed ? 'before' : 'after'} pagehide)`, async () => {
    const { client, server, socket } = await connectedClient();
    page.addEventListener('pagehide', () => client.leave());
    if (isClosed) socket.end(1001);
    await settle();
    page.dispatchEvent(new Event('pagehide'));
    if (!isClosed) socket.end(1001);
    await settle();
    mock.timers.tick(5_000);
    await settle();
    assert.equal(server.sockets.length, 1);
  });
}

test('a page whose socket is closed with 1001 reconnects a second later', async () => {
  const { server, socket } = await connectedClient();
  socket.end(1001);
  await settle();
  mock.timers.tick(999);
  await settle();
  assert.equal(server.sockets.length, 1);
  mock.timers.tick(201);
  await settle();
  assert.equal(server.sockets.length, 2);
});

test('after leave a closing page says nothing more', async () => {
  const { client, socket } = await connectedClient();
  client.leave();
  page.dispatchEvent(new Event('pagehide'));
  assert.deepEqual(socket.frames(), [{ type: 'leave' }]);
});
