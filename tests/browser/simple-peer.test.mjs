// Code that was written for simple-peer, with only its construction changed.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { AnyBrowser, BROWSERS } from './any-browser.mjs';
import { until } from './person.mjs';
import { EmbeddedServer, TestSite } from './servers.mjs';

/** Runs in the page: joins, and keeps the simple-peer of the other page. */
async function joinRoom([room, withCamera]) {
  const [{ join }, { SimplePeer }] = await Promise.all([import('/client/room.js'), import('/client/simple-peer.js')]);
  globalThis.SimplePeer = SimplePeer;
  globalThis.heard = [];
  globalThis.media = withCamera ? await navigator.mediaDevices.getUserMedia({ audio: true, video: true }) : undefined;
  globalThis.startScreen = () => {
    const canvas = document.createElement('canvas');
    const context = canvas.getContext('2d');
    setInterval(() => context.fillRect(0, 0, (performance.now() / 10) % canvas.width, canvas.height), 50);
    return canvas.captureStream(20);
  };
  /** As an application with simple-peer has it. */
  const useSimplePeer = (p) => {
    p.on('error', (err) => heard.push(`error ${err.message}`));
    p.on('signal', (data) => heard.push(`signal ${JSON.stringify(data)}`));
    p.on('connect', () => {
      heard.push('connect');
      p.send('whatever');
      p.send(new Uint8Array([1, 2, 3]));
    });
    p.on('data', (data) => heard.push(`data ${data instanceof Uint8Array ? [...data] : data}`));
    p.on('track', (track, stream) => heard.push(`track ${track.kind} ${stream instanceof MediaStream}`));
    p.on('stream', (stream) => {
      const video = document.createElement('video');
      video.srcObject = stream;
      video.muted = true;
      document.documentElement.append(video);
      video.play();
      stream.addEventListener('removetrack', () => stream.getTracks().length === 0 && video.remove());
    });
    p.once('close', () => heard.push(`close ${p.destroyed} ${p.connected}`));
  };
  const joined = await join({ room, url: location.origin, handleStorage: null });
  joined.on('peer', (peer) => {
    globalThis.p = new SimplePeer(peer, { stream: media });
    useSimplePeer(p);
  });
}

for (const name of BROWSERS) {
  describe(`the interface of simple-peer in ${name}`, () => {
    const site = new TestSite();
    let browser;
    let server;

    before(async () => {
      [browser, server] = await Promise.all([AnyBrowser.launch(name), EmbeddedServer.start(site)]);
    });
    after(async () => {
      await browser?.close();
      await site.close();
    });
    afterEach(async () => assert.deepEqual(await browser.closePages(), [], 'no page reports an error'));

    async function startCall(room, camera) {
      const pages = [];
      for (let n = 0; n < 2; n += 1) {
        pages.push(await browser.open(`${server.origin}/client/room.js`));
        await pages[n].evaluate(joinRoom, [room, camera]);
      }
      for (const page of pages) await until('the data is there', () => page.evaluate(() => (heard.includes('data whatever') && heard.includes('data 1,2,3')) || heard));
      return pages;
    }

    const playing = (page) => page.evaluate(() => [...document.querySelectorAll('video')].filter(({ videoWidth, currentTime }) => videoWidth > 0 && currentTime > 0).length);

    it('connects once, sends text and bytes, and closes', async () => {
      const [ada, grace] = await startCall('data', false);
      assert.deepEqual(await ada.evaluate(() => [heard, p.connected, p.destroyed, typeof p.bufferSize, SimplePeer.WEBRTC_SUPPORT]), [['connect', 'data whatever', 'data 1,2,3'], true, false, 'number', true]);
      assert.notEqual(await ada.evaluate(() => p.initiator), await grace.evaluate(() => p.initiator));
      await ada.evaluate(() => p.destroy(new Error('enough')));
      await ada.evaluate(() => p.destroy());
      assert.deepEqual(await ada.evaluate(() => heard.slice(-2)), ['error enough', 'close true false']);
      await grace.goto('about:blank');
    });

    it('has the streams, adds a second one, replaces and removes tracks', async () => {
      const [ada, grace] = await startCall('streams', true);
      for (const page of [ada, grace]) await until('the camera is shown', async () => (await playing(page)) === 1);
      assert.deepEqual(await ada.evaluate(() => heard.filter((one) => one.startsWith('track')).sort()), ['track audio true', 'track video true']);
      await ada.evaluate(() => {
        globalThis.screen2 = startScreen();
        p.addStream(screen2);
      });
      await until('the second stream is shown', async () => (await playing(grace)) === 2);
      await ada.evaluate(() => {
        const [before] = screen2.getVideoTracks();
        const [after] = startScreen().getVideoTracks();
        p.replaceTrack(before, after, screen2);
        globalThis.after = after;
      });
      assert.equal(await ada.evaluate(() => {
        try {
          p.removeTrack(screen2.getVideoTracks()[0], screen2);
          return '';
        } catch ({ code }) {
          return code;
        }
      }), 'ERR_TRACK_NOT_ADDED', 'it was replaced');
      await ada.evaluate(() => p.removeTrack(after, screen2));
      await until('only the camera is shown', async () => (await playing(grace)) === 1 || playing(grace));
      await ada.evaluate(() => p.removeTrack(media.getVideoTracks()[0], media));
      const frames = () => grace.evaluate(async () => {
        let frames;
        await new Promise((resolve) => p.getStats((_error, reports) => resolve((frames = reports.filter(({ type }) => type === 'inbound-rtp').map(({ framesDecoded = 0 }) => framesDecoded)))));
        return Math.max(...frames);
      });
      await until('no picture comes any more', async () => {
        const before = await frames();
        await new Promise((resolve) => setTimeout(resolve, 500));
        return (await frames()) === before;
      });
      assert.deepEqual(await ada.evaluate(() => heard.filter((one) => /^(error|signal|close)/.test(one))), []);
    });

    it('closes when the peer leaves', async () => {
      const [ada, grace] = await startCall('leave', false);
      await grace.goto('about:blank');
      await until('it is closed', () => ada.evaluate(() => heard.at(-1) === 'close true false' || heard));
    });
  });
}
