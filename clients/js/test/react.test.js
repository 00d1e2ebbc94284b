/** The hooks, with the real React and the scripted server. */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { after, afterEach, before, beforeEach, mock, test } from 'node:test';
import { StrictMode, act, createElement } from 'react';
import { renderToString } from 'react-dom/server';
import { create } from 'react-test-renderer';
import { usePeer, useRoom } from '../src/react.js';
import { mockTime, restoreTime } from './mock-time.js';
import { BOB, CAROL, joinedFrame, peerEntry, scriptedServer } from './scripted-server.js';
import { SilentConnection, SilentStream } from './silent-rtc.js';

const camera = (id) => Object.assign(new EventTarget(), { id, kind: 'video', readyState: 'live' });

/** What is expected: Node's clock is mocked, and React recommends tests in a browser, which are in tests/browser. */
const EXPECTED_REPORT = /MockTimers|react-test-renderer is deprecated/;
const { error: report } = console;
const reports = [];
before(() => {
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true, RTCPeerConnection: SilentConnection, MediaStream: SilentStream });
  globalThis.console.error = (...parts) => EXPECTED_REPORT.test(String(parts[0])) || reports.push(parts.join(' '));
});
after(() => {
  globalThis.console.error = report;
  assert.deepEqual(reports, [], 'React reports nothing');
});
beforeEach(mockTime);
afterEach(restoreTime);

const settle = () => act(() => new Promise((resolve) => setImmediate(resolve)));

let number = 0;

/** A component that is in a room of its own, and all that it has rendered. */
async function mount({ strict = true, ...more } = {}) {
  const server = scriptedServer();
  number += 1;
  const tokens = [];
  const getToken = () => `T${tokens.push('T')}`;
  const options = { url: `http://react-${number}.example`, room: 'r', getToken, WebSocket: server.WebSocket, ...more };
  const views = [];
  const Call = (props) => {
    const view = useRoom(props);
    if (views.at(-1) !== view) views.push(view);
    return view.peers.map((peer) => createElement(Person, { key: peer.peerId, peer }));
  };
  const elementOf = (props) => (strict ? createElement(StrictMode, null, createElement(Call, props)) : createElement(Call, props));
  const arrived = server.next();
  let root;
  await act(async () => (root = create(elementOf(options))));
  const render = (changes) => act(async () => root.update(elementOf({ ...options, ...changes })));
  return { server, options, tokens, views, render, unmount: () => act(async () => root.unmount()), texts: () => [root.toJSON()].flat(), socket: () => arrived };
}

let personRenders = 0;
const personViews = new Set();
function Person({ peer }) {
  const view = usePeer(peer);
  const { name, state, streams, info, dataChannel } = view;
  personRenders += 1;
  personViews.add(view);
  return `${name} ${state} ${[...streams.keys()]} ${info.detached} ${dataChannel?.label}`;
}

/** Joins, with Bob in the room. */
async function mountInRoom(more) {
  const call = await mount(more);
  const socket = await call.socket();
  await act(async () => socket.join({ resume: 'handle.1' }));
  return { ...call, socket };
}

const states = (views) => views.map(({ state }) => state);

test('StrictMode mounts, unmounts and mounts: one join, and one leave in the end', async () => {
  const { server, socket, tokens, views, unmount, texts } = await mountInRoom();
  assert.deepEqual([tokens.length, server.sockets.length], [1, 1]);
  assert.deepEqual([states(views), texts()], [['connecting', 'connecting', 'open', 'open'], ['b connecting  false undefined']]);
  assert.deepEqual([views[0].room, views[1].room === views[3].room, views[3].room.peers.size], [null, true, 1]);
  const { room } = views.at(-1);
  await unmount();
  assert.deepEqual([room.state, (await room.left).code, socket.frames('leave').length, server.sockets.length], ['closed', 'left', 1, 1]);
});

test('without StrictMode it is the same, and a component that is mounted again joins again', async () => {
  const first = await mountInRoom({ strict: false });
  assert.equal(first.server.sockets.length, 1);
  const second = await mount({ ...first.options, strict: false });
  assert.equal(second.views.at(-1).state, 'open', 'the same room while the first one is mounted');
  assert.equal(first.server.sockets.length, 1);
  await first.unmount();
  assert.deepEqual([first.socket.frames('leave').length, second.views.at(-1).room.state], [0, 'open']);
  await second.unmount();
  assert.equal(first.socket.frames('leave').length, 1);
  const arrived = first.server.next();
  const third = await mount({ ...first.options, strict: false });
  await act(async () => (await arrived).join());
  assert.equal(third.views.at(-1).state, 'open');
  await third.unmount();
});

test('a component that is unmounted while it joins leaves nothing open', async () => {
  const { server, socket, unmount, views } = await mount();
  await socket();
  await unmount();
  mock.timers.runAll();
  await settle();
  assert.deepEqual([server.sockets.map(({ readyState }) => readyState === 1), states(views)], [[false], ['connecting', 'connecting']]);
});

test('another room is joined after the first is left; other options are no reason to leave', async () => {
  const { server, views, render, socket, unmount } = await mountInRoom();
  const before = views.length;
  await render({ getToken: () => 'U' });
  assert.deepEqual([views.length, server.sockets.length], [before, 1], 'the same view');
  const arrived = server.next();
  await render({ room: 's' });
  assert.deepEqual([socket.frames('leave').length, views.at(-1).peers.length], [1, 0]);
  await act(async () => (await arrived).join({ roomId: 's' }));
  assert.deepEqual([views.at(-1).state, views.at(-1).peers.length, server.sockets.length], ['open', 1, 2]);
  await unmount();
});

test('only a change renders, and only the peer that it is about', async () => {
  const { views, socket, unmount, texts } = await mountInRoom();
  const [bob] = [...personViews].slice(-1);
  personViews.clear();
  await act(async () => socket.deliver({ type: 'peer-joined', seq: 1, ...peerEntry(CAROL) }));
  assert.deepEqual([personViews.size, personViews.has(bob)], [2, true]);
  assert.deepEqual([texts(), views.at(-1).peers.length], [['b connecting  false undefined', 'c connecting  false undefined'], 2]);
  let [before, personsBefore] = [views.length, personRenders];
  await act(async () => socket.deliver({ type: 'message', seq: 2, from: BOB, id: 1, data: 'hello' }));
  await act(async () => socket.deliver({ type: 'ice-servers', seq: 3, iceServers: [], icePolicy: 'all' }));
  assert.deepEqual([views.length, personRenders], [before, personsBefore], 'nothing is rendered');
  await act(async () => socket.deliver({ type: 'peer-detached', seq: 4, peerId: BOB }));
  // StrictMode renders each component twice.
  assert.deepEqual([views.length, personRenders, texts()[0]], [before, personsBefore + 2, 'b connecting  true undefined']);
  [before, personsBefore] = [views.length, personRenders];
  const { room } = views.at(-1);
  const track = camera('screen');
  await act(async () => room.peers.get(BOB).pc.dispatchEvent(Object.assign(new Event('track'), { track, streams: [{ id: 'screen' }] })));
  await act(async () => room.peers.get(BOB).pc.dispatchEvent(Object.assign(new Event('datachannel'), { channel: Object.assign(new EventTarget(), { label: 'signalbox', readyState: 'open' }) })));
  assert.deepEqual([views.length, texts()[0]], [before, 'b connecting screen true signalbox']);
  await act(async () => socket.deliver({ type: 'peer-left', seq: 5, peerId: BOB, reason: 'left' }));
  assert.deepEqual([texts(), views.at(-1).peers.map(({ peerId }) => peerId)], [['c connecting  false undefined'], [CAROL]]);
  await unmount();
});

test('other media are sent in the same room, and media that come late', async () => {
  const { server, views, render, unmount } = await mountInRoom();
  const sent = () => [...views.at(-1).room.peers.get(BOB).pc.transceivers].map(({ sender }) => sender.track?.id);
  assert.deepEqual(sent(), []);
  await render({ media: new SilentStream(camera('first')) });
  await settle();
  assert.deepEqual(sent(), ['first']);
  await render({ media: new SilentStream(camera('second')) });
  await settle();
  assert.deepEqual(sent(), ['second']);
  await render({ media: null });
  await settle();
  assert.deepEqual([sent(), server.sockets.length], [[undefined], 1]);
  await unmount();
});

test('media that are there from the start are in the first description', async () => {
  const { views, unmount } = await mountInRoom({ media: new SilentStream(camera('first')) });
  await settle();
  assert.deepEqual(views.at(-1).room.peers.get(BOB).pc.transceivers.map(({ sender }) => sender.track.id), ['first']);
  await unmount();
});

test('a refusal and a wrong option are shown, and end nothing else', async () => {
  const refused = await mount();
  const socket = await refused.socket();
  await act(async () => {
    socket.open();
    socket.end(4510, 'room_full');
  });
  assert.deepEqual([states(refused.views), refused.views.at(-1).error.code], [['connecting', 'connecting', 'closed'], 'room_full']);
  await refused.unmount();
  const wrong = await mount({ room: '', media: new SilentStream(camera('first')) });
  assert.deepEqual([wrong.views.at(-1).state, wrong.views.at(-1).error.code, wrong.views.at(-1).room], ['closed', 'bad_option', null]);
  await wrong.unmount();
});

test('the lobby and a lost connection are shown with what follows', async () => {
  const { socket: arrived, views, unmount } = await mount();
  const socket = await arrived();
  await act(async () => {
    socket.open();
    socket.deliver({ ...joinedFrame({ resume: 'handle.1' }), type: 'waiting' });
  });
  assert.equal(views.at(-1).state, 'lobby');
  await act(async () => socket.deliver(joinedFrame({ resume: 'handle.1' })));
  assert.equal(views.at(-1).state, 'open');
  await act(async () => socket.end(1006));
  const { state, error, peers } = views.at(-1);
  assert.deepEqual([state, error.code, peers.length], ['waiting', 'lost', 1], 'the peers stay');
  await unmount();
});

test('a server renders the call as it is before it is joined', async () => {
  const server = scriptedServer();
  const Call = () => {
    const { room, state, peers } = useRoom({ url: 'http://react.example', room: 'r', getToken: () => 'T', WebSocket: server.WebSocket });
    return createElement('p', null, `${room} ${state} ${peers.length}`);
  };
  assert.equal(renderToString(createElement(Call)), '<p>null connecting 0</p>');
  assert.equal(server.sockets.length, 0);
});

test('the package needs React only for its hooks, and only that of the application', () => {
  const { dependencies, peerDependencies, peerDependenciesMeta } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  assert.deepEqual([dependencies, Object.keys(peerDependencies), peerDependenciesMeta], [undefined, ['react'], { react: { optional: true } }]);
  const importing = readdirSync(new URL('../src/', import.meta.url)).filter((file) => /from 'react'/.test(readFileSync(new URL(`../src/${file}`, import.meta.url), 'utf8')));
  assert.deepEqual(importing, ['react.js']);
});
