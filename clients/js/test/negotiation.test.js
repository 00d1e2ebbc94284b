/** Perfect negotiation with a scripted RTCPeerConnection; browser tests use a real one. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { mockTime, restoreTime } from './mock-time.js';
import { createSide, settle } from './scripted-rtc.js';

beforeEach(mockTime);
afterEach(restoreTime);

const types = (sent) => sent.map(({ type }) => type);

async function createOfferedSide(polite) {
  const side = createSide(polite);
  side.pc.requestNegotiation();
  if (polite) mock.timers.tick(2000);
  await settle();
  return side;
}

test('the impolite side offers at once, and its candidates name the offer', async () => {
  const { pc, sent } = await createOfferedSide(false);
  pc.gather('host');
  assert.deepEqual(sent, [
    { type: 'offer', sdp: 'local offer', id: 1 },
    { type: 'candidate', candidate: { candidate: 'host' }, id: 2, re: 1 },
  ]);
});

test('the polite side waits for the first offer of the other side, but not for ever', async () => {
  const { pc, sent } = createSide(true);
  pc.requestNegotiation();
  await settle();
  assert.deepEqual(sent, []);
  mock.timers.tick(2000);
  await settle();
  assert.deepEqual(types(sent), ['offer']);
});

test('an offer is answered with its id, and so are the candidates of the answer', async () => {
  const { pc, sent, receive } = createSide(true);
  await receive({ type: 'offer', id: 9, sdp: 'v=0' });
  pc.gather('host');
  assert.deepEqual(sent.map(({ type, re }) => [type, re]), [['answer', 9], ['candidate', 9]]);
});

test('in glare the impolite side ignores the offer and its candidates, and continues', async () => {
  const { pc, receive, errors } = await createOfferedSide(false);
  await receive({ type: 'offer', id: 5, sdp: 'v=0' });
  await receive({ type: 'candidate', re: 5, candidate: { candidate: 'void' } });
  await receive({ type: 'answer', re: 1, sdp: 'v=0' });
  await receive({ type: 'candidate', re: 1, candidate: { candidate: 'good' } });
  assert.deepEqual(pc.log, ['local offer', 'remote answer', 'add good']);
  assert.deepEqual(errors, []);
});

test('in glare the polite side rolls its offer back and answers', async () => {
  const { pc, sent, receive } = await createOfferedSide(true);
  await receive({ type: 'offer', id: 5, sdp: 'v=0' });
  assert.deepEqual(pc.log, ['local offer', 'rolled back', 'remote offer', 'local answer']);
  assert.deepEqual(sent.at(-1), { type: 'answer', sdp: 'local answer', id: 2, re: 5 });
});

test('an answer to a replaced offer is ignored, with its candidates', async () => {
  const { pc, receive } = await createOfferedSide(true);
  await receive({ type: 'offer', id: 5, sdp: 'v=0' });
  await receive({ type: 'answer', re: 1, sdp: 'v=0' });
  await receive({ type: 'candidate', re: 1, candidate: { candidate: 'old' } });
  await receive({ type: 'candidate', re: 5, candidate: { candidate: 'new' } });
  assert.deepEqual(pc.log.slice(2), ['remote offer', 'local answer', 'add new']);
});

test('candidates that arrive before their description wait for it', async () => {
  const { pc, receive } = createSide(true);
  await receive({ type: 'candidate', re: 5, candidate: { candidate: 'early' } });
  await receive({ type: 'offer', id: 5, sdp: 'v=0' });
  assert.deepEqual(pc.log, ['remote offer', 'add early', 'local answer']);
});

test('the frames of one peer are handled one after the other', async () => {
  const { pc, receive } = createSide(true);
  await Promise.all([
    receive({ type: 'offer', id: 5, sdp: 'v=0' }),
    receive({ type: 'candidate', re: 5, candidate: { candidate: 'one' } }),
    receive({ type: 'offer', id: 6, sdp: 'v=0' }),
    receive({ type: 'candidate', re: 6, candidate: { candidate: 'two' } }),
  ]);
  assert.deepEqual(pc.log, ['remote offer', 'local answer', 'add one', 'remote offer', 'local answer', 'add two']);
});

test('candidates that are gathered during a description do not overtake it', async () => {
  const { pc, sent, receive } = createSide(true);
  const apply = pc.setLocalDescription.bind(pc);
  pc.setLocalDescription = async () => {
    await apply();
    pc.gather('quick');
  };
  await receive({ type: 'offer', id: 5, sdp: 'v=0' });
  assert.deepEqual(types(sent), ['answer', 'candidate']);
});

test('the end of candidates is sent once as an empty candidate', async () => {
  const { pc, sent } = await createOfferedSide(false);
  pc.gather('');
  pc.gather(null);
  assert.deepEqual(sent.slice(1), [{ type: 'candidate', candidate: { candidate: '' }, id: 2, re: 1 }]);
});

test('a failure is reported and does not stop the next frame', async () => {
  const { pc, errors, receive } = createSide(true);
  pc.setRemoteDescription = mock.fn(pc.setRemoteDescription.bind(pc), async () => Promise.reject(new Error('bad sdp')), { times: 1 });
  await receive({ type: 'offer', id: 5, sdp: '?' });
  await receive({ type: 'offer', id: 6, sdp: 'v=0' });
  assert.deepEqual(errors.map(({ message }) => message), ['bad sdp']);
  assert.deepEqual(pc.log, ['remote offer', 'local answer']);
});

test('after stop nothing is sent or reported', async () => {
  const { pc, sent, negotiation } = await createOfferedSide(false);
  negotiation.stop();
  pc.gather('late');
  pc.requestNegotiation();
  await settle();
  assert.equal(sent.length, 1);
});

const withFingerprint = (name) => `v=0\r\na=fingerprint:sha-256 ${name}\r\n`;

test('an offer of a new connection of the peer brings a new connection here, and the answer is sent on it', async () => {
  const side = createSide(true);
  const first = side.pc;
  await side.receive({ type: 'offer', id: 1, sdp: withFingerprint('A') });
  await settle();
  await side.receive({ type: 'offer', id: 2, sdp: withFingerprint('A') });
  await settle();
  assert.deepEqual([side.pc === first, side.replaced], [true, 0], 'a restart of ICE keeps the connection');
  await side.receive({ type: 'offer', id: 3, sdp: withFingerprint('B') });
  await settle();
  assert.deepEqual([side.pc === first, side.replaced, side.pc.remoteDescription.sdp], [false, 1, withFingerprint('B')]);
  assert.deepEqual([side.sent.filter(({ type }) => type === 'answer').map(({ re }) => re), side.errors], [[1, 2, 3], []]);
  side.negotiation.stop();
});

test('a new connection of this side makes an offer, and what belongs to the old one is ignored', async () => {
  const side = createSide(false);
  const first = side.pc;
  side.pc.text = () => 'mine';
  side.pc.requestNegotiation();
  await settle();
  await side.receive({ type: 'answer', re: side.messages.at(-1).id, sdp: withFingerprint('A') });
  const old = side.messages.at(-1).id;
  await side.negotiation.startAgain();
  // On their way: an offer of the old connection of the peer, its candidate, and a late answer.
  await settle();
  await settle();
  assert.deepEqual([side.pc === first, side.replaced, side.sent.at(-1).type], [false, 1, 'offer']);
  await side.receive({ type: 'offer', id: 8, sdp: withFingerprint('A') });
  await side.receive({ type: 'candidate', re: 8, candidate: { candidate: 'old' } });
  await side.receive({ type: 'answer', re: old, sdp: withFingerprint('A') });
  assert.equal(side.pc.signalingState, 'have-local-offer');
  await side.receive({ type: 'answer', re: side.messages.at(-1).id, sdp: withFingerprint('B') });
  assert.deepEqual([side.pc.signalingState, side.replaced, side.pc.log.filter((line) => line.startsWith('add'))], ['stable', 1, []]);
  await side.receive({ type: 'offer', id: 10, sdp: withFingerprint('B') });
  assert.deepEqual([side.replaced, side.errors], [1, []]);
  side.negotiation.stop();
});
