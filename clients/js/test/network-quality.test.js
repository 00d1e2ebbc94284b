/** When the call page says that the network to a person is poor. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NetworkQuality, readNetworkSample } from '../../../web/call/network-quality.js';

/** Gives samples in a row; each describes the packets since the one before. */
function network() {
  const quality = new NetworkQuality();
  const sum = { received: 0, lost: 0 };
  const sample = ({ received = 100, lost = 0, lostThere = 0, roundTripMs = 50 } = {}) => {
    sum.received += received;
    sum.lost += lost;
    return quality.update({ ...sum, lostThere, roundTripMs });
  };
  sample();
  return { quality, sample, sum };
}

const BAD = { received: 80, lost: 20 };

test('two bad samples say nothing, three in a row say that the network is poor', () => {
  const { quality, sample } = network();
  sample(BAD);
  assert.deepEqual([sample(BAD), quality.isPoor], [false, false]);
  sample();
  sample(BAD);
  sample(BAD);
  assert.equal(quality.isPoor, false);
  assert.deepEqual([sample(BAD), quality.isPoor], [true, true]);
});

test('a poor network is good again after four good samples in a row', () => {
  const { quality, sample } = network();
  for (const one of [BAD, BAD, BAD, {}, {}, {}, BAD, {}, {}, {}]) sample(one);
  assert.equal(quality.isPoor, true);
  assert.deepEqual([sample(), quality.isPoor], [true, false]);
});

test('between good and poor, it stays as it is', () => {
  const { quality, sample } = network();
  const between = { received: 93, lost: 7 };
  for (let count = 0; count < 9; count += 1) sample(between);
  assert.equal(quality.isPoor, false);
  for (const one of [BAD, BAD, BAD, ...Array(9).fill(between)]) sample(one);
  assert.equal(quality.isPoor, true);
});

for (const [what, one] of [
  ['a long round trip', { roundTripMs: 900 }],
  ['what the peer misses', { lostThere: 0.3 }],
]) {
  test(`${what} is poor too`, () => {
    const { quality, sample } = network();
    for (let count = 0; count < 3; count += 1) sample(one);
    assert.equal(quality.isPoor, true);
  });
}

test('a few packets, or a new connection, say nothing about the loss', () => {
  const { quality, sample, sum } = network();
  for (let count = 0; count < 3; count += 1) sample({ received: 3, lost: 3 });
  sum.received = 0;
  sum.lost = 50;
  for (let count = 0; count < 3; count += 1) sample();
  assert.equal(quality.isPoor, false);
});

test('the statistics of a browser become a sample', () => {
  const report = new Map(Object.entries({
    sound: { type: 'inbound-rtp', packetsReceived: 10, packetsLost: 1 },
    picture: { type: 'inbound-rtp', packetsReceived: 20, packetsLost: 2 },
    ours: { type: 'remote-inbound-rtp', fractionLost: 0.25 },
    unused: { type: 'candidate-pair', state: 'succeeded', nominated: false, currentRoundTripTime: 9 },
    used: { type: 'candidate-pair', state: 'succeeded', nominated: true, currentRoundTripTime: 0.12 },
  }));
  assert.deepEqual(readNetworkSample(report), { received: 30, lost: 3, lostThere: 0.25, roundTripMs: 120 });
});
