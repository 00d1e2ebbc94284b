import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { SendQueue } from '../src/queue.js';

/** A queue and what it put on the wire: `2:b` is message b with id 2. */
function queueOnWire(options = {}) {
  const wire = [];
  const queue = new SendQueue(
    (text) => {
      const { id, data, type, re } = JSON.parse(text);
      wire.push(`${id}:${data ?? type}${re === undefined ? '' : `/${re}`}`);
    },
    { random: () => 0, ...options },
  );
  const message = (data, to) => {
    const sending = queue.push({ type: 'message', to, data });
    sending.outcome = null;
    sending.done.then(
      () => (sending.outcome = 'ok'),
      (error) => (sending.outcome = error.code),
    );
    return sending;
  };
  const taken = () => wire.splice(0);
  const ack = (id) => queue.answer({ type: 'ack', id });
  const refuse = (id, code, retryMs = 500) => queue.answer({ type: 'error', id, code, message: '', retryMs });
  return { queue, message, taken, ack, refuse };
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

function withTimers(run) {
  return async () => {
    mock.timers.enable({ apis: ['setTimeout', 'Date'] });
    try {
      await run();
    } finally {
      mock.timers.reset();
    }
  };
}

test('ids grow, and each send settles with its own answer', async () => {
  const { queue, message, taken, ack, refuse } = queueOnWire();
  queue.open(1000);
  const sends = ['a', 'b', 'c'].map((data) => message(data));
  assert.deepEqual(taken(), ['1:a', '2:b', '3:c']);
  ack(1);
  refuse(2, 'no_such_peer');
  ack(3);
  await settle();
  assert.deepEqual(sends.map(({ outcome }) => outcome), ['ok', 'no_such_peer', 'ok']);
});

test('what is sent before there is a connection waits for it, in order', () => {
  const { queue, message, taken } = queueOnWire();
  message('a');
  message('b');
  assert.deepEqual(taken(), []);
  queue.open(1000);
  assert.deepEqual(taken(), ['1:a', '2:b']);
});

test('one send too many is refused aloud and the others are kept', async () => {
  const { queue, message, taken } = queueOnWire({ capacity: 2 });
  message('a');
  message('b');
  const late = message('c');
  await settle();
  assert.equal(late.outcome, 'queue_full');
  queue.open(1000);
  assert.deepEqual(taken(), ['1:a', '2:b']);
});

test('a frame that would cost the connection is not sent', async () => {
  const { queue, message, taken } = queueOnWire();
  queue.open(100);
  const wide = message('é'.repeat(60));
  message('b');
  await settle();
  assert.equal(wide.outcome, 'too_large');
  assert.deepEqual(taken(), ['2:b']);
});

test('after "unavailable" the queue goes back to the first refused one and sends again in order', withTimers(async () => {
  const { queue, message, taken, ack, refuse } = queueOnWire();
  queue.open(1000);
  for (const data of ['a', 'b', 'c']) message(data);
  taken();
  ack(1);
  refuse(2, 'unavailable', 500);
  message('d');
  assert.deepEqual(taken(), [], 'nothing overtakes the refused one');
  refuse(3, 'unavailable', 500);
  mock.timers.tick(499);
  assert.deepEqual(taken(), []);
  mock.timers.tick(1);
  assert.deepEqual(taken(), ['2:b', '3:c', '4:d']);
}));

test('going back waits for the answers that are still on their way', withTimers(async () => {
  const { queue, message, taken, refuse } = queueOnWire();
  queue.open(1000);
  message('a');
  message('b');
  taken();
  refuse(1, 'unavailable', 500);
  mock.timers.tick(5000);
  assert.deepEqual(taken(), []);
  refuse(2, 'unavailable', 500);
  mock.timers.tick(500);
  assert.deepEqual(taken(), ['1:a', '2:b']);
}));

test('a refusal is final for its id: the message is sent again under a new one', withTimers(async () => {
  const { queue, message, taken, refuse } = queueOnWire();
  queue.open(1000);
  for (const data of ['a', 'b']) message(data);
  taken();
  refuse(1, 'rate_limited', 100);
  refuse(2, 'rate_limited', 100);
  mock.timers.tick(100);
  assert.deepEqual(taken(), ['3:a', '4:b']);
}));

test('an id of unknown outcome is sent again as it is, before those that get a new one', withTimers(async () => {
  const { queue, message, taken, ack, refuse } = queueOnWire();
  queue.open(1000);
  for (const data of ['a', 'b', 'c']) message(data);
  taken();
  refuse(1, 'peer_backlogged', 100);
  ack(2);
  refuse(3, 'unavailable', 100);
  mock.timers.tick(100);
  assert.deepEqual(taken(), ['3:c', '4:a']);
}));

test('a mailbox that stays full is told to the caller in the end', withTimers(async () => {
  const { queue, message, refuse } = queueOnWire({ giveUpMs: 1000 });
  queue.open(1000);
  const sending = message('a');
  for (let waited = 0; waited < 1000; waited += 500) {
    refuse(sending.id, 'peer_backlogged', 500);
    mock.timers.tick(500);
  }
  await settle();
  assert.equal(sending.outcome, 'peer_backlogged');
  assert.equal(queue.size, 0);
}));

test('a candidate names its offer by the number that went over the wire', () => {
  const { queue, taken } = queueOnWire();
  const offer = queue.push({ type: 'offer', to: 'b', sdp: 'v=0' });
  queue.push({ type: 'candidate', to: 'b', candidate: {}, re: offer });
  queue.open(1000);
  assert.deepEqual(taken(), ['1:offer', '2:candidate/1']);
});

test('as a new peer, only application messages that never went out are kept', async () => {
  const { queue, message, taken } = queueOnWire();
  queue.open(1000);
  const sent = message('sent');
  queue.pause();
  const broadcast = message('broadcast');
  const toBob = message('to bob', 'bob');
  const toGone = message('to gone', 'gone');
  const offer = queue.push({ type: 'offer', to: 'bob', sdp: 'v=0' });
  queue.rejoin((peerId) => peerId === 'bob');
  taken();
  queue.open(1000);
  await assert.rejects(offer.done, { code: 'session_gone' });
  await settle();
  assert.deepEqual([sent, broadcast, toBob, toGone].map(({ outcome }) => outcome), ['session_gone', null, null, 'no_such_peer']);
  assert.deepEqual(taken(), ['2:broadcast', '3:to bob']);
});

test('a window bounds what is on its way', () => {
  const { queue, message, taken, ack } = queueOnWire();
  queue.open(1000);
  for (let n = 1; n <= 70; n += 1) message(n);
  assert.equal(taken().length, 64);
  ack(1);
  assert.deepEqual(taken(), ['65:65']);
});

test('a refused send holds up what goes to the same peer, to the room and to the public record, and nothing else', withTimers(async () => {
  const { queue, message, taken, ack, refuse } = queueOnWire();
  queue.open(1000);
  message('a', 'bob');
  taken();
  refuse(1, 'unavailable', 500);
  message('b', 'bob');
  message('c', 'carol');
  assert.deepEqual(taken(), ['2:c']);
  ack(2);
  message('room');
  message('d', 'carol');
  queue.push({ type: 'update', name: 'x' });
  assert.deepEqual(taken(), [], 'carol is in the room, too');
  mock.timers.tick(500);
  assert.deepEqual(taken(), ['1:a', '3:b', '4:room', '5:d', '6:update']);
}));

test('when the store is back it wants the first refused id first: what it refuses until then follows in the order of ids', withTimers(async () => {
  const { queue, message, taken, refuse } = queueOnWire();
  queue.open(1000);
  message('a', 'bob');
  refuse(1, 'unavailable', 500);
  message('b', 'bob');
  message('c', 'carol');
  refuse(2, 'unavailable', 500);
  taken();
  mock.timers.tick(500);
  assert.deepEqual(taken(), ['1:a', '2:c', '3:b']);
}));

test('at the moment of going back nothing new goes out, so that the answers on their way come in', withTimers(async () => {
  const { queue, message, taken, ack, refuse } = queueOnWire();
  queue.open(1000);
  message('a', 'bob');
  refuse(1, 'unavailable', 500);
  message('b', 'carol');
  taken();
  mock.timers.tick(500);
  message('c', 'carol');
  assert.deepEqual(taken(), []);
  ack(2);
  assert.deepEqual(taken(), ['1:a', '3:c']);
}));

test('a stream of refusals does not put the moment of going back off', withTimers(async () => {
  const { queue, message, taken, refuse } = queueOnWire();
  queue.open(1000);
  for (let n = 1; n <= 4; n += 1) {
    message(n, `peer ${n}`);
    refuse(n, 'unavailable', 500);
    mock.timers.tick(n < 4 ? 150 : 50);
  }
  assert.deepEqual(taken().slice(4), ['1:1', '2:2', '3:3', '4:4']);
}));

test('a full mailbox holds up its own peer only, "rate_limited" everything', withTimers(async () => {
  const { queue, message, taken, ack, refuse } = queueOnWire();
  queue.open(1000);
  message('a', 'bob');
  refuse(1, 'peer_backlogged', 500);
  message('b', 'carol');
  assert.deepEqual(taken(), ['1:a', '2:b']);
  refuse(2, 'rate_limited', 900);
  message('c', 'dave');
  mock.timers.tick(899);
  assert.deepEqual(taken(), []);
  mock.timers.tick(1);
  assert.deepEqual(taken(), ['3:a', '4:b', '5:c']);
  ack(3);
}));

test('a send that went past the store is answered, and says so', async () => {
  const { queue, message } = queueOnWire();
  queue.open(1000);
  const sending = message('a', 'bob');
  queue.answer({ type: 'ack', id: 1, durable: false });
  assert.deepEqual(await sending.done, { type: 'ack', id: 1, durable: false });
});

test('the same peer on a new connection: what was accepted is done, the rest goes out again under its old number', async () => {
  const { queue, message, taken, ack } = queueOnWire();
  queue.open(1000);
  const sends = ['a', 'b', 'c'].map((data) => message(data, 'bob'));
  taken();
  queue.pause();
  const late = message('d', 'bob');
  queue.resume(2);
  assert.deepEqual(taken(), [], 'not before the connection is open');
  queue.open(1000);
  assert.deepEqual(taken(), ['3:c', '4:d']);
  assert.deepEqual(await sends[1].done, { type: 'ack', id: 2, duplicate: true });
  ack(3);
  ack(4);
  await settle();
  assert.deepEqual([...sends, late].map(({ outcome }) => outcome), ['ok', 'ok', 'ok', 'ok']);
});

test('what was refused for good is no accepted send, whatever came after it', withTimers(async () => {
  const { queue, message, taken, ack, refuse } = queueOnWire();
  queue.open(1000);
  const limited = message('a', 'bob');
  message('b', 'bob');
  taken();
  refuse(1, 'rate_limited', 500);
  ack(2);
  queue.resume(2);
  queue.open(1000);
  await settle();
  assert.equal(limited.outcome, null);
  assert.deepEqual(taken(), ['3:a']);
}));

test('a queue that knows less than the server goes on above it', () => {
  const { queue, message, taken } = queueOnWire();
  queue.resume(41);
  queue.open(1000);
  message('a');
  assert.deepEqual(taken(), ['42:a']);
});

test('a queue that is paused or emptied leaves no timer behind', withTimers(async () => {
  const { queue, message, taken, refuse } = queueOnWire();
  queue.open(1000);
  message('a').done.catch(() => {});
  refuse(1, 'unavailable', 500);
  taken();
  queue.rejectAll(new Error('left'));
  const before = Date.now();
  mock.timers.runAll();
  assert.equal(Date.now(), before);
  assert.deepEqual(taken(), []);
}));
