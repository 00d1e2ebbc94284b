/** What is lost between two sides is made good: offers are repeated, and ICE restarts replace them. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { SignalingError } from '../src/codes.js';
import { dice } from './scripted.js';
import { settle, side } from './scripted-rtc.js';

beforeEach(() => mock.timers.enable({ apis: ['setTimeout'] }));
afterEach(() => mock.timers.reset());

/** One side that has offered; its waits can be told in advance. */
async function offeredAndTaken(polite, options) {
  const it = side(polite, { random: () => 0, ...options });
  it.pc.need();
  if (polite) mock.timers.tick(2000);
  await settle();
  return it;
}

async function tick(ms) {
  mock.timers.tick(ms);
  await settle();
}

const offers = (sent) => sent.filter(({ type }) => type === 'offer').map(({ id }) => id);

test('an offer without an answer is sent again as it is now, under a new id, and more and more rarely', async () => {
  const { pc, sent } = await offeredAndTaken(false);
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
  assert.deepEqual(pc.log, ['local offer'], 'the connection is not touched');
});

test('an answered offer is not sent again, and neither is one that was rolled back', async () => {
  const answered = await offeredAndTaken(false);
  await answered.receive({ type: 'answer', re: 1, sdp: 'v=0' });
  const yielded = await offeredAndTaken(true);
  await yielded.receive({ type: 'offer', id: 5, sdp: 'v=0' });
  await tick(60_000);
  assert.deepEqual([offers(answered.sent), offers(yielded.sent)], [[1], [1]]);
});

test('an offer that the server has not taken yet is the queue\'s business', async () => {
  const { sent, sendings } = await offeredAndTaken(false, { taken: false });
  await tick(60_000);
  assert.deepEqual(offers(sent), [1]);
  sendings[0].resolve({ type: 'ack', id: 1 });
  await settle();
  await tick(5000);
  assert.deepEqual(offers(sent), [1, 2]);
});

test('an offer that was refused for now is made good, one that was refused for good is not', async () => {
  for (const [code, expected] of [['peer_backlogged', [1, 2]], ['too_large', [1]]]) {
    const { sent, sendings } = await offeredAndTaken(false, { taken: false });
    sendings[0].reject(new SignalingError(code));
    await settle();
    await tick(5000);
    assert.deepEqual(offers(sent), expected, code);
  }
});

test('while the peer is away no copies pile up in its mailbox', async () => {
  let reachable = false;
  const { sent } = await offeredAndTaken(false, { isReachable: () => reachable });
  for (let n = 0; n < 10; n += 1) await tick(5000);
  assert.deepEqual(offers(sent), [1]);
  reachable = true;
  await tick(5000);
  assert.deepEqual(offers(sent), [1, 2]);
});

test('the candidates after a copy name the copy', async () => {
  const { pc, sent } = await offeredAndTaken(false);
  await tick(5000);
  pc.gather('late');
  assert.deepEqual([sent.at(-1).type, sent.at(-1).re], ['candidate', 2]);
});

test('a description that is known already is answered again', async () => {
  const { sent, receive, errors } = side(true);
  await receive({ type: 'offer', id: 5, sdp: 'v=0' });
  await receive({ type: 'offer', id: 6, sdp: 'v=0' });
  assert.deepEqual(sent.map(({ type, re }) => [type, re]), [['answer', 5], ['answer', 6]]);
  assert.deepEqual(errors, []);
});

test('only the answer to the latest copy counts', async () => {
  const { pc, receive } = await offeredAndTaken(false);
  await tick(5000);
  await receive({ type: 'answer', re: 1, sdp: 'old' });
  assert.equal(pc.signalingState, 'have-local-offer');
  await receive({ type: 'answer', re: 2, sdp: 'new' });
  await receive({ type: 'answer', re: 1, sdp: 'old' });
  assert.deepEqual([pc.signalingState, pc.remoteDescription.sdp], ['stable', 'new']);
});

test('the impolite side repeats its offer soon after it has ignored one', async () => {
  const { sent, receive } = await offeredAndTaken(false);
  await receive({ type: 'offer', id: 5, sdp: 'v=0' });
  await tick(999);
  assert.deepEqual(offers(sent), [1]);
  await tick(1);
  assert.deepEqual(offers(sent), [1, 2]);
});

test('in ordinary glare the answer comes in time and nothing is repeated', async () => {
  const { sent, receive } = await offeredAndTaken(false);
  await receive({ type: 'offer', id: 5, sdp: 'v=0' });
  await receive({ type: 'answer', re: 1, sdp: 'v=0' });
  await tick(60_000);
  assert.deepEqual(offers(sent), [1]);
});

test('to renegotiate is to restart ICE; an offer without an answer is replaced, and its answer is void', async () => {
  const { pc, sent, negotiation, receive } = await offeredAndTaken(false);
  await negotiation.renegotiate();
  assert.deepEqual(pc.log, ['local offer', 'restart', 'local offer']);
  assert.deepEqual(offers(sent), [1, 2]);
  await receive({ type: 'answer', re: 1, sdp: 'old' });
  assert.equal(pc.signalingState, 'have-local-offer');
  await receive({ type: 'answer', re: 2, sdp: 'new' });
  assert.equal(pc.signalingState, 'stable');
});

test('to renegotiate in peace is left to the connection: one offer, not two', async () => {
  const { pc, sent, receive, negotiation } = await offeredAndTaken(false);
  await receive({ type: 'answer', re: 1, sdp: 'v=0' });
  await negotiation.renegotiate();
  await settle();
  assert.deepEqual(offers(sent), [1, 2]);
  assert.deepEqual(pc.log.slice(2), ['restart', 'local offer']);
});

test('to renegotiate what has not begun leaves the first offer to the other side, as ever', async () => {
  const { sent, negotiation } = side(true);
  await negotiation.renegotiate();
  await tick(1999);
  assert.deepEqual(offers(sent), []);
  await tick(1);
  assert.deepEqual(offers(sent), [1]);
});

test('an answer that comes twice is applied once', async () => {
  const { errors, receive } = await offeredAndTaken(false);
  await receive({ type: 'answer', re: 1, sdp: 'v=0' });
  await receive({ type: 'answer', re: 1, sdp: 'v=0' });
  assert.deepEqual(errors, []);
});

test('an offer of the peer that is no good leaves one\'s own as it was', async () => {
  const { pc, sent, errors, receive } = await offeredAndTaken(true);
  pc.setRemoteDescription = mock.fn(pc.setRemoteDescription.bind(pc), async () => Promise.reject(new Error('bad sdp')), { times: 1 });
  await receive({ type: 'offer', id: 5, sdp: '?' });
  assert.equal(errors.length, 1);
  await tick(5000);
  assert.deepEqual(offers(sent), [1, 2]);
  await receive({ type: 'answer', re: 2, sdp: 'v=0' });
  assert.equal(pc.signalingState, 'stable');
});

test('an offer with a provisional answer has arrived', async () => {
  const { pc, sent } = await offeredAndTaken(false);
  pc.signalingState = 'have-remote-pranswer';
  await tick(60_000);
  assert.deepEqual(offers(sent), [1]);
});

test('after stop no offer is repeated and no timer is left', async () => {
  let asked = 0;
  const { sent, negotiation } = await offeredAndTaken(false, { isReachable: () => (asked += 1) > 0 });
  negotiation.stop();
  await tick(60_000);
  await negotiation.renegotiate();
  assert.deepEqual([offers(sent), asked], [[1], 0]);
});

test('two sides agree in the end, whatever is lost on the way, as long as something arrives', async () => {
  for (let seed = 1; seed <= 300; seed += 1) {
    const random = dice(seed);
    const [a, b] = [side(false, { random }), side(true, { random })];
    let made = 0;
    for (const { pc } of [a, b]) pc.text = (type) => `${type} ${(made += 1)}`;
    const wires = [[a, b, []], [b, a, []]];
    for (const [from, , wire] of wires) from.onSent = (frame) => wire.push(frame);
    for (let step = 0; step < 60; step += 1) {
      const dice6 = Math.floor(random() * 6);
      const [, to, wire] = wires[dice6 % 2];
      if (dice6 < 2 && wire.length > 0) await to.receive(wire.shift());
      else if (dice6 === 2) wires[Math.floor(random() * 2)][2].length = 0; // lost, and nobody is told
      else if (dice6 === 3) [a, b][Math.floor(random() * 2)].pc.need();
      else if (dice6 === 4) [a, b][Math.floor(random() * 2)].negotiation.renegotiate();
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
