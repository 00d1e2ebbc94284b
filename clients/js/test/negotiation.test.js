/** Perfect negotiation against a scripted RTCPeerConnection. Real browsers run it in the browser test. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { settle, side } from './scripted-rtc.js';

beforeEach(() => mock.timers.enable({ apis: ['setTimeout'] }));
afterEach(() => mock.timers.reset());

const types = (sent) => sent.map(({ type }) => type);

async function offered(polite) {
  const it = side(polite);
  it.pc.need();
  if (polite) mock.timers.tick(2000);
  await settle();
  return it;
}

test('the impolite side offers at once, and its candidates name the offer', async () => {
  const { pc, sent } = await offered(false);
  pc.gather('host');
  assert.deepEqual(sent, [
    { type: 'offer', sdp: 'local offer', id: 1 },
    { type: 'candidate', candidate: { candidate: 'host' }, id: 2, re: 1 },
  ]);
});

test('the polite side leaves the first offer to the other, but not for ever', async () => {
  const { pc, sent } = side(true);
  pc.need();
  await settle();
  assert.deepEqual(sent, []);
  mock.timers.tick(2000);
  await settle();
  assert.deepEqual(types(sent), ['offer']);
});

test('an offer is answered with its id, and so are the candidates of the answer', async () => {
  const { pc, sent, receive } = side(true);
  await receive({ type: 'offer', id: 9, sdp: 'v=0' });
  pc.gather('host');
  assert.deepEqual(sent.map(({ type, re }) => [type, re]), [['answer', 9], ['candidate', 9]]);
});

test('in glare the impolite side ignores the offer and its candidates, and goes on', async () => {
  const { pc, receive, errors } = await offered(false);
  await receive({ type: 'offer', id: 5, sdp: 'v=0' });
  await receive({ type: 'candidate', re: 5, candidate: { candidate: 'void' } });
  await receive({ type: 'answer', re: 1, sdp: 'v=0' });
  await receive({ type: 'candidate', re: 1, candidate: { candidate: 'good' } });
  assert.deepEqual(pc.log, ['local offer', 'remote answer', 'add good']);
  assert.deepEqual(errors, []);
});

test('in glare the polite side rolls its offer back and answers', async () => {
  const { pc, sent, receive } = await offered(true);
  await receive({ type: 'offer', id: 5, sdp: 'v=0' });
  assert.deepEqual(pc.log, ['local offer', 'rolled back', 'remote offer', 'local answer']);
  assert.deepEqual(sent.at(-1), { type: 'answer', sdp: 'local answer', id: 2, re: 5 });
});

test('an answer to an offer that was superseded is dropped, with its candidates', async () => {
  const { pc, receive } = await offered(true);
  await receive({ type: 'offer', id: 5, sdp: 'v=0' });
  await receive({ type: 'answer', re: 1, sdp: 'v=0' });
  await receive({ type: 'candidate', re: 1, candidate: { candidate: 'old' } });
  await receive({ type: 'candidate', re: 5, candidate: { candidate: 'new' } });
  assert.deepEqual(pc.log.slice(2), ['remote offer', 'local answer', 'add new']);
});

test('candidates that come before their description wait for it', async () => {
  const { pc, receive } = side(true);
  await receive({ type: 'candidate', re: 5, candidate: { candidate: 'early' } });
  await receive({ type: 'offer', id: 5, sdp: 'v=0' });
  assert.deepEqual(pc.log, ['remote offer', 'add early', 'local answer']);
});

test('what one peer sends is handled strictly one after the other', async () => {
  const { pc, receive } = side(true);
  await Promise.all([
    receive({ type: 'offer', id: 5, sdp: 'v=0' }),
    receive({ type: 'candidate', re: 5, candidate: { candidate: 'one' } }),
    receive({ type: 'offer', id: 6, sdp: 'v=0' }),
    receive({ type: 'candidate', re: 6, candidate: { candidate: 'two' } }),
  ]);
  assert.deepEqual(pc.log, ['remote offer', 'local answer', 'add one', 'remote offer', 'local answer', 'add two']);
});

test('candidates gathered while a description is made do not overtake it', async () => {
  const { pc, sent, receive } = side(true);
  const apply = pc.setLocalDescription.bind(pc);
  pc.setLocalDescription = async () => {
    await apply();
    pc.gather('quick');
  };
  await receive({ type: 'offer', id: 5, sdp: 'v=0' });
  assert.deepEqual(types(sent), ['answer', 'candidate']);
});

test('the end of candidates is sent once as an empty candidate', async () => {
  const { pc, sent } = await offered(false);
  pc.gather('');
  pc.gather(null);
  assert.deepEqual(sent.slice(1), [{ type: 'candidate', candidate: { candidate: '' }, id: 2, re: 1 }]);
});

test('a failure is reported and does not stop what comes after it', async () => {
  const { pc, errors, receive } = side(true);
  pc.setRemoteDescription = mock.fn(pc.setRemoteDescription.bind(pc), async () => Promise.reject(new Error('bad sdp')), { times: 1 });
  await receive({ type: 'offer', id: 5, sdp: '?' });
  await receive({ type: 'offer', id: 6, sdp: 'v=0' });
  assert.deepEqual(errors.map(({ message }) => message), ['bad sdp']);
  assert.deepEqual(pc.log, ['remote offer', 'local answer']);
});

test('after stop nothing is sent or reported any more', async () => {
  const { pc, sent, negotiation } = await offered(false);
  negotiation.stop();
  pc.gather('late');
  pc.need();
  await settle();
  assert.equal(sent.length, 1);
});
