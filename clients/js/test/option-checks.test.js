/** A constructor refuses what could only fail later. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { Room, SignalingClient } from '../src/index.js';

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

const made = { SignalingClient: (options) => new SignalingClient(options), Room: (options) => new Room(options) };

for (const [name, create] of Object.entries(made)) {
  test(`new ${name} accepts good options`, () => {
    for (const url of ['https://rtc.example', 'http://localhost:8080/prefix', 'wss://rtc.example', new URL('https://rtc.example')]) create({ ...GOOD, url });
    create({ ...GOOD, getToken: undefined, token: 'T' });
  });

  for (const missing of name === 'Room' ? Object.keys(RUNTIME).filter((part) => part !== 'MediaStream') : ['WebSocket', 'fetch']) {
    test(`new ${name} says that ${missing} is missing`, () => {
      delete globalThis[missing];
      assert.throws(() => create(GOOD), { name: 'SignalingError', code: 'not_supported', message: new RegExp(`no ${missing} here\\. Use `), retryable: false });
    });
  }

  for (const [field, values] of Object.entries({
    url: [undefined, '', 'rtc.example', 'rtc.example:443', 'localhost:8080', '//rtc.example', 'ftp://rtc.example', 'file:///client', 7],
    getToken: ['eyJ', Promise.resolve('T')],
    ...(name === 'Room' && { room: [undefined, '', null, 7] }),
  })) {
    for (const value of values) {
      test(`new ${name} refuses the ${field} ${String(value)}`, () => {
        assert.throws(() => create({ ...GOOD, [field]: value }), { name: 'SignalingError', code: 'bad_option', field, retryable: false, message: new RegExp(`\\b${field}\\b`) });
      });
    }
  }
}

test('new SignalingClient refuses to be without a token', () => {
  assert.throws(() => new SignalingClient({ url: GOOD.url }), { code: 'bad_option', field: 'getToken' });
  assert.throws(() => new SignalingClient({ url: GOOD.url, token: 7 }), { code: 'bad_option', field: 'token' });
});

test('the option WebSocket replaces the one of the runtime', () => {
  delete globalThis.WebSocket;
  assert.ok(new SignalingClient({ ...GOOD, WebSocket: RUNTIME.WebSocket }));
});
