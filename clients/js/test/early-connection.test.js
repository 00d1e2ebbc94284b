/** A connection that is made before its peer is known. */
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { earlyConnection } from '../src/early-connection.js';

let made;

class CountedConnection extends EventTarget {
  isClosed = false;
  tracks = [];
  constructor(configuration) {
    super();
    this.configuration = configuration;
    made.push(this);
  }
  setConfiguration(configuration) {
    if (configuration.iceServers?.[0] === 'bad') throw new TypeError('bad server');
    this.configuration = configuration;
  }
  addTrack(track) {
    this.tracks.push(track);
  }
  requestNegotiation() {
    this.dispatchEvent(new Event('negotiationneeded'));
  }
  close() {
    this.isClosed = true;
  }
}

beforeEach(() => (made = []));

test('the first peer gets the early connection with its ICE servers, and the others get new ones', () => {
  const Connection = earlyConnection({ rtc: { bundlePolicy: 'max-bundle' }, RTCPeerConnection: CountedConnection });
  assert.equal(made.length, 1);
  const [first, second] = [new Connection({ iceServers: [1] }), new Connection({ iceServers: [2] })];
  assert.deepEqual([first === made[0], second === made[1], first.configuration, second.configuration], [true, true, { iceServers: [1] }, { iceServers: [2] }]);
  Connection.closeUnused();
  assert.deepEqual(made.map(({ isClosed }) => isClosed), [false, false]);
});

test('an early connection that is not used can be closed', () => {
  earlyConnection({ RTCPeerConnection: CountedConnection }).closeUnused();
  assert.deepEqual(made.map(({ isClosed }) => isClosed), [true]);
});

test('settings that the browser refuses are refused as by a new connection', () => {
  const Connection = earlyConnection({ RTCPeerConnection: CountedConnection });
  assert.throws(() => new Connection({ iceServers: ['bad'] }), TypeError);
  assert.equal(made[0].isClosed, true);
  assert.equal(new Connection({}), made[1]);
});

test('without WebRTC there is none, so that join can say so', () => {
  assert.equal(earlyConnection(), undefined);
});

test('a browser that cannot take ICE servers later, or makes no connection at all, gets none early', () => {
  class Fixed extends CountedConnection {
    setConfiguration = undefined;
  }
  const Connection = earlyConnection({ RTCPeerConnection: Fixed });
  assert.deepEqual(made.map(({ isClosed }) => isClosed), [true]);
  assert.equal(new Connection({}), made[1]);
  class NoConnection {
    constructor() {
      throw new Error('no WebRTC here');
    }
  }
  const Failing = earlyConnection({ RTCPeerConnection: NoConnection });
  assert.throws(() => new Failing({}), /no WebRTC here/);
});

test('the early connection has the first live track of each kind, and asks for an offer when a peer has it', async () => {
  const tracks = ['audio', 'video', 'video'].map((kind, number) => ({ kind, number, readyState: number === 1 ? 'ended' : 'live' }));
  const Connection = earlyConnection({ media: { getTracks: () => tracks }, RTCPeerConnection: CountedConnection });
  assert.deepEqual(made[0].tracks, [tracks[0], tracks[2]]);
  made[0].requestNegotiation();
  const pc = new Connection({});
  const asked = new Promise((resolve) => pc.addEventListener('negotiationneeded', resolve));
  await asked;
});
