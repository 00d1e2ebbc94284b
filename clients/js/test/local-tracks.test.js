/** The sent tracks of one connection: each name has its transceiver. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { LocalTracks, nameTracks } from '../src/local-tracks.js';

let streams = 0;
before(() => {
  globalThis.MediaStream = class {
    id = `{stream-${(streams += 1)}}`;
  };
});
after(() => delete globalThis.MediaStream);

/** A connection that adds a transceiver for each track, as browsers do. */
class SendingConnection {
  transceivers = [];
  addTrack(track, stream) {
    const sender = { track, streams: [stream] };
    sender.replaceTrack = async (other) => void (sender.track = other);
    this.transceivers.push({ sender, receiver: { track: { kind: track.kind } }, direction: 'sendrecv' });
    return sender;
  }
  getTransceivers = () => this.transceivers;
}

const track = (kind, id = kind) => Object.assign(new EventTarget(), { kind, id, readyState: 'live' });
const sent = ({ transceivers }) => transceivers.map(({ direction, sender }) => `${sender.track?.id ?? 'nothing'} ${direction}`);

function createTracks(...permissions) {
  const pc = new SendingConnection();
  const granted = new Set(permissions);
  return { pc, granted, tracks: new LocalTracks(pc, (permission) => granted.has(permission), MediaStream) };
}

test('a second video does not replace the camera, and ends for the other side', async () => {
  const { pc, tracks } = createTracks('publish', 'share');
  await tracks.setTrack('audio', track('audio'));
  await tracks.setTrack('video', track('video', 'camera'));
  await tracks.setTrack('screen', track('video', 'screen'));
  assert.deepEqual(sent(pc), ['audio sendrecv', 'camera sendrecv', 'screen sendrecv']);
  await tracks.setTrack('screen', null);
  assert.deepEqual(sent(pc), ['audio sendrecv', 'camera sendrecv', 'nothing recvonly']);
  await tracks.setTrack('screen', track('video', 'again'));
  assert.deepEqual(sent(pc), ['audio sendrecv', 'camera sendrecv', 'again sendrecv'], 'the section is used again');
});

test('a camera is switched off and on without a negotiation', async () => {
  const { pc, tracks } = createTracks('publish');
  await tracks.setTrack('video', track('video'));
  await tracks.setTrack('video', null);
  assert.deepEqual(sent(pc), ['nothing sendrecv']);
});

test('a track that ends is no longer sent, unless another one has replaced it', async () => {
  const { pc, tracks } = createTracks('publish', 'share');
  const [first, second] = [track('video', 'first'), track('video', 'second')];
  await tracks.setTrack('screen', first);
  await tracks.setTrack('screen', second);
  Object.assign(first, { readyState: 'ended' }).dispatchEvent(new Event('ended'));
  assert.deepEqual(sent(pc), ['second sendrecv']);
  Object.assign(second, { readyState: 'ended' }).dispatchEvent(new Event('ended'));
  await Promise.resolve();
  assert.deepEqual(sent(pc), ['nothing recvonly']);
});

test('each permission decides about its tracks', async () => {
  for (const [permissions, expected] of [
    [['publish', 'share'], 'audio video screen sound'],
    [['publish'], 'audio video sound'],
    [['share'], ''],
    [[], ''],
  ]) {
    const { pc, granted, tracks } = createTracks('publish', 'share');
    for (const [name, kind] of [['audio', 'audio'], ['video', 'video'], ['screen', 'video'], ['sound', 'audio']]) await tracks.setTrack(name, track(kind, name));
    granted.clear();
    for (const permission of permissions) granted.add(permission);
    await tracks.applyAll();
    assert.equal(pc.transceivers.flatMap(({ sender }) => sender.track?.id ?? []).join(' '), expected, permissions.join());
    ['publish', 'share'].forEach((permission) => granted.add(permission));
    await tracks.applyAll();
    assert.deepEqual(sent(pc), ['audio sendrecv', 'video sendrecv', 'screen sendrecv', 'sound sendrecv']);
  }
});

test('a sendonly transceiver is inactive without permission', async () => {
  const { pc, granted, tracks } = createTracks('publish');
  await tracks.setTrack('video', track('video'));
  pc.transceivers[0].direction = 'sendonly';
  granted.clear();
  await tracks.applyAll();
  assert.deepEqual(sent(pc), ['nothing inactive']);
  granted.add('publish');
  await tracks.applyAll();
  assert.deepEqual(sent(pc), ['video sendonly']);
});

test('a stopped transceiver is not used again', async () => {
  const { pc, tracks } = createTracks('publish');
  await tracks.setTrack('video', track('video'));
  pc.transceivers[0].direction = 'stopped';
  await tracks.setTrack('video', track('video', 'other'));
  assert.deepEqual(sent(pc), ['video stopped', 'other sendrecv']);
});

test('a name has one track of each kind, and the other side gets them as one stream with this name', async () => {
  const { pc, tracks } = createTracks('publish', 'share');
  await tracks.setTrack('video', track('video', 'camera'));
  await tracks.setTrack('audio', track('audio', 'microphone'));
  await tracks.setTrack('screen', track('video', 'screen'));
  await tracks.setTrack('screen', track('audio', 'sound'));
  const [camera, microphone, screen, sound] = pc.transceivers.map(({ sender }) => sender.streams[0].id);
  assert.deepEqual([camera === microphone, screen === sound, camera === screen], [true, true, false]);
  const sdp = [camera, screen, sound].map((id) => `a=msid:${id} track\r\n`).join('');
  assert.equal(tracks.nameStreams(sdp), `a=msid:${camera} track\r\na=msid:screen track\r\na=msid:screen track\r\n`);
  await tracks.setTrack('screen', track('video', 'other'));
  assert.deepEqual(sent(pc), ['camera sendrecv', 'microphone sendrecv', 'other sendrecv', 'sound sendrecv']);
  await tracks.setTrack('screen', null);
  assert.deepEqual(sent(pc), ['camera sendrecv', 'microphone sendrecv', 'nothing recvonly', 'nothing recvonly']);
});

for (const name of ['', 'a screen', 'screen/video', 'x'.repeat(33)]) {
  test(`the name “${name}” is refused`, () => {
    const { tracks } = createTracks('publish', 'share');
    assert.throws(() => tracks.setTrack(name, track('video')), { code: 'bad_option', field: 'name' });
  });
}

test('the first track of each kind has the kind as its name', () => {
  const tracks = [track('video', 'a'), track('audio', 'b'), track('video', 'c'), track('audio', 'd')];
  assert.deepEqual(nameTracks(tracks).map(([name, { id }]) => [name, id]), [['video', 'a'], ['audio', 'b'], ['video-2', 'c'], ['audio-2', 'd']]);
});

test('an early connection sends its tracks once, and none without the permission', async () => {
  for (const [permissions, expected] of [[['publish'], ['microphone sendrecv', 'other camera sendrecv']], [[], ['nothing recvonly', 'nothing recvonly']]]) {
    const pc = new SendingConnection();
    const microphone = track('audio', 'microphone');
    pc.addTrack(microphone, new MediaStream());
    pc.addTrack(track('video', 'camera'), new MediaStream());
    const wanted = new Map([['audio/audio', microphone], ['video/video', track('video', 'other camera')]]);
    await new LocalTracks(pc, (permission) => permissions.includes(permission), MediaStream, wanted).applyAll();
    assert.deepEqual(sent(pc), expected);
  }
});
