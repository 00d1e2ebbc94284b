/** Taking over after a reload: the page before this one left its handle in the tab's storage. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { CAROL, connectClient } from './scripted.js';

const KEY = 'signalbox.resume';
/** @type {EventTarget} */
let page;
const clients = [];

beforeEach(() => {
  page = new EventTarget(); // Node has no page
  for (const name of ['addEventListener', 'removeEventListener']) globalThis[name] = page[name].bind(page);
});
afterEach(() => {
  for (const client of clients.splice(0)) client.leave();
  for (const name of ['addEventListener', 'removeEventListener']) delete globalThis[name];
});

const turn = (type, persisted) => page.dispatchEvent(Object.assign(new Event(type), { persisted }));

function storage(handle) {
  const kept = new Map();
  if (handle) kept.set(KEY, JSON.stringify({ handle }));
  return {
    kept,
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => kept.set(key, value),
    removeItem: (key) => kept.delete(key),
  };
}

const refusal = (status, code) => async () => new Response(JSON.stringify({ code, status }), { status });

/** A client in a tab with this storage. */
async function open(tab, options = {}) {
  const context = await connectClient({ session: { storage: tab, key: KEY }, ...options });
  clients.push(context.client);
  return context;
}

test('a page without a past joins with a token', async () => {
  const { socket } = await open(storage());
  assert.equal(socket.protocols[1], 'token.T');
});

test('the page after a reload takes the place of the one before it: the handle without since, and no token', async () => {
  const { socket, client } = await open(storage('old.handle'), { getToken: () => assert.fail('no token is needed') });
  assert.deepEqual([socket.protocols[1], socket.address], ['resume.old.handle', 'ws://signal.example/ws/signal']);
  socket.join({ peerId: CAROL, resume: 'new.handle' });
  assert.equal(client.peerId, CAROL);
});

test('the storage is empty while a client lives, so that a duplicated tab takes nothing over; as the page goes it is written', async () => {
  const tab = storage('old.handle');
  const { socket } = await open(tab);
  assert.equal(tab.kept.size, 0, 'not even while it connects');
  socket.join({ resume: 'new.handle' });
  assert.equal(tab.kept.size, 0);
  turn('pagehide', false);
  assert.deepEqual([...tab.kept], [[KEY, '{"handle":"new.handle"}']], 'the newest, and nothing but the handle');
});

test('a page that the back button brings back holds its handle again', async () => {
  const tab = storage();
  const { socket } = await open(tab);
  socket.join({ resume: 'a.handle' });
  turn('pagehide', true);
  assert.equal(tab.kept.size, 1);
  turn('pageshow', true);
  assert.equal(tab.kept.size, 0);
});

test('a first pageshow takes nothing from another page', async () => {
  const tab = storage();
  await open(tab);
  tab.kept.set(KEY, 'x');
  turn('pageshow', false);
  assert.equal(tab.kept.size, 1);
});

test('a page that goes before it has joined leaves what it found', async () => {
  const tab = storage('old.handle');
  await open(tab);
  turn('pagehide', false);
  assert.deepEqual([...tab.kept.values()], ['{"handle":"old.handle"}']);
});

for (const code of ['resume_expired', 'resume_invalid', 'resume_replaced']) {
  test(`a takeover that is refused with ${code} is a join with a token`, async () => {
    const { server, socket } = await open(storage('old.handle'), { fetch: refusal(401, code) });
    const arrived = server.next();
    socket.end(1006);
    assert.equal((await arrived).protocols[1], 'token.T');
  });
}

test('a takeover that cannot be decided now is tried again, not given up', async () => {
  const { server, socket, states } = await open(storage('old.handle'), { fetch: refusal(503, 'unavailable') });
  const arrived = server.next();
  socket.end(1006);
  const again = await arrived;
  assert.equal(states.at(-2).state, 'waiting');
  assert.deepEqual([again.protocols[1], again.address], ['resume.old.handle', 'ws://signal.example/ws/signal']);
});

test('after a takeover the client resumes as itself, with since', async () => {
  const { server, socket } = await open(storage('old.handle'));
  socket.join({ peerId: CAROL, resume: 'new.handle', seq: 4 });
  const arrived = server.next();
  socket.end(1006);
  assert.equal((await arrived).address, 'ws://signal.example/ws/signal?since=4');
});

test('leave clears the handle, also one that a page on its way out has just written', async () => {
  for (const first of ['leave', 'hide']) {
    const tab = storage();
    const { client, socket } = await open(tab);
    socket.join({ resume: 'a.handle' });
    if (first === 'hide') turn('pagehide', false);
    client.leave();
    if (first === 'leave') turn('pagehide', false);
    assert.equal(tab.kept.size, 0, `${first} first`);
  }
});

test('a client that has ended for good leaves no handle', async () => {
  const tab = storage();
  const { socket } = await open(tab);
  socket.join({ resume: 'a.handle' });
  socket.end(4513, 'removed');
  turn('pagehide', false);
  assert.equal(tab.kept.size, 0);
});

test('a storage that is switched off, or holds something else, is no storage', async () => {
  const refuse = () => {
    throw new DOMException('no', 'SecurityError');
  };
  const off = { getItem: refuse, setItem: refuse, removeItem: refuse };
  for (const tab of [off, { ...storage(), getItem: () => '{"handle":"two words"}' }, { ...storage(), getItem: () => 'null' }, { ...storage(), getItem: () => '{' }]) {
    const { socket } = await open(tab);
    assert.equal(socket.protocols[1], 'token.T');
    socket.join({ resume: 'a.handle' });
    turn('pagehide', false);
  }
});
