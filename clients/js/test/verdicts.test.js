/**
 * A refused upgrade whose reason cannot be read: no wait may depend on that answer. The rows are the
 * ways in which a proxy or a browser hides it.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { guestToken } from '../src/index.js';
import { connectClient, joinedFrame } from './scripted-server.js';
import { mockTime, restoreTime } from './mock-time.js';

beforeEach(() => mockTime());
afterEach(() => {
  restoreTime();
  delete globalThis.location;
});

const html = (status) => async () => new Response('<!doctype html><title>proxy</title>', { status, headers: { 'Content-Type': 'text/html' } });
const json = (status, body) => async () => new Response(body, { status });

/** A browser hides the answer of another origin, but reveals that there is one. */
const hiddenByBrowser = async (address, { mode }) => {
  if (mode === 'no-cors') return new Response('', { status: 200 });
  throw new TypeError('Failed to fetch');
};

const neverAnswers = (address, { signal }) =>
  new Promise((resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason));
  });

/** How the answer is hidden → its `fetch` and the code of the error. */
const UNREADABLE = {
  'no answer': [() => Promise.reject(new TypeError('network')), 'unreachable'],
  'an answer that never comes': [neverAnswers, 'unreachable'],
  'an answer without CORS headers': [hiddenByBrowser, 'unreadable'],
  '404 with HTML': [html(404), 'unreadable'],
  '403 with HTML': [html(403), 'unreadable'],
  '401 with HTML': [html(401), 'unreadable'],
  '200 with HTML': [html(200), 'unreadable'],
  '502 with HTML': [html(502), 'unreachable'],
  '404 with JSON of another server': [json(404, '{"message":"no route"}'), 'unreadable'],
  '200 with JSON of another server': [json(200, '{"ok":true}'), 'unreadable'],
  '200 with null': [json(200, 'null'), 'unreadable'],
  'a good verdict, but no upgrade': [json(200, '{"valid":true}'), 'no_upgrade'],
};

const settle = async () => {
  for (let n = 0; n < 20; n += 1) await new Promise((resolve) => setImmediate(resolve));
};

/** Refuses each upgrade until `isDone`, and returns the time that passed. */
async function refuseUntil(context, isDone, limitMs) {
  const began = Date.now();
  let ended = null;
  while (!isDone()) {
    const socket = context.server.sockets.at(-1);
    if (socket !== ended) socket.end(1006);
    ended = socket;
    await settle();
    if (isDone()) break;
    mock.timers.tick(500);
    await settle();
    assert.ok(Date.now() - began < limitMs, `not in ${limitMs} ms: ${context.client.state}`);
  }
  return Date.now() - began;
}

for (const [hidden, [fetch, code]] of Object.entries(UNREADABLE)) {
  test(`${hidden}: a dead handle is dropped after the window, and the client joins with a token`, async () => {
    globalThis.location = new URL('https://page.example/');
    const context = await connectClient({ fetch, handleStorage: null });
    context.socket.join({ resume: 'handle.1', resumeWindow: 20_000 });
    await context.joined;
    mock.timers.tick(6_000);
    context.socket.end(1006);
    mock.timers.tick(0);
    await settle();
    const usesToken = () => context.server.sockets.at(-1).protocols[1] === 'token.T';
    const tookMs = await refuseUntil(context, usesToken, 45_000);
    assert.ok(tookMs >= 19_000, `the handle is kept for the window: ${tookMs}`);
    context.server.sockets.at(-1).open();
    context.server.sockets.at(-1).deliver(joinedFrame());
    assert.equal(context.client.state, 'open');
    context.client.leave();
  });

  test(`${hidden}: a token without a verdict ends with an error`, async () => {
    globalThis.location = new URL('https://page.example/');
    const context = await connectClient({ fetch });
    let error;
    context.joined.catch((reason) => (error = reason));
    await refuseUntil(context, () => error !== undefined, 60_000);
    assert.equal(error.code, code);
    if (code !== 'unreachable') assert.match(error.message, /allowed_origins|proxies|proxy/i, 'the likely cause');
  });

  if (code === 'no_upgrade') continue;
  test(`${hidden}: a request for a token says so`, async () => {
    globalThis.location = new URL('https://page.example/');
    const refused = assert.rejects(guestToken({ url: 'https://signal.example', room: 'r', fetch }), { code, retryable: true, status: undefined });
    await settle();
    mock.timers.tick(10_000);
    await refused;
  });
}

test('the error of a hidden answer names the origin and the setting', async () => {
  globalThis.location = new URL('https://page.example/');
  await assert.rejects(guestToken({ url: 'https://signal.example', room: 'r', fetch: hiddenByBrowser }), /https:\/\/page\.example .*server\.allowed_origins/);
});

test('a proxy that opens the socket and forwards nothing ends the first join', async () => {
  const context = await connectClient({});
  let error;
  context.joined.catch((reason) => (error = reason));
  for (let n = 0; !error && n < 60; n += 1) {
    const socket = context.server.sockets.at(-1);
    if (socket.readyState === 0) socket.open();
    mock.timers.tick(1_000);
    await settle();
  }
  assert.equal(error?.code, 'join_timeout');
});

test('an outage after an open connection lasts as long as it lasts', async () => {
  const context = await connectClient({ fetch: () => Promise.reject(new TypeError('network')) });
  context.socket.join();
  await context.joined;
  context.socket.end(1006);
  mock.timers.tick(0);
  const began = Date.now();
  await refuseUntil(context, () => Date.now() - began > 600_000, 700_000);
  assert.notEqual(context.client.state, 'closed');
  context.client.leave();
});
