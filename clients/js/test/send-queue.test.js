import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { SendQueue } from '../src/send-queue.js';
import { mockTime, restoreTime } from './mock-time.js';

/** Creates a queue and records its frames: `2:b` is message b with id 2. */
function createQueue({ capacity } = {}) {
  Math.random = () => 0;
  const wire = [];
  const queue = new SendQueue((text) => {
    const { id, data, type, re } = JSON.parse(text);
    wire.push(`${id}:${data ?? type}${re === undefined ? '' : `/${re}`}`);
  }, capacity);
  const message = (data, to) => {
    const sending = queue.push({ type: 'message', to, data });
    sending.outcome = null;
    sending.done.then(
      () => (sending.outcome = 'ok'),
      (error) => (sending.outcome = error.code),
    );
    return sending;
  };
  const transmitted = () => wire.splice(0);
  const ack = (id) => queue.onReply({ type: 'ack', id });
  const refuse = (id, code, retryMs = 500) => queue.onReply({ type: 'error', id, code, message: '', retryMs });
  return { queue, message, transmitted, ack, refuse };
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

function withTimers(run) {
  return async () => {
    mockTime();
    try {
      await run();
    } finally {
      restoreTime();
    }
  };
}

test('ids grow, and each message settles with its reply', async () => {
  const { queue, message, transmitted, ack, refuse } = createQueue();
  queue.open(1000);
  const messages = ['a', 'b', 'c'].map((data) => message(data));
  assert.deepEqual(transmitted(), ['1:a', '2:b', '3:c']);
  ack(1);
  refuse(2, 'no_such_peer');
  ack(3);
  await settle();
  assert.deepEqual(messages.map(({ outcome }) => outcome), ['ok', 'no_such_peer', 'ok']);
});

test('messages without a connection wait for it, in order', () => {
  const { queue, message, transmitted } = createQueue();
  message('a');
  message('b');
  assert.deepEqual(transmitted(), []);
  queue.open(1000);
  assert.deepEqual(transmitted(), ['1:a', '2:b']);
});

test('a message beyond the capacity is rejected and the others are kept', async () => {
  const { queue, message, transmitted } = createQueue({ capacity: 2 });
  message('a');
  message('b');
  const late = message('c');
  await settle();
  assert.equal(late.outcome, 'queue_full');
  queue.open(1000);
  assert.deepEqual(transmitted(), ['1:a', '2:b']);
});

test('a frame above the limit is rejected and not sent', async () => {
  const { queue, message, transmitted } = createQueue();
  queue.open(100);
  const wide = message('é'.repeat(60));
  message('b');
  await settle();
  assert.equal(wide.outcome, 'too_large');
  assert.deepEqual(transmitted(), ['2:b']);
});

test('after unavailable the queue sends again from the first refused message, in order', withTimers(async () => {
  const { queue, message, transmitted, ack, refuse } = createQueue();
  queue.open(1000);
  for (const data of ['a', 'b', 'c']) message(data);
  transmitted();
  ack(1);
  refuse(2, 'unavailable', 500);
  message('d');
  assert.deepEqual(transmitted(), [], 'no send overtakes the refused one');
  refuse(3, 'unavailable', 500);
  mock.timers.tick(499);
  assert.deepEqual(transmitted(), []);
  mock.timers.tick(1);
  assert.deepEqual(transmitted(), ['2:b', '3:c', '4:d']);
}));

test('the retry waits for the answers that are on their way', withTimers(async () => {
  const { queue, message, transmitted, refuse } = createQueue();
  queue.open(1000);
  message('a');
  message('b');
  transmitted();
  refuse(1, 'unavailable', 500);
  mock.timers.tick(5000);
  assert.deepEqual(transmitted(), []);
  refuse(2, 'unavailable', 500);
  mock.timers.tick(500);
  assert.deepEqual(transmitted(), ['1:a', '2:b']);
}));

test('a refused message is sent again with a new id', withTimers(async () => {
  const { queue, message, transmitted, refuse } = createQueue();
  queue.open(1000);
  for (const data of ['a', 'b']) message(data);
  transmitted();
  refuse(1, 'rate_limited', 100);
  refuse(2, 'rate_limited', 100);
  mock.timers.tick(100);
  assert.deepEqual(transmitted(), ['3:a', '4:b']);
}));

test('an id with an unknown outcome is sent again first and unchanged', withTimers(async () => {
  const { queue, message, transmitted, ack, refuse } = createQueue();
  queue.open(1000);
  for (const data of ['a', 'b', 'c']) message(data);
  transmitted();
  refuse(1, 'peer_backlogged', 100);
  ack(2);
  refuse(3, 'unavailable', 100);
  mock.timers.tick(100);
  assert.deepEqual(transmitted(), ['3:c', '4:a']);
}));

test('a message to a mailbox that stays full is rejected at the end', withTimers(async () => {
  const { queue, message, refuse } = createQueue();
  queue.open(1000);
  const sending = message('a');
  for (let waited = 0; waited < 15_000; waited += 500) {
    await settle();
    assert.equal(sending.outcome, null);
    refuse(sending.id, 'peer_backlogged', 500);
    mock.timers.tick(500);
  }
  await settle();
  assert.equal(sending.outcome, 'peer_backlogged');
  assert.equal(queue.size, 0);
}));

test('a candidate names its offer by the transmitted id', () => {
  const { queue, transmitted } = createQueue();
  const offer = queue.push({ type: 'offer', to: 'b', sdp: 'v=0' });
  queue.push({ type: 'candidate', to: 'b', candidate: {}, re: offer });
  queue.open(1000);
  assert.deepEqual(transmitted(), ['1:offer', '2:candidate/1']);
});

test('a new peer keeps only application messages that were not transmitted', async () => {
  const { queue, message, transmitted } = createQueue();
  queue.open(1000);
  const sent = message('sent');
  queue.pause();
  const broadcast = message('broadcast');
  const toBob = message('to bob', 'bob');
  const toGone = message('to gone', 'gone');
  const offer = queue.push({ type: 'offer', to: 'bob', sdp: 'v=0' });
  queue.rejoin((peerId) => peerId === 'bob');
  transmitted();
  queue.open(1000);
  await assert.rejects(offer.done, { code: 'session_gone' });
  await settle();
  assert.deepEqual([sent, broadcast, toBob, toGone].map(({ outcome }) => outcome), ['session_gone', null, null, 'no_such_peer']);
  assert.deepEqual(transmitted(), ['2:broadcast', '3:to bob']);
});

test('the number of messages in flight is bounded', () => {
  const { queue, message, transmitted, ack } = createQueue();
  queue.open(1000);
  for (let n = 1; n <= 70; n += 1) message(n);
  assert.equal(transmitted().length, 64);
  ack(1);
  assert.deepEqual(transmitted(), ['65:65']);
});

test('a refused message holds back only messages to the same peer, to the room and to the public record', withTimers(async () => {
  const { queue, message, transmitted, ack, refuse } = createQueue();
  queue.open(1000);
  message('a', 'bob');
  transmitted();
  refuse(1, 'unavailable', 500);
  message('b', 'bob');
  message('c', 'carol');
  assert.deepEqual(transmitted(), ['2:c']);
  ack(2);
  message('room');
  message('d', 'carol');
  queue.push({ type: 'update', name: 'x' });
  assert.deepEqual(transmitted(), [], 'carol is a target of the room message');
  mock.timers.tick(500);
  assert.deepEqual(transmitted(), ['1:a', '3:b', '4:room', '5:d', '6:update']);
}));

test('the retry sends the first refused id first, and the others in the order of ids', withTimers(async () => {
  const { queue, message, transmitted, refuse } = createQueue();
  queue.open(1000);
  message('a', 'bob');
  refuse(1, 'unavailable', 500);
  message('b', 'bob');
  message('c', 'carol');
  refuse(2, 'unavailable', 500);
  transmitted();
  mock.timers.tick(500);
  assert.deepEqual(transmitted(), ['1:a', '2:c', '3:b']);
}));

test('no new message is sent while the retry waits for replies', withTimers(async () => {
  const { queue, message, transmitted, ack, refuse } = createQueue();
  queue.open(1000);
  message('a', 'bob');
  refuse(1, 'unavailable', 500);
  message('b', 'carol');
  transmitted();
  mock.timers.tick(500);
  message('c', 'carol');
  assert.deepEqual(transmitted(), []);
  ack(2);
  assert.deepEqual(transmitted(), ['1:a', '3:c']);
}));

test('repeated refusals do not delay the retry', withTimers(async () => {
  const { queue, message, transmitted, refuse } = createQueue();
  queue.open(1000);
  for (let n = 1; n <= 4; n += 1) {
    message(n, `peer ${n}`);
    refuse(n, 'unavailable', 500);
    mock.timers.tick(n < 4 ? 150 : 50);
  }
  assert.deepEqual(transmitted().slice(4), ['1:1', '2:2', '3:3', '4:4']);
}));

test('a full mailbox holds back messages to its peer only, and rate_limited holds back all messages', withTimers(async () => {
  const { queue, message, transmitted, ack, refuse } = createQueue();
  queue.open(1000);
  message('a', 'bob');
  refuse(1, 'peer_backlogged', 500);
  message('b', 'carol');
  assert.deepEqual(transmitted(), ['1:a', '2:b']);
  refuse(2, 'rate_limited', 900);
  message('c', 'dave');
  mock.timers.tick(899);
  assert.deepEqual(transmitted(), []);
  mock.timers.tick(1);
  assert.deepEqual(transmitted(), ['3:a', '4:b', '5:c']);
  ack(3);
}));

test('a message by direct delivery is acknowledged with durable: false', async () => {
  const { queue, message } = createQueue();
  queue.open(1000);
  const sending = message('a', 'bob');
  queue.onReply({ type: 'ack', id: 1, durable: false });
  assert.deepEqual(await sending.done, { type: 'ack', id: 1, durable: false });
});

test('after a resume accepted messages are resolved and the rest is sent again with the same ids', async () => {
  const { queue, message, transmitted, ack } = createQueue();
  queue.open(1000);
  const messages = ['a', 'b', 'c'].map((data) => message(data, 'bob'));
  transmitted();
  queue.pause();
  const late = message('d', 'bob');
  queue.resume(2);
  assert.deepEqual(transmitted(), [], 'not before the connection is open');
  queue.open(1000);
  assert.deepEqual(transmitted(), ['3:c', '4:d']);
  assert.deepEqual(await messages[1].done, { type: 'ack', id: 2, duplicate: true });
  ack(3);
  ack(4);
  await settle();
  assert.deepEqual([...messages, late].map(({ outcome }) => outcome), ['ok', 'ok', 'ok', 'ok']);
});

test('a refused message below lastId does not count as accepted', withTimers(async () => {
  const { queue, message, transmitted, ack, refuse } = createQueue();
  queue.open(1000);
  const limited = message('a', 'bob');
  message('b', 'bob');
  transmitted();
  refuse(1, 'rate_limited', 500);
  ack(2);
  queue.resume(2);
  queue.open(1000);
  await settle();
  assert.equal(limited.outcome, null);
  assert.deepEqual(transmitted(), ['3:a']);
}));

test('a queue with a lower last id than the server continues above it', () => {
  const { queue, message, transmitted } = createQueue();
  queue.resume(41);
  queue.open(1000);
  message('a');
  assert.deepEqual(transmitted(), ['42:a']);
});

test('a paused or emptied queue has no timer', withTimers(async () => {
  const { queue, message, transmitted, refuse } = createQueue();
  queue.open(1000);
  message('a').done.catch(() => {});
  refuse(1, 'unavailable', 500);
  transmitted();
  queue.rejectAll(new Error('left'));
  const before = Date.now();
  mock.timers.runAll();
  assert.equal(Date.now(), before);
  assert.deepEqual(transmitted(), []);
}));

test('a refused id of a resumed frame does not count as accepted', withTimers(async () => {
  for (const isOpen of [true, false]) {
    const { queue, message, transmitted, ack, refuse } = createQueue();
    queue.open(1000);
    const [final, full, unknown, accepted, later] = ['final', 'full', 'unknown', 'accepted', 'later'].map((data) => message(data, 'bob'));
    transmitted();
    refuse(3, 'unavailable', 500);
    const held = message('held', 'bob');
    if (!isOpen) queue.pause();
    queue.resume(4, [{ id: 1, code: 'no_such_peer' }, { id: 2, code: 'peer_backlogged' }, { id: 3, code: 'not_permitted' }, { id: 99, code: 'too_large' }]);
    assert.deepEqual(transmitted(), [], 'not before the connection is open');
    queue.open(1000);
    await settle();
    assert.deepEqual([final, full, unknown, accepted, later].map(({ outcome }) => outcome), ['no_such_peer', null, 'not_permitted', 'ok', null]);
    assert.deepEqual(transmitted(), ['5:later', '6:full', '7:held'], 'a temporary refusal is retried under a new id');
    for (const id of [5, 6, 7]) ack(id);
    await settle();
    assert.deepEqual([full, later, held].map(({ outcome }) => outcome), ['ok', 'ok', 'ok']);
  }
}));
