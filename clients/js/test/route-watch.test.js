/** A connection that finds no route: without candidates, ICE neither starts nor fails. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { RouteWatch } from '../src/route-watch.js';
import { mockTime, restoreTime } from './mock-time.js';

beforeEach(mockTime);
afterEach(restoreTime);

const errorEvent = (errorCode, url = 'turn:relay.example:3478') => Object.assign(new Event('icecandidateerror'), { errorCode, url });
const candidateEvent = (type) => Object.assign(new Event('icecandidate'), { candidate: type && { type } });

test('a connection without a route is reported until the watch stops', () => {
  let reports = 0;
  const watch = new RouteWatch(new EventTarget(), () => (reports += 1));
  mock.timers.tick(19_999);
  assert.equal(reports, 0);
  mock.timers.tick(1);
  mock.timers.tick(20_000);
  assert.equal(reports, 2);
  watch.stop();
  mock.timers.tick(60_000);
  assert.equal(reports, 2);
});

test('the most telling answer of the relay servers is kept until a relay candidate is found', () => {
  const pc = new EventTarget();
  const watch = new RouteWatch(pc, () => {});
  for (const [event, problem] of [
    [errorEvent(701, 'stun:relay.example'), undefined],
    [candidateEvent('host'), undefined],
    [errorEvent(701), 'unreachable'],
    [errorEvent(486), 'full'],
    [errorEvent(401, 'turns:relay.example'), 'refused'],
    [errorEvent(701), 'refused'],
    [candidateEvent(null), 'refused'],
    [candidateEvent('relay'), undefined],
    [errorEvent(508), 'full'],
  ]) {
    pc.dispatchEvent(event);
    assert.equal(watch.relayProblem, problem, `${event.type} ${event.errorCode}`);
  }
  watch.stop();
});
