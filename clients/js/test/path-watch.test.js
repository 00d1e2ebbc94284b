/** The watch of a path reports each silence after media, and nothing before the first media. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { watchPath } from '../src/path-watch.js';
import { mockTime, restoreTime } from './mock-time.js';

beforeEach(() => mockTime('setInterval'));
afterEach(restoreTime);

/** Watches a connection that receives these packets in each second, and returns the reports. */
async function watch(packetsPerSecond) {
  let packets = 0;
  const reports = [];
  const pc = { getStats: async () => new Map([['in', { type: 'inbound-rtp', packetsReceived: packets }], ['out', { type: 'outbound-rtp' }]]) };
  const stop = watchPath(pc, (seconds) => reports.push(seconds));
  for (const more of packetsPerSecond) {
    packets += more;
    mock.timers.tick(1_000);
    await new Promise((resolve) => setImmediate(resolve));
  }
  stop();
  return reports;
}

test('a silence is reported after two, three and six seconds', async () => {
  assert.deepEqual(await watch([5, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), [2, 3, 6]);
});

test('each silence is reported, and a pause of a second is none', async () => {
  assert.deepEqual(await watch([5, 0, 5, 0, 0, 5, 0, 0, 0, 5]), [2, 2, 3]);
});

test('without media there is no silence', async () => {
  assert.deepEqual(await watch([0, 0, 0, 0, 0, 0, 0, 0]), []);
});
