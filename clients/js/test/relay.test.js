/** What the relay servers of a connection answer. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { watchRelay } from '../src/relay.js';
import { TypedEmitter } from '../src/typed-emitter.js';

const errorEvent = (errorCode, url = 'turn:relay.example:3478') => Object.assign(new Event('icecandidateerror'), { errorCode, url });
const candidateEvent = (type) => Object.assign(new Event('icecandidate'), { candidate: type && { type } });

class ScriptedPeer extends TypedEmitter {
  state = 'connecting';
  pc = new EventTarget();
  past = (name) => (name === 'connection' ? [this.pc] : []);
  replace(pc) {
    this.pc = pc;
    this.emit('connection', pc);
  }
}

test('the most telling answer of the relay servers is kept until a relay candidate is found', () => {
  const peer = new ScriptedPeer();
  const problemNow = watchRelay(peer);
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
    peer.pc.dispatchEvent(event);
    assert.equal(problemNow(), problem, `${event.type} ${event.errorCode}`);
  }
  peer.state = 'connected';
  assert.equal(problemNow(), undefined, 'a call with a connection has no problem');
});

test('a new connection begins without a problem, and the old one has no say any more', () => {
  const peer = new ScriptedPeer();
  const problemNow = watchRelay(peer);
  const old = peer.pc;
  old.dispatchEvent(errorEvent(701));
  peer.replace(new EventTarget());
  old.dispatchEvent(errorEvent(486));
  assert.equal(problemNow(), undefined);
  peer.pc.dispatchEvent(errorEvent(401));
  assert.equal(problemNow(), 'refused');
});
