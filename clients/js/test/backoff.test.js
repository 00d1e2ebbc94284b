import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backoff } from '../src/backoff.js';

test('the bound of a wait doubles up to the cap', () => {
  const backoff = new Backoff({ baseMs: 100, capMs: 1000, random: () => 1 });
  assert.deepEqual([1, 2, 3, 4, 5, 6].map(() => backoff.next()), [100, 200, 400, 800, 1000, 1000]);
});

test('jitter is full: a wait may be nothing at all', () => {
  assert.equal(new Backoff({ random: () => 0 }).next(), 0);
});

test('the jitter is added to the wait that the server asked for', () => {
  const backoff = new Backoff({ baseMs: 100, random: () => 0.5 });
  assert.equal(backoff.next(1000), 1050);
});

test('reset starts again with the shortest wait', () => {
  const backoff = new Backoff({ baseMs: 100, random: () => 1 });
  backoff.next();
  backoff.next();
  backoff.reset();
  assert.equal(backoff.next(), 100);
});
