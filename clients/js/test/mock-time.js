/** Controlled time: timers, the wall clock, and the clock that durations come from. */
import { mock } from 'node:test';

export function mockTime(...more) {
  mock.timers.enable({ apis: ['setTimeout', 'Date', ...more.filter((name) => typeof name === 'string')] });
  performance.now = () => Date.now();
}

export function restoreTime() {
  mock.timers.reset();
  delete performance.now;
}
