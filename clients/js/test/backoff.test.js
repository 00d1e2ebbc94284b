import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backoff } from '../src/backoff.js';

function createBackoff(random, ...waits) {
  Math.random = () => random;
  return new Backoff(...waits);
}

test('the bound of a wait doubles up to the cap', () => {
  const backoff = createBackoff(1, 100, 1000);
  assert.deepEqual([1, 2, 3, 4, 5, 6].map(() => backoff.next()), [100, 200, 400, 800, 1000, 1000]);
});

test('jitter is full: a wait may be nothing at all', () => {
  assert.equal(createBackoff(0).next(), 0);
});

test('the jitter is added to the wait that the server asked for', () => {
  const backoff = createBackoff(0.5, 100);
  assert.equal(backoff.next(1000), 1050);
});

test('reset starts again with the shortest wait', () => {
  const backoff = createBackoff(1, 100);
  backoff.next();
  backoff.next();
  backoff.reset();
  assert.equal(backoff.next(), 100);
});
