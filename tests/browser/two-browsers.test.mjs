// Chromium and Firefox in one room, each on a network of its own: video, sound and data both ways, a
// screen beside the camera, another network, and a reload.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { AnyBrowser, BROWSERS, CHROMIUM } from './any-browser.mjs';
import { until } from './person.mjs';
import { EmbeddedServer, TestSite } from './servers.mjs';
import { TwoNetworks } from './two-networks.mjs';

/** Runs in the page: joins with a fake camera, and keeps what the tests ask for in `globalThis`. */
async function joinRoom([roomName, name]) {
  const { join } = await import('/client/room.js');
  const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
  Object.assign(globalThis, { heard: [], ends: [], problems: [] });
  globalThis.room = await join({ room: roomName, name, media });
  room.on('error', ({ error }) => problems.push(String(error)));
  room.on('peer', (peer) => {
    globalThis.peer = peer;
    peer.on('closed', (reason) => ends.push(reason));
    peer.on('error', (error) => problems.push(String(error)));
    peer.on('message', (data) => heard.push(`message ${data}`));
    peer.on('datachannel', (channel) => channel.addEventListener('message', ({ data }) => heard.push(`data ${data}`)));
  });
  /** How much media of the peer has arrived: pictures of each video by the name of its stream, packets of the camera, and packets of sound. */
  globalThis.countMedia = async () => {
    const screen = peer.streams.get('screen')?.getVideoTracks()[0];
    const counts = { camera: 0, screen: 0, cameraPackets: 0, sound: 0 };
    for (const receiver of peer.pc.getReceivers()) {
      const { track } = receiver;
      const inbound = [...(await receiver.getStats()).values()].find(({ type }) => type === 'inbound-rtp');
      if (track.kind === 'audio') counts.sound += inbound?.packetsReceived ?? 0;
      else counts[track === screen ? 'screen' : 'camera'] += inbound?.framesDecoded ?? 0;
      if (track.kind === 'video' && track !== screen) counts.cameraPackets += inbound?.packetsReceived ?? 0;
    }
    return counts;
  };
  /** A moving picture in place of a screen. */
  globalThis.startScreen = () => {
    const canvas = Object.assign(document.createElement('canvas'), { width: 640, height: 360 });
    const context = canvas.getContext('2d');
    setInterval(() => context.fillRect(0, 0, (performance.now() / 10) % canvas.width, canvas.height), 50);
    return canvas.captureStream(20).getVideoTracks()[0];
  };
}

const SWITCH_MS = 5_000;

describe('Chromium and Firefox in one room', () => {
  const site = new TestSite();
  let networks;
  let server;
  const browsers = {};

  before(async () => {
    networks = await TwoNetworks.create(site);
    // Two people fill a room, so only the peer that was there before can return after a reload.
    const settings = { SIGNALBOX__LIMITS__ROOM_PEERS: '2' };
    server = await EmbeddedServer.start(site, settings);
    const published = await networks.publish(server.port);
    // For Chromium too, the page is on localhost, because only there it gets a camera without https.
    const args = [`--host-resolver-rules=MAP localhost:${server.port} ${published}`];
    browsers.chromium = await AnyBrowser.launch('chromium', { executablePath: networks.onDevice(CHROMIUM), args });
    browsers.firefox = await AnyBrowser.launch('firefox');
  });
  after(async () => {
    await Promise.all(Object.values(browsers).map((browser) => browser.close()));
    await site.close();
  });
  afterEach(async () => {
    for (const name of BROWSERS) assert.deepEqual(await browsers[name].closePages(), [], `no page of ${name} reports an error`);
  });

  const countMedia = (page) => page.evaluate(() => countMedia());

  /** Waits until each page receives more of all these kinds of media. */
  const receive = (pages, kinds, deadlineMs) =>
    Promise.all(pages.map(async (page) => {
      let last = await countMedia(page);
      const more = { camera: 0, screen: 0, cameraPackets: 0, sound: 0 };
      await until(`new ${kinds}`, async () => {
        const now = await countMedia(page);
        // A new connection begins to count again.
        for (const kind of kinds) more[kind] += now[kind] < last[kind] ? now[kind] : now[kind] - last[kind];
        last = now;
        return kinds.every((kind) => more[kind] > 2) || [more, now];
      }, deadlineMs);
    }));

  /** Each page sends a text over the data channel and through the server, and the other one gets both. */
  const exchange = async (pages, text) => {
    for (const page of pages) await until('the data channel is open', () => page.evaluate(() => peer.dataChannel?.readyState === 'open'));
    for (const page of pages) {
      await page.evaluate((text) => {
        peer.dataChannel.send(`${text} of ${room.client.self.userId}`);
        return peer.send(`${text} of ${room.client.self.userId}`);
      }, text);
    }
    for (const page of pages) {
      await until('both texts of the other one are there', () => page.evaluate((text) => {
        const expected = ['data', 'message'].map((way) => `${way} ${text} of ${peer.info.userId}`);
        return expected.every((one) => heard.includes(one)) || heard;
      }, text));
    }
  };

  /** Returns the pages of Chromium and Firefox, in this order, in a call. */
  async function startCall(room) {
    const pages = [];
    for (const name of BROWSERS) {
      const page = await browsers[name].open(`${server.origin}/client/room.js`);
      await page.evaluate(joinRoom, [room, name]);
      pages.push(page);
    }
    for (const page of pages) await until('the other one is there', () => page.evaluate(() => globalThis.peer?.state === 'connected'));
    await receive(pages, ['camera', 'sound']);
    return pages;
  }

  const problemsOf = (pages) => Promise.all(pages.map((page) => page.evaluate(() => problems)));

  it('they see and hear each other, and exchange data', async () => {
    const pages = await startCall('media');
    await exchange(pages, 'hello');
    const [first, second] = await Promise.all(pages.map(countMedia));
    await receive(pages, ['camera', 'sound']);
    console.log('# pictures and sound in Chromium, then in Firefox:', JSON.stringify([[first, second], await Promise.all(pages.map(countMedia))]));
    assert.deepEqual(await problemsOf(pages), [[], []]);
  });

  it('a screen of either one is shown beside the camera, told apart from it, and ends', async () => {
    const pages = await startCall('screen');
    for (const [sharer, viewer] of [pages, [...pages].reverse()]) {
      for (let round = 0; round < 2; round += 1) {
        const camera = await viewer.evaluate(() => peer.stream.getVideoTracks()[0].id);
        await sharer.evaluate(() => room.setTrack('screen', startScreen()));
        await until('the screen arrives', () => viewer.evaluate(() => peer.streams.has('screen')));
        await receive([viewer], ['camera', 'screen', 'sound']);
        const ids = () => viewer.evaluate(() => [peer.stream, peer.streams.get('screen')].map((stream) => (stream?.getVideoTracks() ?? []).map(({ id }) => id)));
        const [cameras, screens] = await ids();
        assert.deepEqual([cameras, screens.length, screens.includes(camera)], [[camera], 1, false]);
        await receive([sharer], ['camera', 'sound']);
        await sharer.evaluate(() => room.setTrack('screen', null));
        await until('the screen has gone', () => viewer.evaluate(() => !peer.streams.has('screen')));
        assert.deepEqual(await ids(), [[camera], []]);
        await receive(pages, ['camera', 'sound']);
      }
    }
    assert.deepEqual(await problemsOf(pages), [[], []]);
  });

  it('both share their screens at the same time', async () => {
    const pages = await startCall('screens');
    await Promise.all(pages.map((page) => page.evaluate(() => room.setTrack('screen', startScreen()))));
    for (const page of pages) await until('the other screen arrives', () => page.evaluate(() => peer.streams.has('screen')));
    await receive(pages, ['camera', 'screen', 'sound']);
    assert.deepEqual(await problemsOf(pages), [[], []]);
  });

  it('on another network the call continues in under 5 s, with the same peers and the same connection', async () => {
    const pages = await startCall('network');
    const [, firefox] = pages;
    await exchange(pages, 'before');
    const remoteAddress = () => firefox.evaluate(async () => {
      const stats = [...(await peer.pc.getStats()).values()];
      const pair = stats.find(({ type, nominated, state, selected }) => type === 'candidate-pair' && (selected || (nominated && state === 'succeeded')));
      return stats.find(({ id }) => id === pair?.remoteCandidateId)?.address;
    });
    const peerIds = () => Promise.all(pages.map((page) => page.evaluate(() => room.client.peerId)));
    const before = await peerIds();
    for (const page of pages) await page.evaluate(() => void (globalThis.firstChannel = peer.dataChannel));
    for (let round = 0; round < 2; round += 1) {
      assert.equal(await remoteAddress(), networks.address);
      networks.change();
      const began = Date.now();
      await receive(pages, ['cameraPackets', 'sound'], SWITCH_MS);
      const mediaMs = Date.now() - began;
      await until('both are connected to the server', async () => (await Promise.all(pages.map((page) => page.evaluate(() => room.state)))).every((state) => state === 'open'), SWITCH_MS);
      const serverMs = Date.now() - began;
      assert.ok(serverMs < SWITCH_MS, `${serverMs} ms`);
      // On a busy machine the next whole picture takes a browser seconds to encode and to decode.
      await receive(pages, ['camera', 'sound']);
      console.log(`# another network: media both ways after ${mediaMs} ms, signaling after ${serverMs} ms, pictures after ${Date.now() - began} ms`);
      await exchange(pages, `after change ${round}`);
      await until('the address is the new one', async () => (await remoteAddress()) === networks.address || remoteAddress());
    }
    assert.deepEqual(await peerIds(), before);
    for (const page of pages) assert.ok(await page.evaluate(() => peer.dataChannel === firstChannel && ends.length === 0), 'it is the same connection');
    assert.deepEqual(await problemsOf(pages), [[], []]);
  });

  for (const [index, name] of BROWSERS.entries()) {
    it(`${name} reloads, and is back in its place in a full room`, async () => {
      const room = `reload-${name}`;
      const pages = await startCall(room);
      const [page, other] = [pages[index], pages[1 - index]];
      const userOf = () => page.evaluate(() => room.client.self.userId);
      const before = await userOf();
      // After a lost connection Firefox delays each new one to that host, and may give up before the answer.
      const stranger = await browsers.chromium.open(`${server.origin}/client/room.js`);
      await assert.rejects(stranger.evaluate(joinRoom, [room, 'stranger']), /the room has reached its limit of peers/);
      await stranger.close();
      await page.reload();
      await page.evaluate(joinRoom, [room, name]);
      await receive(pages, ['camera', 'sound']);
      await exchange(pages, 'after the reload');
      assert.deepEqual([await userOf(), await other.evaluate(() => [ends, room.peers.size, peer.name])], [before, [['replaced'], 1, name]]);
      assert.deepEqual(await problemsOf(pages), [[], []]);
    });
  }
});
