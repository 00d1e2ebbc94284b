/** Controlled time: timers, the wall clock, and the clock that durations come from. */
import { mock } from 'node:test';

export function mockTime() {
  mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  performance.now = () => Date.now();
}

export function restoreTime() {
  mock.timers.reset();
  delete performance.now;
}
