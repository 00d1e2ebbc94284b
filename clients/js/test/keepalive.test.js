/** Durations come from a clock that never jumps. */
import assert from 'node:assert/strict';
import { afterEach, mock, test } from 'node:test';
import { Keepalive } from '../src/keepalive.js';
import { mockTime, restoreTime } from './mock-time.js';

afterEach(restoreTime);

test('a wall clock that is set back or forward changes no wait', () => {
  for (const jump of [-3_600_000, 3_600_000]) {
    mockTime();
    const start = performance.now();
    const wall = mock.method(Date, 'now', () => start);
    let now = start;
    performance.now = () => now;
    const seen = [];
    const keepalive = new Keepalive({ ping: () => seen.push('ping'), lost: () => seen.push('lost') });
    keepalive.start(1000);
    wall.mock.mockImplementation(() => start + jump);
    for (const [ms, expected] of [[1000, []], [500, ['ping']], [5000, ['ping', 'lost']]]) {
      now += ms;
      mock.timers.tick(ms);
      assert.deepEqual(seen, expected, `${jump} after ${ms}`);
    }
    keepalive.stop();
    wall.mock.restore();
    restoreTime();
  }
});
