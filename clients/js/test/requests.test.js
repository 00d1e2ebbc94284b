/** Requests between two peers, over a channel that a test can hold, lose or refuse. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { SignalingError } from '../src/index.js';
import { answerRequests, request } from '../src/requests.js';
import { TypedEmitter } from '../src/typed-emitter.js';
import { mockTime, restoreTime } from './mock-time.js';

beforeEach(mockTime);
afterEach(restoreTime);

class ScriptedPeer extends TypedEmitter {
  sent = [];
  other = null;
  refusal = null;
  isClosed = false;
  constructor(peerId) {
    super();
    this.peerId = peerId;
  }
  past = (name) => (name === 'closed' && this.isClosed ? ['left'] : []);
  async send(data) {
    this.sent.push(JSON.parse(JSON.stringify(data)));
    if (this.refusal) throw this.refusal;
    this.other?.emit('exchange', JSON.parse(JSON.stringify(data)));
  }
  close() {
    this.isClosed = true;
    this.emit('closed', 'left');
  }
}

/** Alice as Bob sees her and Bob as Alice sees him; Bob is in a room that answers. */
function connect(answer) {
  const [toBob, toAlice] = [new ScriptedPeer('b'), new ScriptedPeer('a')];
  toBob.other = toAlice;
  toAlice.other = toBob;
  const room = new (class extends TypedEmitter {
    past = (name) => (name === 'peer' ? [toAlice] : []);
  })();
  const stop = answer === undefined ? null : answerRequests(room, answer);
  return { toBob, toAlice, stop };
}

test('a request gets its own answer, in whatever order they come', async () => {
  const open = [];
  const { toBob, toAlice } = connect((data, peer) => new Promise((resolve) => open.push(() => resolve([data, peer.peerId]))));
  const answers = [request(toBob, 'one'), request(toBob, 'two')];
  open.reverse().forEach((finish) => finish());
  assert.deepEqual(await Promise.all(answers), [['one', 'a'], ['two', 'a']]);
  const [{ id }] = toBob.sent;
  assert.deepEqual(toBob.sent.map(({ signalbox, id, data }) => [signalbox, id, data]), [['request', id, 'one'], ['request', id + 1, 'two']]);
  assert.deepEqual(toAlice.sent[0], { signalbox: 'answer', id: id + 1, data: ['two', 'a'] });
});

test('an answer may be anything, also nothing', async () => {
  for (const value of [undefined, null, 0, '', false, { a: [1] }]) {
    const { toBob } = connect(() => value);
    assert.deepEqual(await request(toBob, null), value);
  }
});

/** How a request fails → its code. */
const FAILURES = {
  refused: () => request(connect(null).toBob, 1),
  'handler_failed, without a word of the error': async () => {
    const { toBob, toAlice } = connect(() => {
      throw new Error('secret');
    });
    return request(toBob, 1).finally(() => assert.ok(!JSON.stringify(toAlice.sent).includes('secret')));
  },
  'no_seat, a code of the application': () => request(connect(async () => Promise.reject(new SignalingError('no_seat', 'All seats are taken.'))).toBob, 1),
  'too_large, for an answer': async () => {
    const { toBob, toAlice } = connect(() => 'x');
    toAlice.refusal = new SignalingError('too_large', 'The message is too large.');
    const asked = request(toBob, 1);
    await Promise.resolve();
    toAlice.refusal = null;
    return asked;
  },
  timeout: async () => {
    const asked = request(connect(undefined).toBob, 1, { timeoutMs: 500 });
    mock.timers.tick(499);
    assert.equal(await Promise.race([asked.catch(() => 'early'), Promise.resolve('open')]), 'open');
    mock.timers.tick(1);
    return asked;
  },
  'timeout, by default after 10 s': async () => {
    const asked = request(connect(undefined).toBob, 1);
    mock.timers.tick(10_000);
    return asked;
  },
  peer_left: async () => {
    const { toBob } = connect(undefined);
    const asked = request(toBob, 1);
    toBob.close();
    return asked;
  },
  'peer_left, before the request': async () => {
    const { toBob } = connect(undefined);
    toBob.close();
    return request(toBob, 1);
  },
  'no_such_peer, if it cannot be sent': async () => {
    const { toBob } = connect(undefined);
    toBob.refusal = new SignalingError('no_such_peer', 'The peer is not in the room.');
    return request(toBob, 1);
  },
};

for (const [name, ask] of Object.entries(FAILURES)) {
  test(`a request fails with ${name}`, async () => {
    const [code] = name.split(',');
    await assert.rejects(ask(), (error) => error instanceof SignalingError && error.code === code && /^[A-Z].*\.$/.test(error.message));
    const now = Date.now();
    mock.timers.runAll();
    assert.equal(Date.now(), now, 'no timer is left');
  });
}

test('a late answer, an answer twice and an answer of another peer change nothing', async () => {
  const { toBob } = connect(undefined);
  const other = new ScriptedPeer('c');
  const late = request(toBob, 1, { timeoutMs: 10 });
  mock.timers.tick(10);
  await assert.rejects(late, { code: 'timeout' });
  const asked = request(toBob, 2);
  void request(other, 3, { timeoutMs: 5 }).catch(() => {});
  const { id } = toBob.sent.at(-1);
  other.emit('exchange', { signalbox: 'answer', id, data: 'not yours' });
  toBob.emit('exchange', { signalbox: 'answer', id: id - 1, data: 'late' });
  toBob.emit('exchange', { signalbox: 'answer', id, data: 'right' });
  toBob.emit('exchange', { signalbox: 'answer', id, data: 'again' });
  assert.equal(await asked, 'right');
  mock.timers.tick(5);
});

test('answers can be stopped', async () => {
  const { toBob, stop } = connect(() => 'yes');
  assert.equal(await request(toBob, 1), 'yes');
  stop();
  const asked = request(toBob, 1);
  mock.timers.tick(10_000);
  await assert.rejects(asked, { code: 'timeout' });
});
