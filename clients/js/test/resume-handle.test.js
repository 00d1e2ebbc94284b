/** Takeover after a reload: the earlier page left its handle in the storage of the tab. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { CAROL, connectClient } from './scripted-server.js';

const KEY = 'signalbox.resume';
/** @type {EventTarget} */
let page;
const clients = [];

beforeEach(() => {
  page = new EventTarget(); // Node has no window
  for (const name of ['addEventListener', 'removeEventListener']) globalThis[name] = page[name].bind(page);
});
afterEach(() => {
  for (const client of clients.splice(0)) client.leave();
  for (const name of ['addEventListener', 'removeEventListener']) delete globalThis[name];
});

const firePageEvent = (type, persisted) => page.dispatchEvent(Object.assign(new Event(type), { persisted }));

function createStorage(handle) {
  const values = new Map();
  if (handle) values.set(KEY, JSON.stringify({ handle }));
  return {
    values,
    getItem: (key) => values.get(key) ?? null,
    setItem: (key, value) => values.set(key, value),
    removeItem: (key) => values.delete(key),
  };
}

const refusal = (status, code) => async () => new Response(JSON.stringify({ code, status }), { status });

/** Opens a client in a tab with this storage. */
async function openClient(tab, options = {}) {
  const context = await connectClient({ handleStorage: { storage: tab, key: KEY }, ...options });
  clients.push(context.client);
  return context;
}

test('a page without a stored handle joins with a token', async () => {
  const { socket } = await openClient(createStorage());
  assert.equal(socket.protocols[1], 'token.T');
});

test('after a reload the page takes over the peer with the handle, without since and without a token', async () => {
  const { socket, client } = await openClient(createStorage('old.handle'), { getToken: () => assert.fail('no token is needed') });
  assert.deepEqual([socket.protocols[1], socket.address], ['resume.old.handle', 'ws://signal.example/ws/signal']);
  socket.join({ peerId: CAROL, resume: 'new.handle' });
  assert.equal(client.peerId, CAROL);
});

test('the storage is empty while a page is open, and pagehide writes the handle', async () => {
  const tab = createStorage('old.handle');
  const { socket } = await openClient(tab);
  assert.equal(tab.values.size, 0, 'not even while it connects');
  socket.join({ resume: 'new.handle' });
  assert.equal(tab.values.size, 0);
  firePageEvent('pagehide', false);
  assert.deepEqual([...tab.values], [[KEY, '{"handle":"new.handle"}']], 'the newest, and nothing but the handle');
});

test('a page that the back button restores removes its handle from the storage', async () => {
  const tab = createStorage();
  const { socket } = await openClient(tab);
  socket.join({ resume: 'a.handle' });
  firePageEvent('pagehide', true);
  assert.equal(tab.values.size, 1);
  firePageEvent('pageshow', true);
  assert.equal(tab.values.size, 0);
});

test('the first pageshow does not remove the handle of another page', async () => {
  const tab = createStorage();
  await openClient(tab);
  tab.values.set(KEY, 'x');
  firePageEvent('pageshow', false);
  assert.equal(tab.values.size, 1);
});

test('a page that closes before it has joined keeps the stored handle', async () => {
  const tab = createStorage('old.handle');
  await openClient(tab);
  firePageEvent('pagehide', false);
  assert.deepEqual([...tab.values.values()], ['{"handle":"old.handle"}']);
});

for (const code of ['resume_expired', 'resume_invalid', 'resume_replaced']) {
  test(`after a takeover is refused with ${code} the client joins with a token`, async () => {
    const { server, socket } = await openClient(createStorage('old.handle'), { fetch: refusal(401, code) });
    const arrived = server.next();
    socket.end(1006);
    assert.equal((await arrived).protocols[1], 'token.T');
  });
}

test('a takeover is retried after a 503', async () => {
  const { server, socket, states } = await openClient(createStorage('old.handle'), { fetch: refusal(503, 'unavailable') });
  const arrived = server.next();
  socket.end(1006);
  const again = await arrived;
  assert.equal(states.at(-2).state, 'waiting');
  assert.deepEqual([again.protocols[1], again.address], ['resume.old.handle', 'ws://signal.example/ws/signal']);
});

test('after a takeover the client resumes its own peer, with since', async () => {
  const { server, socket } = await openClient(createStorage('old.handle'));
  socket.join({ peerId: CAROL, resume: 'new.handle', seq: 4 });
  const arrived = server.next();
  socket.end(1006);
  assert.equal((await arrived).address, 'ws://signal.example/ws/signal?since=4');
});

test('leave removes the handle, before and after pagehide', async () => {
  for (const first of ['leave', 'hide']) {
    const tab = createStorage();
    const { client, socket } = await openClient(tab);
    socket.join({ resume: 'a.handle' });
    if (first === 'hide') firePageEvent('pagehide', false);
    client.leave();
    if (first === 'leave') firePageEvent('pagehide', false);
    assert.equal(tab.values.size, 0, `${first} first`);
  }
});

test('a client with a final close leaves no handle', async () => {
  const tab = createStorage();
  const { socket } = await openClient(tab);
  socket.join({ resume: 'a.handle' });
  socket.end(4513, 'removed');
  firePageEvent('pagehide', false);
  assert.equal(tab.values.size, 0);
});

test('a disabled storage, or an invalid value in it, is ignored', async () => {
  const refuse = () => {
    throw new DOMException('no', 'SecurityError');
  };
  const off = { getItem: refuse, setItem: refuse, removeItem: refuse };
  for (const tab of [off, { ...createStorage(), getItem: () => '{"handle":"two words"}' }, { ...createStorage(), getItem: () => 'null' }, { ...createStorage(), getItem: () => '{' }]) {
    const { socket } = await openClient(tab);
    assert.equal(socket.protocols[1], 'token.T');
    socket.join({ resume: 'a.handle' });
    firePageEvent('pagehide', false);
  }
});
