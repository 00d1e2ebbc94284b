/** The limits for what is sent, with fake senders; a browser test uses real ones. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { limitSending } from '../src/media.js';
import { TypedEmitter } from '../src/typed-emitter.js';

const codec = (mimeType) => ({ mimeType, clockRate: 90_000 });
before(() => {
  globalThis.RTCRtpReceiver = { getCapabilities: (kind) => ({ codecs: (kind === 'video' ? ['video/VP8', 'video/rtx', 'video/VP9', 'video/H264', 'video/AV1'] : ['audio/opus']).map(codec) }) };
});
after(() => delete globalThis.RTCRtpReceiver);

const settle = () => new Promise((resolve) => setImmediate(resolve));

function createTransceiver(kind, { height = 1080, encodings = [{}] } = {}) {
  const parameters = { transactionId: 't', encodings };
  const sender = {
    track: { kind, getSettings: () => ({ height }) },
    getParameters: () => structuredClone(parameters),
    setParameters: async (wanted) => void Object.assign(parameters, wanted),
    parameters,
  };
  const transceiver = { sender, receiver: { track: { kind } }, direction: 'sendrecv', preferred: null };
  transceiver.setCodecPreferences = (codecs) => (transceiver.preferred = codecs.map(({ mimeType }) => mimeType));
  return transceiver;
}

class ScriptedPeer extends TypedEmitter {
  constructor(...transceivers) {
    super();
    this.pc = Object.assign(new EventTarget(), { signalingState: 'stable', getTransceivers: () => transceivers });
  }
  past = (name) => (name === 'connection' ? [this.pc] : []);
  end = () => this.emit('closed', 'left');
}

class ScriptedRoom extends TypedEmitter {
  peers = new Map();
  past = (name) => (name === 'peer' ? [...this.peers.values()] : []);
  add(peer) {
    this.peers.set(peer, peer);
    this.emit('peer', peer);
    return peer;
  }
  remove(peer) {
    this.peers.delete(peer);
    peer.end();
  }
}

const encodingOf = ({ sender }) => sender.parameters.encodings[0];

test('the video budget is shared by the peers, and the shares change when peers come and go', async () => {
  const room = new ScriptedRoom();
  const [first, second] = [createTransceiver('video'), createTransceiver('video')];
  const sound = createTransceiver('audio');
  room.add(new ScriptedPeer(first, sound));
  limitSending(room, { videoBitrate: 2_000_000, audioBitrate: 40_000, maxHeight: 540, maxFramerate: 24 });
  await settle();
  assert.deepEqual(encodingOf(first), { maxBitrate: 2_000_000, maxFramerate: 24, scaleResolutionDownBy: 2 });
  assert.deepEqual(encodingOf(sound), { maxBitrate: 40_000 });
  const other = room.add(new ScriptedPeer(second));
  await settle();
  assert.deepEqual([encodingOf(first).maxBitrate, encodingOf(second).maxBitrate], [1_000_000, 1_000_000]);
  room.remove(other);
  await settle();
  assert.equal(encodingOf(first).maxBitrate, 2_000_000);
});

test('a share is never too small to see, and a small video is not scaled up', async () => {
  const room = new ScriptedRoom();
  const videos = Array.from({ length: 30 }, () => createTransceiver('video', { height: 240 }));
  room.add(new ScriptedPeer(...videos));
  limitSending(room, { videoBitrate: 1_000_000, maxHeight: 720 });
  await settle();
  assert.deepEqual(encodingOf(videos[7]), { maxBitrate: 100_000, scaleResolutionDownBy: 1 });
});

test('limits are replaced, also on a new connection and for a track that is added later', async () => {
  const room = new ScriptedRoom();
  const list = [];
  const peer = new ScriptedPeer();
  peer.pc.getTransceivers = () => list;
  room.add(peer);
  const limits = limitSending(room, { videoBitrate: 900_000 });
  list.push(createTransceiver('video', { encodings: [] }));
  peer.pc.dispatchEvent(new Event('negotiationneeded'));
  await settle();
  assert.equal(encodingOf(list[0]).maxBitrate, 900_000, 'Firefox has no encodings at first');
  limits.set({ videoBitrate: 500_000 });
  await settle();
  assert.equal(encodingOf(list[0]).maxBitrate, 500_000);
  const again = createTransceiver('video');
  peer.pc = Object.assign(new EventTarget(), { signalingState: 'stable', getTransceivers: () => [again] });
  peer.emit('connection', peer.pc);
  await settle();
  assert.equal(encodingOf(again).maxBitrate, 500_000);
  limits.stop();
  const late = createTransceiver('video');
  room.add(new ScriptedPeer(late));
  await settle();
  assert.deepEqual(encodingOf(late), {});
});

test('codecs are preferred before the offer, in the given order, and the others follow', () => {
  const room = new ScriptedRoom();
  const [video, sound] = [createTransceiver('video'), createTransceiver('audio')];
  room.add(new ScriptedPeer(video, sound));
  limitSending(room, { codecs: ['av1', 'H264', 'theora'] });
  assert.deepEqual(video.preferred, ['video/AV1', 'video/H264', 'video/VP8', 'video/rtx', 'video/VP9']);
  assert.equal(sound.preferred, null, 'no codec for sound was named');
});

test('a sender that refuses its parameters, and a stopped transceiver, stop nothing else', async () => {
  const room = new ScriptedRoom();
  const [refusing, stopped, video] = ['video', 'video', 'video'].map((kind) => createTransceiver(kind));
  refusing.sender.setParameters = () => Promise.reject(new DOMException('stopped', 'InvalidStateError'));
  Object.assign(stopped, { direction: 'stopped' });
  room.add(new ScriptedPeer(refusing, stopped, video));
  limitSending(room, { videoBitrate: 900_000, codecs: ['VP9'] });
  await settle();
  assert.deepEqual([encodingOf(video).maxBitrate, stopped.preferred], [300_000, null]);
});

for (const limits of [{ videoBitrate: 0 }, { videoBitrate: -1 }, { audioBitrate: 'much' }, { maxHeight: NaN }, { maxFramerate: null }, { codecs: 'VP9' }]) {
  test(`the limits ${JSON.stringify(limits)} are refused`, () => {
    const [field] = Object.keys(limits);
    assert.throws(() => limitSending(new ScriptedRoom(), limits), { name: 'SignalingError', code: 'bad_option', field });
  });
}
