/** Sleep and wake: a page that returns finds out at once whether its connection is dead. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { connectClient } from './scripted-server.js';
import { mockTime, restoreTime } from './mock-time.js';

/** The parts of a page, by the target of the event. @type {Record<string, EventTarget>} */
let page;

beforeEach(() => {
  mockTime();
  page = { window: new EventTarget(), document: Object.assign(new EventTarget(), { hidden: false }), connection: new EventTarget() };
  for (const name of ['addEventListener', 'removeEventListener']) globalThis[name] = page.window[name].bind(page.window);
  globalThis.document = page.document;
  Object.defineProperty(globalThis, 'navigator', { value: { connection: page.connection }, configurable: true, writable: true });
});
afterEach(() => {
  restoreTime();
  for (const name of ['addEventListener', 'removeEventListener', 'document']) delete globalThis[name];
});

const settle = async () => {
  for (let n = 0; n < 20; n += 1) await new Promise((resolve) => setImmediate(resolve));
};

/** Target of the event, its type and its members. */
const WAKE_EVENTS = [
  ['window', 'online', {}],
  ['window', 'pageshow', { persisted: true }],
  ['document', 'visibilitychange', {}],
  ['document', 'resume', {}],
  ['connection', 'change', {}],
];

const fire = ([target, type, members]) => page[target].dispatchEvent(Object.assign(new Event(type), members));

async function connectedClient(options = {}) {
  const context = await connectClient(options);
  context.socket.join({ resume: 'handle.1' });
  await context.joined;
  mock.timers.tick(6_000);
  return context;
}

for (const event of WAKE_EVENTS) {
  test(`${event[1]}: a dead connection is replaced within a second`, async () => {
    const { server, socket, client } = await connectedClient();
    fire(event);
    assert.deepEqual(socket.frames(), [{ type: 'ping' }]);
    mock.timers.tick(999);
    await settle();
    assert.deepEqual([server.sockets.length, server.sockets.at(-1).protocols[1]], [2, 'resume.handle.1']);
    client.leave();
  });

  test(`${event[1]}: a connection that answers stays`, async () => {
    const { server, socket, client } = await connectedClient();
    fire(event);
    socket.deliver({ type: 'pong' });
    mock.timers.tick(10_000);
    await settle();
    assert.deepEqual([server.sockets.length, client.state], [1, 'open']);
    client.leave();
  });

  test(`${event[1]}: a client that waits connects at once, and an attempt on a dead network is replaced`, async () => {
    const { server, socket, client } = await connectedClient({ random: () => 1, fetch: () => new Promise(() => {}) });
    socket.end(1006);
    assert.equal(client.state, 'waiting');
    fire(event);
    await settle();
    assert.equal(server.sockets.length, 2);
    fire(event);
    await settle();
    assert.equal(server.sockets.length, 2, 'an attempt that has just begun goes on');
    mock.timers.tick(1_500);
    fire(event);
    await settle();
    assert.equal(server.sockets.length, 3);
    client.leave();
  });
}

test('late timers mean that the machine slept', async () => {
  restoreTime();
  mockTime('setInterval');
  const { server, client } = await connectClient();
  const socket = server.sockets[0];
  socket.join({ resume: 'handle.1' });
  for (let n = 0; n < 6; n += 1) mock.timers.tick(2_000);
  assert.deepEqual(socket.frames(), [], 'timers in time mean nothing');
  mock.timers.tick(30_000);
  assert.deepEqual(socket.frames().slice(0, 1), [{ type: 'ping' }]);
  mock.timers.tick(999);
  await settle();
  assert.equal(server.sockets.length, 2);
  client.leave();
});

test('on a slow network the answer has more time', async () => {
  const { server, socket, client } = await connectClient();
  mock.timers.tick(2_000);
  socket.join({ resume: 'handle.1' });
  client.wake();
  mock.timers.tick(1_900);
  await settle();
  assert.equal(server.sockets.length, 1);
  mock.timers.tick(200);
  await settle();
  assert.equal(server.sockets.length, 2);
  client.leave();
});

test('a page that is hidden, or is shown for the first time, probes nothing', async () => {
  const { socket, client } = await connectedClient();
  page.document.hidden = true;
  fire(['document', 'visibilitychange', {}]);
  fire(['window', 'pageshow', { persisted: false }]);
  assert.deepEqual(socket.frames(), []);
  client.leave();
});

test('an application may ask for the probe itself', async () => {
  const { server, socket, client } = await connectedClient();
  client.wake();
  assert.deepEqual(socket.frames(), [{ type: 'ping' }]);
  mock.timers.tick(999);
  await settle();
  assert.equal(server.sockets.length, 2);
  client.leave();
  client.wake();
});
