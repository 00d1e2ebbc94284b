/** After a final refusal of a description both sides return to `stable` and can go on. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { ERROR_CODES } from '../src/codes.js';
import { SignalingError, isRetriedByQueue } from '../src/signaling-error.js';
import { mockTime, restoreTime } from './mock-time.js';
import { createSide, settle } from './scripted-rtc.js';
import { seededRandom } from './scripted-server.js';

beforeEach(mockTime);
afterEach(restoreTime);

/** The codes after which the same description is refused again, and the one of the send queue. */
const FINAL_CODES = [...ERROR_CODES.filter((code) => !isRetriedByQueue(code) && !new SignalingError(code).retryable && code !== 'no_such_peer'), 'queue_full'];

const sdpWith = (...sections) => ['v=0', ...sections.map((kind) => `m=${kind} 9 UDP/TLS/RTP/SAVPF 96\r\na=sendrecv`)].join('\r\n');

async function tick(ms) {
  mock.timers.tick(ms);
  await settle();
  await settle();
}

const typesSent = ({ sent }) => sent.map(({ type }) => type);
const codes = ({ errors }) => errors.map(({ code }) => code);

/** Creates a side with one agreed offer; then it has something new to offer. */
async function createSideWithChange(polite, { firesAfterRollback = false, ...options } = {}) {
  const side = createSide(polite, { random: () => 0, accepted: false, ...options });
  side.pc.firesAfterRollback = firesAfterRollback;
  side.pc.text = () => sdpWith('audio');
  await side.receive({ type: 'offer', id: 1, sdp: sdpWith('audio') });
  side.messages[0].resolve({ type: 'ack', id: 1 });
  side.pc.text = () => sdpWith('audio', 'video');
  side.pc.requestNegotiation();
  await settle();
  return side;
}

/** `not_permitted` is created again a few times before it is final. */
async function refuseForGood(side, code) {
  for (let n = 0; n < 10; n += 1) {
    const latest = side.messages.findLast(({ frame }) => frame.type === 'offer');
    latest.reject(new SignalingError(code));
    await settle();
    await settle();
    if (side.errors.length > 0) return;
    await tick(1000);
  }
}

for (const code of FINAL_CODES) {
  for (const firesAfterRollback of [true, false]) {
    test(`an offer that is refused with ${code} is rolled back and reported once (event after the rollback: ${firesAfterRollback})`, async () => {
      const side = await createSideWithChange(false, { firesAfterRollback });
      await refuseForGood(side, code);
      assert.deepEqual([side.pc.signalingState, codes(side)], ['stable', [code]]);
      assert.equal(side.pc.log.at(-1), 'rolled back');

      // The peer can offer, and this side answers.
      const count = side.sent.length;
      const answered = side.receive({ type: 'offer', id: 9, sdp: sdpWith('audio') });
      await settle();
      side.messages.at(-1).resolve({ type: 'ack' });
      await answered;
      assert.deepEqual([side.sent[count].type, side.sent[count].re, side.pc.signalingState], ['answer', 9, 'stable']);

      // A later change of this side passes.
      side.pc.text = () => sdpWith('audio', 'audio');
      side.negotiation.onChange();
      await tick(0);
      assert.equal(side.sent.at(-1).type, 'offer');
      side.messages.at(-1).resolve({ type: 'ack' });
      await side.receive({ type: 'answer', re: side.messages.at(-1).id, sdp: sdpWith('audio', 'audio') });
      assert.deepEqual([side.pc.signalingState, codes(side)], ['stable', [code]]);
      side.negotiation.stop();
    });
  }

  test(`an answer that is refused with ${code} is not applied, and the peer rolls its offer back`, async () => {
    const [alice, bob] = [await createSideWithChange(false), createSide(true, { random: () => 0, accepted: false })];
    await bob.receive({ type: 'offer', id: 1, sdp: sdpWith('audio') });
    bob.messages[0].resolve({ type: 'ack' });
    const { id } = alice.messages.at(-1);
    alice.messages.at(-1).resolve({ type: 'ack', id });
    for (let n = 0; bob.errors.length === 0 && n < 10; n += 1) {
      const received = bob.receive({ type: 'offer', id, sdp: sdpWith('audio', 'video') });
      await settle();
      bob.messages.at(-1).reject(new SignalingError(code));
      await received;
      await settle();
      assert.deepEqual([bob.pc.signalingState, bob.pc.log.at(-1)], ['stable', 'rolled back']);
    }
    assert.deepEqual(codes(bob), [code]);
    assert.deepEqual([bob.sent.at(-1).type, bob.sent.at(-1).re], ['rollback', id]);

    await alice.receive({ type: 'rollback', re: id, id: 99 });
    assert.deepEqual([alice.pc.signalingState, codes(alice)], ['stable', ['offer_refused']]);
    alice.pc.text = () => sdpWith('audio', 'audio');
    alice.negotiation.onChange();
    await tick(0);
    assert.equal(alice.sent.at(-1).type, 'offer');
    for (const one of [alice, bob]) one.negotiation.stop();
  });
}

test('the same offer is sent again at intervals only, and its refusal is reported once', async () => {
  const side = await createSideWithChange(false, { firesAfterRollback: true });
  await refuseForGood(side, 'too_large');
  const count = side.sent.length;
  for (let n = 0; n < 60; n += 1) {
    await tick(2000);
    if (side.pc.signalingState === 'have-local-offer') side.messages.at(-1).reject(new SignalingError('too_large'));
    await settle();
  }
  const repeats = side.sent.length - count;
  assert.ok(repeats >= 6 && repeats <= 8, `${repeats} offers in two minutes`);
  assert.deepEqual(codes(side), ['too_large']);
});

test('an offer that found a full queue is sent again at intervals, and reported once', async () => {
  const side = await createSideWithChange(false, { firesAfterRollback: true });
  await refuseForGood(side, 'queue_full');
  const before = typesSent(side).filter((type) => type === 'offer').length;
  for (let n = 0; n < 30; n += 1) {
    await tick(2000);
    if (side.pc.signalingState === 'have-local-offer') side.messages.at(-1).reject(new SignalingError('queue_full'));
    await settle();
    await settle();
  }
  const repeats = typesSent(side).filter((type) => type === 'offer').length - before;
  assert.ok(repeats >= 3 && repeats <= 5, `${repeats} offers in a minute`);
  assert.deepEqual(codes(side), ['queue_full']);
  while (side.pc.signalingState === 'stable') await tick(2000);
  side.messages.at(-1).resolve({ type: 'ack' });
  await side.receive({ type: 'answer', re: side.messages.at(-1).id, sdp: sdpWith('audio', 'video') });
  assert.equal(side.pc.signalingState, 'stable');
});

test('a refused offer and its candidates cause one error, not one for each candidate', async () => {
  const side = await createSideWithChange(false);
  for (const candidate of ['one', 'two', 'three']) side.pc.gather(candidate);
  for (const message of side.messages.slice(1)) message.reject(new SignalingError('queue_full'));
  await settle();
  side.pc.gather('late');
  await settle();
  assert.deepEqual(codes(side).sort(), ['queue_full', 'queue_full'], 'one for the offer, one for all candidates');
  assert.equal(typesSent(side).at(-1), 'candidate');
  assert.equal(side.sent.filter(({ type }) => type === 'candidate').length, 3, 'no candidate follows a refused offer');
});

test('after a refusal new permissions and a new snapshot bring the offer again', async () => {
  for (const bring of ['onChange', 'renegotiate']) {
    const side = await createSideWithChange(false);
    await refuseForGood(side, 'not_permitted');
    const count = side.sent.length;
    await side.negotiation[bring]();
    await settle();
    await settle();
    assert.deepEqual(typesSent(side).slice(count), ['offer'], bring);
    side.negotiation.stop();
  }
});

/** The descriptions of a negotiation, and how a side comes to send one. */
const DESCRIPTIONS = {
  'first offer': { type: 'offer', isFirst: true },
  'later offer': { type: 'offer', isFirst: false },
  'first answer': { type: 'answer', isFirst: true },
  'later answer': { type: 'answer', isFirst: false },
};

/** The server accepts all pending messages of a side. */
async function acceptAll(side) {
  for (const message of side.messages) message.resolve({ type: 'ack', id: message.id });
  await settle();
}

/** Brings a side to the point at which its latest message is the description. */
async function sendDescription(side, { type, isFirst }, sections) {
  const kinds = isFirst ? sections : ['audio', ...sections];
  if (!isFirst) {
    side.pc.text = () => sdpWith('audio');
    await side.receive({ type: 'offer', id: 1, sdp: sdpWith('audio') });
    await acceptAll(side);
  }
  side.pc.text = () => sdpWith(...kinds);
  if (type === 'offer') side.pc.requestNegotiation();
  else void side.receive({ type: 'offer', id: 2, sdp: sdpWith(...kinds) });
  await settle();
  await settle();
  assert.equal(side.sent.at(-1).type, type);
}

/** The server refuses the latest description, and each copy of it. */
async function refuseAll(side, type, code, sdp) {
  for (let n = 0; side.errors.length === 0 && n < 10; n += 1) {
    side.messages.findLast(({ frame }) => frame.type === type).reject(new SignalingError(code));
    await settle();
    await settle();
    if (side.errors.length > 0) return;
    await tick(1000);
    // After a refused answer the other side repeats its offer.
    if (type === 'answer') void side.receive({ type: 'offer', id: 3 + n, sdp });
    await settle();
    await settle();
  }
}

for (const [name, description] of Object.entries(DESCRIPTIONS)) {
  for (const code of FINAL_CODES) {
    for (const section of ['video', 'application']) {
      for (const next of ['this side', 'the other side']) {
        test(`a ${name} with ${section} is refused with ${code}, and then ${next} offers`, async () => {
          const side = createSide(description.type === 'answer', { random: () => 0, accepted: false });
          const first = side.pc;
          await sendDescription(side, description, [section]);
          await refuseAll(side, description.type, code, sdpWith(section));
          // The side that could not answer offers its own media on the new connection.
          const state = name === 'first answer' ? 'have-local-offer' : 'stable';
          assert.deepEqual([side.pc.signalingState, codes(side)], [state, [code]]);
          assert.deepEqual([side.pc !== first, side.replaced], [description.isFirst, Number(description.isFirst)], 'a first description needs a new connection');
          if (description.type === 'answer') assert.deepEqual(side.sent.filter(({ type }) => type === 'rollback').length, 1);
          await acceptAll(side);

          if (next === 'this side') {
            side.pc.text = () => sdpWith('audio', 'audio', 'audio');
            side.pc.requestNegotiation();
            side.negotiation.onChange();
            await tick(2000);
            const offer = side.messages.findLast(({ frame }) => frame.type === 'offer');
            await acceptAll(side);
            await side.receive({ type: 'answer', re: offer.id, sdp: sdpWith('audio', 'audio', 'audio') });
          } else {
            // Its own offer may be pending.
            const answered = side.receive({ type: 'offer', id: 50, sdp: sdpWith('audio') });
            await settle();
            await acceptAll(side);
            await answered;
          }
          assert.deepEqual([side.pc.signalingState, codes(side)], ['stable', [code]]);
          assert.ok(side.pc.agreed.every(Boolean), 'both sides have agreed');
          side.negotiation.stop();
        });
      }
    }
  }
}

test('a first offer that the peer cannot answer needs a new connection, and is reported once', async () => {
  const side = createSide(false, { random: () => 0 });
  side.pc.text = () => sdpWith('audio', 'application');
  side.pc.requestNegotiation();
  await settle();
  await side.receive({ type: 'rollback', re: side.messages.at(-1).id });
  for (let n = 0; n < 5; n += 1) await tick(2000);
  assert.deepEqual([side.pc.signalingState, side.replaced, codes(side), typesSent(side)], ['stable', 1, ['offer_refused'], ['offer']]);
  // The peer may be able to answer it later.
  for (let n = 0; n < 5; n += 1) await tick(2000);
  assert.deepEqual([codes(side), typesSent(side)], [['offer_refused'], ['offer', 'offer']]);
  side.negotiation.stop();
});

test('a refused copy of a first answer does not end a connection whose later answer may be accepted', async () => {
  const side = createSide(true, { accepted: false });
  const first = side.pc;
  void side.receive({ type: 'offer', id: 1, sdp: sdpWith('audio') });
  await settle();
  void side.receive({ type: 'offer', id: 2, sdp: sdpWith('audio') });
  await settle();
  const [refused, accepted] = side.messages.filter(({ frame }) => frame.type === 'answer');
  refused.reject(new SignalingError('too_large'));
  await settle();
  accepted.resolve({ type: 'ack', id: accepted.id });
  await settle();
  assert.deepEqual([side.pc === first, side.pc.signalingState], [true, 'stable']);
  side.negotiation.stop();
});

test('a rollback that names another offer changes nothing', async () => {
  const side = await createSideWithChange(false);
  await side.receive({ type: 'rollback', re: 4711, id: 1 });
  await side.receive({ type: 'rollback', id: 2 });
  assert.deepEqual([side.pc.signalingState, side.errors], ['have-local-offer', []]);
});

test('a browser that asks for the same offer again and again does not get a loop', async () => {
  const side = createSide(false, { random: () => 0 });
  side.pc.text = () => `${sdpWith('audio', 'application')}\r\na=ice-ufrag:one`;
  // As Chromium does after the peer has declined the data channel.
  side.pc.addEventListener('negotiationneeded', () => setImmediate(() => side.pc.requestNegotiation()));
  side.pc.requestNegotiation();
  for (let n = 0; n < 20; n += 1) {
    await tick(2000);
    if (side.pc.signalingState === 'have-local-offer') await side.receive({ type: 'answer', re: side.messages.at(-1).id, sdp: sdpWith('audio') });
    side.pc.requestNegotiation();
    await settle();
    await settle();
  }
  assert.ok(side.sent.length <= 7, `${side.sent.length} offers in 40 s`);
  assert.deepEqual(side.errors, []);
  const sent = side.sent.length;
  const answer = () => side.receive({ type: 'answer', re: side.messages.at(-1).id, sdp: sdpWith('audio') });
  side.pc.text = () => `${sdpWith('audio', 'application', 'video')}\r\na=ice-ufrag:one`;
  side.negotiation.onChange();
  await settle();
  assert.equal(side.sent.length, sent + 1, 'a change is offered at once');
  await answer();
  side.pc.text = () => `${sdpWith('audio', 'application', 'video')}\r\na=ice-ufrag:two`;
  await tick(2000);
  side.pc.requestNegotiation();
  await settle();
  assert.equal(side.sent.length, sent + 2, 'a restart of ICE is offered');
  side.negotiation.stop();
});

test('an offer with a repeated mid is made again before it is sent', async () => {
  const side = createSide(false);
  const texts = ['m=audio 9 x\r\na=mid:0\r\nm=video 9 x\r\na=mid:0\r\n', 'm=audio 9 x\r\na=mid:0\r\nm=video 9 x\r\na=mid:1\r\n'];
  side.pc.text = (type) => (type === 'offer' ? texts.shift() : '');
  side.pc.requestNegotiation();
  await settle();
  await settle();
  assert.deepEqual(side.sent.map(({ sdp }) => sdp.match(/a=mid:\d/g).join()), ['a=mid:0,a=mid:1']);
});

test('two sides agree at the end, whichever descriptions are refused', async () => {
  for (let seed = 1; seed <= 200; seed += 1) {
    const random = seededRandom(seed);
    const sides = [false, true].map((polite) => createSide(polite, { random, accepted: false }));
    const wires = [[], []];
    let made = 0;
    for (const [n, side] of sides.entries()) {
      side.kinds = ['audio'];
      side.pc.text = (type) => `${sdpWith(...side.kinds)} ${type} ${(made += 1)}`;
      side.pc.firesAfterRollback = n === 0;
      side.open = [];
      side.onSent = (frame) => side.open.push([frame, side.messages.at(-1)]);
    }
    /** The server accepts the oldest frame of a side, or refuses it. */
    const decide = (n, accepts) => {
      const [frame, message] = sides[n].open.shift() ?? [];
      if (!frame) return;
      if (accepts) wires[n].push(frame);
      if (accepts) message.resolve({ type: 'ack', id: message.id });
      else message.reject(new SignalingError(['too_large', 'queue_full', 'not_permitted', 'internal'][Math.floor(random() * 4)]));
    };
    // The frames of a side are handled in order, and some wait for the server.
    const deliver = (n) => wires[n].length > 0 && void sides[1 - n].receive(wires[n].shift());
    for (let step = 0; step < 80; step += 1) {
      const n = Math.floor(random() * 2);
      const choice = Math.floor(random() * 5);
      if (choice === 0) deliver(n);
      else if (choice === 1) decide(n, random() < 0.6);
      else if (choice === 2) sides[n].kinds = random() < 0.5 ? ['audio', 'video'] : ['audio'];
      else if (choice === 3) sides[n].pc.requestNegotiation();
      else mock.timers.tick(Math.floor(random() * 2500));
      await settle();
    }
    for (const side of sides) side.kinds = ['audio', 'audio', 'video'];
    for (let round = 0; round < 150; round += 1) {
      for (const n of [0, 1]) {
        while (sides[n].open.length > 0) decide(n, true);
        while (wires[n].length > 0) deliver(n);
      }
      await tick(1000);
    }
    assert.deepEqual(sides.map(({ pc }) => pc.signalingState), ['stable', 'stable'], `seed ${seed}`);
    assert.deepEqual(sides[0].pc.agreed, [...sides[1].pc.agreed].reverse(), `seed ${seed}`);
    for (const { negotiation } of sides) negotiation.stop();
  }
});
