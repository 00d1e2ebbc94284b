/** An app as in React Native: it is in a call with the parts that it injects. native.test.js runs it in a process of its own. */
import { NativeConnection, NativeStream, NativeTrack } from './native-globals.js';

const { default: assert } = await import('node:assert/strict');
const { join } = await import('../src/room.js');
const { limitSending } = await import('../src/media.js');
const { SimplePeer } = await import('../src/simple-peer.js');
const { BOB, peerEntry, scriptedServer } = await import('./scripted-server.js');

for (const name of ['window', 'document', 'navigator', 'location', 'sessionStorage', 'localStorage', 'EventTarget', 'Event', 'CustomEvent', 'MessageChannel', 'WebSocket', 'fetch', 'RTCPeerConnection', 'MediaStream', 'addEventListener', 'structuredClone', 'crypto', 'TextDecoder']) {
  assert.equal(name in globalThis, false, name);
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
const turns = async () => {
  for (let n = 0; n < 5; n += 1) await turn();
};
const kept = new Map();
const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => void kept.set(key, value), removeItem: (key) => void kept.delete(key) };
const requests = [];
const fetch = async (url, { body }) => {
  requests.push([url.href, JSON.parse(body)]);
  return { ok: true, status: 200, headers: new Map(), json: async () => ({ token: 'T' }) };
};
const server = scriptedServer();
server.onFrame = (socket, { type, id }) => id !== undefined && type !== 'leave' && socket.deliver({ type: 'ack', id, durable: true });
const media = new NativeStream([new NativeTrack('audio'), new NativeTrack('video')]);
const parts = { RTCPeerConnection: NativeConnection, MediaStream: NativeStream, WebSocket: server.WebSocket, fetch, handleStorage: { storage, key: 'call' } };
const states = [];

const arrived = server.next();
const joining = join({ url: 'https://rtc.example', room: 'r', name: 'Ada', media, ...parts, onState: ({ state }) => states.push(state) });
const socket = await arrived;
assert.deepEqual(requests, [['https://rtc.example/auth/token', { room: 'r', name: 'Ada' }]], 'a guest gets its token');
socket.join({ resume: 'handle.1', peers: [peerEntry(BOB, { polite: false })] });
const room = await joining;
const limits = limitSending(room, { videoBitrate: 500_000, codecs: ['VP8'] });
const peer = room.peers.get(BOB);
const adapter = new SimplePeer(peer);
const heard = [];
peer.on('state', (state) => heard.push(state));
peer.on('tracks', (streams) => heard.push([...streams.keys()].join()));
peer.on('error', (error) => heard.push(String(error)));
adapter.on('connect', () => heard.push('connect')).on('data', (data) => heard.push(data));

await turns();
const [offer] = socket.frames('offer');
assert.deepEqual([offer.to, offer.sdp, socket.frames('candidate').map(({ candidate }) => candidate.candidate)], [BOB, 'native offer', ['candidate:1']]);
socket.deliver({ type: 'answer', seq: 1, from: BOB, id: 1, sdp: 'their answer', re: offer.id });
socket.deliver({ type: 'candidate', seq: 2, from: BOB, id: 2, candidate: { candidate: 'candidate:2', sdpMid: '0' }, re: offer.id });
await turns();
const [pc] = NativeConnection.made;
assert.deepEqual([pc.remoteDescription, pc.candidates], [{ type: 'answer', sdp: 'their answer' }, ['candidate:2']]);

const screen = { id: 'screen' };
pc.fire('track', { track: pc.getTransceivers()[1].receiver.track, streams: [screen] });
pc.setConnectionState('connected');
pc.channel.readyState = 'open';
pc.channel.fire('open');
pc.channel.fire('message', { data: 'hello' });
assert.deepEqual(heard, ['connecting', 'screen', 'connected', 'connect', 'hello']);

// They offer, and this side answers.
socket.deliver({ type: 'offer', seq: 3, from: BOB, id: 3, sdp: 'their offer' });
await turns();
assert.deepEqual(socket.frames('answer').map(({ sdp, re }) => [sdp, re]), [['native answer', 3]]);

// The app goes to the background and comes back: AppState has no event that the client knows.
room.pause();
const again = server.next();
room.resume();
const next = await again;
assert.equal(next.protocols[1], 'resume.handle.1');
next.resume({ peers: [peerEntry(BOB, { polite: false })] });
room.client.wake();
assert.deepEqual([room.state, pc.isClosed], ['open', undefined]);
limits.stop();
room.leave();
assert.deepEqual([states, pc.isClosed, kept.size, next.frames('leave').length], [['connecting', 'open', 'paused', 'connecting', 'open', 'closed'], true, 0, 1]);
process.stdout.write('the call worked\n');
process.exit(0);
