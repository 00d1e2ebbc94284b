/** The sent tracks of one connection: each name has its transceiver. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { LocalTracks, nameTracks } from '../src/local-tracks.js';

before(() => (globalThis.MediaStream = class {}));
after(() => delete globalThis.MediaStream);

/** A connection that adds a transceiver for each track, as browsers do. */
class SendingConnection {
  transceivers = [];
  addTrack(track, stream) {
    const sender = { track, streams: [stream] };
    sender.replaceTrack = async (other) => void (sender.track = other);
    this.transceivers.push({ sender, kind: track.kind, direction: 'sendrecv' });
    return sender;
  }
  getTransceivers = () => this.transceivers;
}

const track = (kind, id = kind) => Object.assign(new EventTarget(), { kind, id, readyState: 'live' });
const sent = ({ transceivers }) => transceivers.map(({ direction, sender }) => `${sender.track?.id ?? 'nothing'} ${direction}`);

function createTracks(...permissions) {
  const pc = new SendingConnection();
  const granted = new Set(permissions);
  return { pc, granted, tracks: new LocalTracks(pc, (permission) => granted.has(permission)) };
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
  first.dispatchEvent(new Event('ended'));
  assert.deepEqual(sent(pc), ['second sendrecv']);
  second.dispatchEvent(new Event('ended'));
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

test('tracks of one stream are together', async () => {
  const { pc, tracks } = createTracks('publish', 'share');
  const screen = { id: 'screen' };
  await tracks.setTrack('video', track('video'));
  await tracks.setTrack('audio', track('audio'));
  await tracks.setTrack('screen', track('video'), screen);
  await tracks.setTrack('sound', track('audio'), screen);
  const streams = pc.transceivers.map(({ sender }) => sender.streams[0]);
  assert.deepEqual([streams[0] === streams[1], streams[2], streams[3]], [true, screen, screen]);
});

test('the first track of each kind has the kind as its name', () => {
  const tracks = [track('video', 'a'), track('audio', 'b'), track('video', 'c'), track('audio', 'd')];
  assert.deepEqual(nameTracks(tracks).map(([name, { id }]) => [name, id]), [['video', 'a'], ['audio', 'b'], ['c', 'c'], ['d', 'd']]);
});
