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
