/** A constructor refuses what could only fail later. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { SignalingClient, join } from '../src/index.js';

const GOOD = { url: 'https://rtc.example', room: 'r', getToken: () => 'T' };
const RUNTIME = { WebSocket: class {}, fetch: async () => {}, RTCPeerConnection: class {}, MediaStream: class {} };
const original = {};

beforeEach(() => {
  for (const [name, value] of Object.entries(RUNTIME)) {
    original[name] = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
});
afterEach(() => {
  for (const name of Object.keys(RUNTIME)) {
    delete globalThis[name];
    if (original[name]) Object.defineProperty(globalThis, name, original[name]);
  }
});

/** What a caller makes with options; both refuse them with a promise here. */
const made = {
  'new SignalingClient': async (options) => void new SignalingClient(options),
  // It goes on until the signal is aborted, unless the options are wrong.
  join: async (options) => {
    const abort = new AbortController();
    const joined = join({ ...options, getToken: options.getToken ?? 'none', signal: abort.signal });
    abort.abort();
    await joined.catch((error) => error.code === 'aborted' || Promise.reject(error));
  },
};

for (const [name, create] of Object.entries(made)) {
  test(`${name} accepts good options`, async () => {
    for (const url of ['https://rtc.example', 'http://localhost:8080/prefix', 'wss://rtc.example', new URL('https://rtc.example')]) await create({ ...GOOD, url });
  });

  for (const missing of name === 'join' ? Object.keys(RUNTIME) : ['WebSocket', 'fetch']) {
    test(`${name} says that ${missing} is missing`, async () => {
      delete globalThis[missing];
      await assert.rejects(create(GOOD), { name: 'SignalingError', code: 'not_supported', message: new RegExp(`no ${missing} here\\. Use `), retryable: false });
    });
  }

  for (const [field, values] of Object.entries({
    url: [undefined, '', 'rtc.example', 'rtc.example:443', 'localhost:8080', '//rtc.example', 'ftp://rtc.example', 'file:///client', 7],
    getToken: ['eyJ', Promise.resolve('T')],
    ...(name === 'join' && { room: [undefined, '', null, 7] }),
  })) {
    for (const value of values) {
      test(`${name} refuses the ${field} ${String(value)}`, async () => {
        await assert.rejects(create({ ...GOOD, [field]: value }), { name: 'SignalingError', code: 'bad_option', field, retryable: false, message: new RegExp(`\\b${field}\\b`) });
      });
    }
  }
}

test('new SignalingClient refuses to be without a token', () => {
  assert.throws(() => new SignalingClient({ url: GOOD.url }), { code: 'bad_option', field: 'getToken' });
});

test('the option WebSocket replaces the one of the runtime', () => {
  delete globalThis.WebSocket;
  assert.ok(new SignalingClient({ ...GOOD, WebSocket: RUNTIME.WebSocket }));
});
