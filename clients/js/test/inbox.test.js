import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Inbox } from '../src/inbox.js';

/** @param {number} backlog */
function reader(backlog) {
  /** @type {number[]} */
  const told = [];
  const inbox = new Inbox((seq) => told.push(seq));
  inbox.start(0, backlog);
  return { told, inbox };
}

test('the server is told every 64 entries', () => {
  const { told, inbox } = reader(512);
  for (let seq = 1; seq <= 130; seq += 1) inbox.take({ type: 'message', seq });
  inbox.stop();
  assert.deepEqual(told, [64, 128]);
});

test('a small mailbox is confirmed before it is full', () => {
  const { told, inbox } = reader(16);
  for (let seq = 1; seq <= 9; seq += 1) inbox.take({ type: 'message', seq });
  inbox.stop();
  assert.deepEqual(told, [4, 8]);
});

test('large entries are confirmed by their size', () => {
  const { told, inbox } = reader(512);
  for (let seq = 1; seq <= 6; seq += 1) inbox.take({ type: 'offer', seq }, 48_000);
  inbox.stop();
  assert.deepEqual(told, [3, 6]);
});

test('a gap is seen and a double is not delivered', () => {
  const { inbox } = reader(512);
  assert.equal(inbox.take({ type: 'offer', seq: 1, from: 'a', id: 1 }), 'deliver');
  assert.equal(inbox.take({ type: 'offer', seq: 1, from: 'a', id: 1 }), 'double');
  assert.equal(inbox.take({ type: 'offer', seq: 2, from: 'a', id: 1 }), 'double');
  assert.equal(inbox.take({ type: 'offer', seq: 4 }), 'gap');
  inbox.stop();
});

test('a duplicate counts and is not delivered', () => {
  const { told, inbox } = reader(16);
  inbox.take({ type: 'offer', seq: 1, from: 'a', id: 7 });
  assert.equal(inbox.take({ type: 'duplicate', seq: 2, from: 'a', id: 7 }), 'double');
  assert.equal(inbox.take({ type: 'duplicate', seq: 3, from: 'a', id: 9 }), 'double', 'even one that this side does not know of');
  assert.equal(inbox.take({ type: 'offer', seq: 4, from: 'a', id: 10 }), 'deliver');
  inbox.stop();
  assert.deepEqual(told, [4]);
});

test('what came past the mailbox is delivered once, and its twin in the mailbox only counts', () => {
  const { inbox } = reader(512);
  assert.equal(inbox.take({ type: 'offer', from: 'a', id: 1 }), 'deliver');
  assert.equal(inbox.take({ type: 'offer', from: 'a', id: 1 }), 'double');
  assert.equal(inbox.take({ type: 'offer', seq: 1, from: 'a', id: 1 }), 'double');
  assert.equal(inbox.take({ type: 'offer', seq: 2, from: 'a', id: 2 }), 'deliver');
  assert.equal(inbox.seq, 2);
  inbox.stop();
});

test('a resumed mailbox goes on where it was, and remembers', () => {
  const { told, inbox } = reader(16);
  for (let seq = 1; seq <= 3; seq += 1) inbox.take({ type: 'offer', seq, from: 'a', id: seq });
  inbox.resume(16);
  assert.equal(inbox.take({ type: 'offer', seq: 3, from: 'a', id: 3 }), 'double');
  assert.equal(inbox.take({ type: 'offer', seq: 5, from: 'a', id: 5 }), 'gap');
  for (let seq = 4; seq <= 7; seq += 1) inbox.take({ type: 'offer', seq, from: 'a', id: seq });
  inbox.stop();
  assert.deepEqual(told, [7], 'what the server learned from `since` is not told again');
});

test('another mailbox begins at its own number, and what was heard of who may still be there is not heard again', () => {
  const { inbox } = reader(16);
  inbox.take({ type: 'offer', seq: 1, from: 'a', id: 5 });
  inbox.take({ type: 'offer', seq: 2, from: 'gone', id: 5 });
  inbox.restart(40, 16, (peerId) => peerId === 'a');
  assert.equal(inbox.take({ type: 'offer', seq: 41, from: 'a', id: 5 }), 'double');
  assert.equal(inbox.take({ type: 'offer', seq: 42, from: 'a', id: 6 }), 'deliver');
  assert.equal(inbox.take({ type: 'offer', seq: 43, from: 'gone', id: 5 }), 'deliver');
  inbox.stop();
});

test('a new peer starts with an empty memory', () => {
  const { inbox } = reader(16);
  inbox.take({ type: 'offer', seq: 1, from: 'a', id: 5 });
  inbox.start(0, 16);
  assert.equal(inbox.take({ type: 'offer', seq: 1, from: 'a', id: 5 }), 'deliver');
  inbox.stop();
});
