import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MailboxReader } from '../src/mailbox-reader.js';

/** @param {number} backlog */
function createReader(backlog) {
  /** @type {number[]} */
  const acked = [];
  const reader = new MailboxReader((seq) => acked.push(seq));
  reader.start(0, backlog);
  return { acked, reader };
}

test('every 64 entries are acknowledged', () => {
  const { acked, reader } = createReader(512);
  for (let seq = 1; seq <= 130; seq += 1) reader.read({ type: 'message', seq });
  reader.stop();
  assert.deepEqual(acked, [64, 128]);
});

test('a small mailbox is acknowledged before it is full', () => {
  const { acked, reader } = createReader(16);
  for (let seq = 1; seq <= 9; seq += 1) reader.read({ type: 'message', seq });
  reader.stop();
  assert.deepEqual(acked, [4, 8]);
});

test('large entries are acknowledged by their size', () => {
  const { acked, reader } = createReader(512);
  for (let seq = 1; seq <= 6; seq += 1) reader.read({ type: 'offer', seq }, 48_000);
  reader.stop();
  assert.deepEqual(acked, [3, 6]);
});

test('an entry that was dropped only counts', () => {
  const { reader } = createReader(512);
  assert.equal(reader.read({ type: 'superseded', seq: 1 }), 'double');
  assert.equal(reader.read({ type: 'offer', seq: 2, from: 'a', id: 1 }), 'deliver');
});

test('a gap is found, and a repeated entry is not delivered', () => {
  const { reader } = createReader(512);
  assert.equal(reader.read({ type: 'offer', seq: 1, from: 'a', id: 1 }), 'deliver');
  assert.equal(reader.read({ type: 'offer', seq: 1, from: 'a', id: 1 }), 'double');
  assert.equal(reader.read({ type: 'offer', seq: 2, from: 'a', id: 1 }), 'double');
  assert.equal(reader.read({ type: 'offer', seq: 4 }), 'gap');
  reader.stop();
});

test('a duplicate frame counts and is not delivered', () => {
  const { acked, reader } = createReader(16);
  reader.read({ type: 'offer', seq: 1, from: 'a', id: 7 });
  assert.equal(reader.read({ type: 'duplicate', seq: 2, from: 'a', id: 7 }), 'double');
  assert.equal(reader.read({ type: 'duplicate', seq: 3, from: 'a', id: 9 }), 'double', 'also a message that this side does not know');
  assert.equal(reader.read({ type: 'offer', seq: 4, from: 'a', id: 10 }), 'deliver');
  reader.stop();
  assert.deepEqual(acked, [4]);
});

test('a message of direct delivery is delivered once, and its copy in the mailbox only counts', () => {
  const { reader } = createReader(512);
  assert.equal(reader.read({ type: 'offer', from: 'a', id: 1 }), 'deliver');
  assert.equal(reader.read({ type: 'offer', from: 'a', id: 1 }), 'double');
  assert.equal(reader.read({ type: 'offer', seq: 1, from: 'a', id: 1 }), 'double');
  assert.equal(reader.read({ type: 'offer', seq: 2, from: 'a', id: 2 }), 'deliver');
  assert.equal(reader.seq, 2);
  reader.stop();
});

test('a resumed mailbox continues after its last entry and keeps the message ids', () => {
  const { acked, reader } = createReader(16);
  for (let seq = 1; seq <= 3; seq += 1) reader.read({ type: 'offer', seq, from: 'a', id: seq });
  reader.resume(16);
  assert.equal(reader.read({ type: 'offer', seq: 3, from: 'a', id: 3 }), 'double');
  assert.equal(reader.read({ type: 'offer', seq: 5, from: 'a', id: 5 }), 'gap');
  for (let seq = 4; seq <= 7; seq += 1) reader.read({ type: 'offer', seq, from: 'a', id: seq });
  reader.stop();
  assert.deepEqual(acked, [7], '`since` has acknowledged the entries before');
});

test('a new mailbox starts at its own seq, and known messages are not delivered again', () => {
  const { reader } = createReader(16);
  reader.read({ type: 'offer', seq: 1, from: 'a', id: 5 });
  reader.read({ type: 'offer', seq: 2, from: 'gone', id: 5 });
  reader.resume(16, 40);
  assert.equal(reader.read({ type: 'offer', seq: 41, from: 'a', id: 5 }), 'double');
  assert.equal(reader.read({ type: 'offer', seq: 42, from: 'a', id: 6 }), 'deliver');
  assert.equal(reader.read({ type: 'offer', seq: 43, from: 'gone', id: 5 }), 'double');
  reader.stop();
});

test('a new peer knows no earlier message ids', () => {
  const { reader } = createReader(16);
  reader.read({ type: 'offer', seq: 1, from: 'a', id: 5 });
  reader.start(0, 16);
  assert.equal(reader.read({ type: 'offer', seq: 1, from: 'a', id: 5 }), 'deliver');
  reader.stop();
});
