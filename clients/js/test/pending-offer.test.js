/** Repeated offers and ICE restarts repair frames that are lost between two sides. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { SignalingError } from '../src/signaling-error.js';
import { mockTime, restoreTime } from './mock-time.js';
import { seededRandom } from './scripted-server.js';
import { createSide, settle } from './scripted-rtc.js';

beforeEach(mockTime);
afterEach(restoreTime);

/** Creates a side with a pending offer and without jitter. */
async function createOfferedSide(polite, options) {
  const side = createSide(polite, { random: () => 0, ...options });
  side.pc.requestNegotiation();
  if (polite) mock.timers.tick(2000);
  await settle();
  return side;
}

async function tick(ms) {
  mock.timers.tick(ms);
  await settle();
}

const offers = (sent) => sent.filter(({ type }) => type === 'offer').map(({ id }) => id);

test('an offer without an answer is repeated in its current form, with a new id and growing waits', async () => {
  const { pc, sent } = await createOfferedSide(false);
  await tick(4999);
  assert.deepEqual(offers(sent), [1]);
  pc.localDescription = { type: 'offer', sdp: 'local offer with candidates' };
  await tick(1);
  assert.deepEqual(sent.at(-1), { type: 'offer', sdp: 'local offer with candidates', id: 2 });
  await tick(9999);
  assert.deepEqual(offers(sent), [1, 2]);
  await tick(1);
  for (let n = 0; n < 3; n += 1) await tick(20_000);
  assert.deepEqual(offers(sent), [1, 2, 3, 4, 5, 6]);
  assert.deepEqual(pc.log, ['local offer'], 'the connection is unchanged');
});

test('an offer that was answered or rolled back is not repeated', async () => {
  const answered = await createOfferedSide(false);
  await answered.receive({ type: 'answer', re: 1, sdp: 'v=0' });
  const rolledBack = await createOfferedSide(true);
  await rolledBack.receive({ type: 'offer', id: 5, sdp: 'v=0' });
  await tick(60_000);
  assert.deepEqual([offers(answered.sent), offers(rolledBack.sent)], [[1], [1]]);
});

test('an offer that the server has not accepted yet is not repeated', async () => {
  const { sent, messages } = await createOfferedSide(false, { accepted: false });
  await tick(60_000);
  assert.deepEqual(offers(sent), [1]);
  messages[0].resolve({ type: 'ack', id: 1 });
  await settle();
  await tick(5000);
  assert.deepEqual(offers(sent), [1, 2]);
});

test('an offer is repeated after a temporary refusal, and not after a final one', async () => {
  for (const [code, expected] of [['peer_backlogged', [1, 2]], ['too_large', [1]]]) {
    const { sent, messages } = await createOfferedSide(false, { accepted: false });
    messages[0].reject(new SignalingError(code));
    await settle();
    await tick(5000);
    assert.deepEqual(offers(sent), expected, code);
  }
});

test('an offer to a detached peer is not repeated', async () => {
  let reachable = false;
  const { sent } = await createOfferedSide(false, { isReachable: () => reachable });
  for (let n = 0; n < 10; n += 1) await tick(5000);
  assert.deepEqual(offers(sent), [1]);
  reachable = true;
  await tick(5000);
  assert.deepEqual(offers(sent), [1, 2]);
});

test('the candidates after a repeated offer name the repeated offer', async () => {
  const { pc, sent } = await createOfferedSide(false);
  await tick(5000);
  pc.gather('late');
  assert.deepEqual([sent.at(-1).type, sent.at(-1).re], ['candidate', 2]);
});

test('a repeated offer is answered again', async () => {
  const { sent, receive, errors } = createSide(true);
  await receive({ type: 'offer', id: 5, sdp: 'v=0' });
  await receive({ type: 'offer', id: 6, sdp: 'v=0' });
  assert.deepEqual(sent.map(({ type, re }) => [type, re]), [['answer', 5], ['answer', 6]]);
  assert.deepEqual(errors, []);
});

test('only the answer to the latest copy is applied', async () => {
  const { pc, receive } = await createOfferedSide(false);
  await tick(5000);
  await receive({ type: 'answer', re: 1, sdp: 'old' });
  assert.equal(pc.signalingState, 'have-local-offer');
  await receive({ type: 'answer', re: 2, sdp: 'new' });
  await receive({ type: 'answer', re: 1, sdp: 'old' });
  assert.deepEqual([pc.signalingState, pc.remoteDescription.sdp], ['stable', 'new']);
});

test('the impolite side repeats its offer soon after it has ignored one', async () => {
  const { sent, receive } = await createOfferedSide(false);
  await receive({ type: 'offer', id: 5, sdp: 'v=0' });
  await tick(999);
  assert.deepEqual(offers(sent), [1]);
  await tick(1);
  assert.deepEqual(offers(sent), [1, 2]);
});

test('in ordinary glare the answer arrives in time and the offer is not repeated', async () => {
  const { sent, receive } = await createOfferedSide(false);
  await receive({ type: 'offer', id: 5, sdp: 'v=0' });
  await receive({ type: 'answer', re: 1, sdp: 'v=0' });
  await tick(60_000);
  assert.deepEqual(offers(sent), [1]);
});

test('renegotiate restarts ICE and replaces a pending offer, and an answer to the old offer is ignored', async () => {
  const { pc, sent, negotiation, receive } = await createOfferedSide(false);
  await negotiation.renegotiate();
  assert.deepEqual(pc.log, ['local offer', 'restart', 'local offer']);
  assert.deepEqual(offers(sent), [1, 2]);
  await receive({ type: 'answer', re: 1, sdp: 'old' });
  assert.equal(pc.signalingState, 'have-local-offer');
  await receive({ type: 'answer', re: 2, sdp: 'new' });
  assert.equal(pc.signalingState, 'stable');
});

test('renegotiate in the stable state sends one offer, not two', async () => {
  const { pc, sent, receive, negotiation } = await createOfferedSide(false);
  await receive({ type: 'answer', re: 1, sdp: 'v=0' });
  await negotiation.renegotiate();
  await settle();
  assert.deepEqual(offers(sent), [1, 2]);
  assert.deepEqual(pc.log.slice(2), ['restart', 'local offer']);
});

test('renegotiate before the first offer still waits for the other side', async () => {
  const { sent, negotiation } = createSide(true);
  await negotiation.renegotiate();
  await tick(1999);
  assert.deepEqual(offers(sent), []);
  await tick(1);
  assert.deepEqual(offers(sent), [1]);
});

test('a repeated answer is applied once', async () => {
  const { errors, receive } = await createOfferedSide(false);
  await receive({ type: 'answer', re: 1, sdp: 'v=0' });
  await receive({ type: 'answer', re: 1, sdp: 'v=0' });
  assert.deepEqual(errors, []);
});

test('an invalid offer of the peer leaves the own offer pending', async () => {
  const { pc, sent, errors, receive } = await createOfferedSide(true);
  pc.setRemoteDescription = mock.fn(pc.setRemoteDescription.bind(pc), async () => Promise.reject(new Error('bad sdp')), { times: 1 });
  await receive({ type: 'offer', id: 5, sdp: '?' });
  assert.equal(errors.length, 1);
  await tick(5000);
  assert.deepEqual(offers(sent), [1, 2]);
  await receive({ type: 'answer', re: 2, sdp: 'v=0' });
  assert.equal(pc.signalingState, 'stable');
});

test('an offer with a provisional answer is not repeated', async () => {
  const { pc, sent } = await createOfferedSide(false);
  pc.signalingState = 'have-remote-pranswer';
  await tick(60_000);
  assert.deepEqual(offers(sent), [1]);
});

test('after stop no offer is repeated and no timer is left', async () => {
  let asked = 0;
  const { sent, negotiation } = await createOfferedSide(false, { isReachable: () => (asked += 1) > 0 });
  negotiation.stop();
  await tick(60_000);
  await negotiation.renegotiate();
  assert.deepEqual([offers(sent), asked], [[1], 0]);
});

test('two sides agree at the end, whichever frames are lost', async () => {
  for (let seed = 1; seed <= 300; seed += 1) {
    const random = seededRandom(seed);
    const [a, b] = [createSide(false, { random }), createSide(true, { random })];
    let made = 0;
    for (const { pc } of [a, b]) pc.text = (type) => `${type} ${(made += 1)}`;
    const wires = [[a, b, []], [b, a, []]];
    for (const [from, , wire] of wires) from.onSent = (frame) => wire.push(frame);
    for (let step = 0; step < 60; step += 1) {
      const choice = Math.floor(random() * 6);
      const [, to, wire] = wires[choice % 2];
      if (choice < 2 && wire.length > 0) await to.receive(wire.shift());
      else if (choice === 2) wires[Math.floor(random() * 2)][2].length = 0; // lost without an error
      else if (choice === 3) [a, b][Math.floor(random() * 2)].pc.requestNegotiation();
      else if (choice === 4) [a, b][Math.floor(random() * 2)].negotiation.renegotiate();
      else mock.timers.tick(Math.floor(random() * 1500));
      await settle();
    }
    for (let round = 0; round < 120; round += 1) {
      for (const [, to, wire] of wires) while (wire.length > 0) await to.receive(wire.shift());
      await tick(1000);
    }
    assert.deepEqual([a.pc.signalingState, b.pc.signalingState], ['stable', 'stable'], `seed ${seed}`);
    assert.deepEqual([a.errors, b.errors], [[], []], `seed ${seed}`);
    assert.deepEqual(a.pc.agreed, [...b.pc.agreed].reverse(), `seed ${seed}`);
    for (const one of [a, b]) one.negotiation.stop();
  }
});
