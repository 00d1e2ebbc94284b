// The media of a Room: several videos, refused descriptions, declined data, refused ICE servers.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { AnyBrowser, BROWSERS } from './any-browser.mjs';
import { RoomPage } from './room-page.mjs';
import { until } from './person.mjs';
import { EmbeddedServer, TestSite } from './servers.mjs';

const KEY = randomBytes(32).toString('hex');

/** Runs in the page: whether new pictures of the camera of the other side arrive. */
async function receivesCamera() {
  const receiver = peer.pc.getReceivers().find(({ track }) => track === camera);
  const pictures = async () => [...(await receiver.getStats()).values()].find(({ type }) => type === 'inbound-rtp')?.framesDecoded ?? 0;
  const before = await pictures();
  await new Promise((resolve) => setTimeout(resolve, 500));
  const now = await pictures();
  return now > before || [before, now];
}

const CONFIG = `
[ice]
servers = [{ urls = ["stun:127.0.0.1:3478", "stuns:127.0.0.1:3478"] }, { urls = ["stuns:localhost:5349"] }]
[roles.guest]
permissions = ["publish", "message", "share", "data"]
[roles.speaker]
permissions = ["publish", "message"]
`;

for (const name of BROWSERS) {
  describe(`the media of a room in ${name}`, () => {
    const site = new TestSite();
    let browser;
    let server;

    before(async () => {
      const config = join(site.dir, `room-media-${name}.toml`);
      writeFileSync(config, CONFIG);
      const settings = { SIGNALBOX_API_KEYS: `backend:${KEY}`, SIGNALBOX__AUTH__GUESTS: 'true' };
      [browser, server] = await Promise.all([AnyBrowser.launch(name), EmbeddedServer.start(site, settings, ['--config', config])]);
    });
    after(async () => {
      await browser?.close();
      await site.close();
    });
    afterEach(async () => assert.deepEqual(await browser.closePages(), [], 'no page reports an error'));

    const tokenFor = async (room, user, role) => {
      const headers = { Authorization: `Basic ${Buffer.from(`backend:${KEY}`).toString('base64')}`, 'Content-Type': 'application/json' };
      const answer = await fetch(`${server.origin}/auth/token`, { method: 'POST', headers, body: JSON.stringify({ room, user, role }) });
      return (await answer.json()).token;
    };

    /** Two people with cameras, who are connected. */
    const openCall = async (room, { bobRole } = {}) => {
      const token = bobRole && (await tokenFor(room, 'bob', bobRole));
      const alice = await RoomPage.join(browser, server.origin, { room, name: 'Alice' });
      const bob = await RoomPage.join(browser, server.origin, { room, name: 'Bob', token });
      for (const one of [alice, bob]) {
        await one.isConnected();
        await one.until('the camera arrives', () => peer.stream.getVideoTracks().length === 1);
        await one.run(() => void (globalThis.camera = peer.stream.getVideoTracks()[0]));
      }
      return [alice, bob];
    };

    /** Firefox refuses the `stuns:` servers of both connections of a page. */
    const errorsOf = async (one) => (await one.run(() => errors)).filter((error) => error !== 'ice_server_refused');

    it('a refused ICE server is skipped and reported, and the call connects', async () => {
      const [alice, bob] = await openCall('ice');
      for (const one of [alice, bob]) {
        const urls = await one.run(() => peer.pc.getConfiguration().iceServers.flatMap(({ urls: some }) => some));
        const refused = await one.run(() => errors);
        const [expected, reports] = name === 'firefox' ? [['stun:127.0.0.1:3478'], 2] : [['stun:127.0.0.1:3478', 'stuns:127.0.0.1:3478', 'stuns:localhost:5349'], 0];
        assert.deepEqual([urls, refused], [expected, Array(reports).fill('ice_server_refused')]);
      }
    });

    for (const [how, start, stop, inStream = 2] of [
      ['with setTrack', () => room.setTrack('screen', picture.getVideoTracks()[0]), () => room.setTrack('screen', null), 1],
      ['with its own sender', () => void (globalThis.sender = peer.pc.addTrack(picture.getVideoTracks()[0], picture)), () => peer.pc.removeTrack(sender)],
      ['with its own transceiver, which is stopped', () => void (globalThis.screen2 = peer.pc.addTransceiver(picture.getVideoTracks()[0], { streams: [picture] })), () => screen2.stop()],
    ]) {
      it(`a screen is shown beside the camera, and leaves no dead track (${how})`, async () => {
        const [alice, bob] = await openCall(`screen-${how.length}`);
        for (let round = 0; round < 2; round++) {
          await alice.run(() => void (globalThis.picture = startPicture()));
          await alice.run(start);
          const id = inStream === 1 ? 'screen' : await alice.run(() => picture.id);
          await bob.until('the screen is shown beside the camera', async ([id, inStream]) => {
            const [first] = peer.stream.getVideoTracks();
            const isShown = peer.stream.getVideoTracks().length === inStream && first === camera && peer.streams?.get(id) !== undefined && (await shows(peer.streams.get(id))) && (await shows(peer.stream));
            return isShown || [peer.stream.getVideoTracks().length, first === camera, [...(peer.streams?.keys() ?? [])], id];
          }, [id, inStream]);
          await alice.run(stop);
          await bob.until('only the camera is left', async (id) => {
            const tracks = peer.stream.getVideoTracks();
            return (tracks.length === 1 && tracks[0] === camera && !peer.streams.has(id) && (await shows(peer.stream))) || tracks.length;
          }, id);
        }
        // The other direction uses the sections that are free.
        await bob.run(() => {
          globalThis.picture = startPicture();
          return room.setTrack('screen', picture.getVideoTracks()[0]);
        });
        await alice.until('the other screen is shown', () => peer.streams.has('screen') && peer.stream.getVideoTracks()[0] === camera);
        assert.deepEqual([await errorsOf(alice), await errorsOf(bob)], [[], []]);
      });
    }

    it('a screen with sound is told apart from the camera by its name, for a late peer too', async () => {
      const [alice, bob] = await openCall('screen-sound');
      await alice.run(async () => {
        const sound = new AudioContext().createMediaStreamDestination().stream;
        for (const track of [...startPicture().getVideoTracks(), ...sound.getAudioTracks()]) await room.setTrack('screen', track);
      });
      const carol = await RoomPage.join(browser, server.origin, { room: 'screen-sound', name: 'Carol' });
      await carol.until('Carol knows both', () => room.peers.size === 2);
      for (const one of [bob, carol]) await one.run(() => void (globalThis.peer = [...room.peers.values()].find(({ name }) => name === 'Alice')));
      for (const one of [bob, carol]) {
        await one.until('the screen has a picture and sound, and the camera has its own', () => {
          const kinds = (stream) => stream?.getTracks().map(({ kind }) => kind).sort().join();
          return (kinds(peer.streams.get('screen')) === 'audio,video' && kinds(peer.stream) === 'audio,video') || [kinds(peer.streams.get('screen')), kinds(peer.stream)];
        });
        await one.until('the screen is shown', () => shows(peer.streams.get('screen')));
      }
      await alice.run(() => room.setTrack('screen', null));
      for (const one of [bob, carol]) await one.until('only the camera is left', () => !peer.streams.has('screen') && peer.stream.getTracks().length === 2);
      assert.deepEqual([await errorsOf(alice), await errorsOf(bob), await errorsOf(carol)], [[], [], []]);
    });

    it('a connection that no restart of ICE repairs is replaced on both sides, with all tracks and data', async () => {
      const [alice, bob] = await openCall('replaced');
      const pages = [alice, bob];
      for (const page of pages) await page.run(() => room.setTrack('screen', startPicture().getVideoTracks()[0]));
      for (const page of pages) await page.until('the other screen arrives', () => peer.streams.has('screen'));
      for (const page of pages) await page.until('no negotiation is open', () => peer.pc.signalingState === 'stable');
      const arePolite = await Promise.all(pages.map((page) => page.run(() => peer.info.polite)));
      for (const page of pages) await page.run(() => void Object.assign(globalThis, { old: peer.pc, oldStream: peer.stream }));
      // The impolite side is told that each restart fails, as it is on a network that has gone.
      await pages[arePolite.indexOf(false)].run(async () => {
        Object.defineProperty(old, 'connectionState', { get: () => 'failed' });
        while (peer.pc === old) {
          old.dispatchEvent(new Event('connectionstatechange'));
          await new Promise((resolve) => setTimeout(resolve, 500));
        }
      });
      for (const page of pages) {
        await page.until('there is a new connection', () => peer.pc !== old && old.signalingState === 'closed');
        await page.isConnected();
        await page.until('camera and screen are shown', async () => {
          const isThere = peer.stream === oldStream && peer.stream.getTracks().length === 2 && peer.streams.has('screen');
          return (isThere && (await shows(peer.stream)) && (await shows(peer.streams.get('screen')))) || [peer.stream.getTracks().length, [...peer.streams.keys()]];
        });
        await page.until('the data channel is a new one', () => peer.dataChannel?.readyState === 'open' || peer.dataChannel?.readyState);
      }
      const got = bob.run(() => new Promise((resolve) => peer.dataChannel.addEventListener('message', ({ data }) => resolve(data), { once: true })));
      await alice.run(() => peer.dataChannel.send('data'));
      assert.equal(await got, 'data');
      assert.deepEqual([await errorsOf(alice), await errorsOf(bob)], [[], []]);
    });

    it('a paused page keeps its media, and is the same peer when it resumes', async () => {
      const [alice, bob] = await openCall('paused');
      const before = await bob.run(() => [room.client.peerId, room.state]);
      await bob.run(() => {
        globalThis.firstConnection = peer.pc;
        room.pause();
      });
      await alice.until('Bob is detached', () => peer.info.detached);
      for (const one of [alice, bob]) await one.until('the camera still arrives', receivesCamera);
      assert.equal(await bob.run(() => room.state), 'paused');
      await bob.run(() => room.resume());
      await alice.until('Bob is attached', () => !peer.info.detached);
      await bob.until('Bob is back', () => room.state === 'open');
      assert.deepEqual(await bob.run(() => [room.client.peerId, room.state]), before);
      for (const one of [alice, bob]) await one.until('the camera still arrives', receivesCamera);
      assert.ok(await bob.run(() => peer.pc === firstConnection), 'the connection is the same');
      assert.deepEqual([await errorsOf(alice), await errorsOf(bob)], [[], []]);
    });

    it('requests are answered, and their failures have codes', async () => {
      const [alice, bob] = await openCall('requests');
      const ask = async ([data, timeoutMs]) => {
        const { request } = await import('/client/requests.js');
        return request(peer, data, { timeoutMs }).catch(({ code }) => code);
      };
      assert.equal(await alice.run(ask, ['early', 500]), 'timeout', 'Bob does not answer yet');
      await bob.run(async () => {
        const { answerRequests } = await import('/client/requests.js');
        answerRequests(room, (data) => (data === 'fail' ? Promise.reject(new Error('inside')) : { echo: data }));
      });
      assert.deepEqual(await alice.run(ask, [{ n: 1 }, 5_000]), { echo: { n: 1 } });
      assert.equal(await alice.run(ask, ['fail', 5_000]), 'handler_failed');
      const gone = alice.run(ask, ['never', 20_000]);
      await bob.run(() => room.leave());
      assert.ok(['peer_left', 'no_such_peer', '{"echo":"never"}'].includes(await gone.then((answer) => (typeof answer === 'string' ? answer : JSON.stringify(answer)))));
    });

    it('a budget for video is shared by the peers, also by one that comes later', async () => {
      const [alice] = await openCall('budget');
      await alice.run(async () => {
        const { limitSending } = await import('/client/media.js');
        globalThis.limits = limitSending(room, { videoBitrate: 800_000, audioBitrate: 32_000, maxFramerate: 20 });
      });
      const bitrates = () => alice.run(() => [...room.peers.values()].map(({ pc }) => pc.getSenders().find(({ track }) => track?.kind === 'video')?.getParameters().encodings?.[0]?.maxBitrate ?? null));
      await until('one peer has all of it', async () => String(await bitrates()) === '800000' || String(await bitrates()));
      const carol = await RoomPage.join(browser, server.origin, { room: 'budget', name: 'Carol' });
      await carol.until('Carol is in the call', () => room.peers.size === 2 && [...room.peers.values()].every(({ state }) => state === 'connected'));
      await until('two peers share it', async () => String(await bitrates()) === '400000,400000' || String(await bitrates()));
      await carol.run(() => room.leave());
      await until('one peer has all of it again', async () => String(await bitrates()) === '800000' || String(await bitrates()));
    });

    it('without the permission `share` no second video is offered', async () => {
      const [alice, bob] = await openCall('share', { bobRole: 'speaker' });
      await bob.run(() => room.setTrack('screen', startPicture().getVideoTracks()[0]));
      await alice.run(() => room.setTrack('screen', startPicture().getVideoTracks()[0]));
      await bob.until('the screen of Alice is shown', () => peer.streams.has('screen'));
      assert.deepEqual([await errorsOf(bob), await alice.run(() => [peer.stream.getVideoTracks().length, peer.streams.has('screen')])], [[], [1, false]]);
    });

    it('a screen that Bob may not send is refused once, and then both go on', async () => {
      const [alice, bob] = await openCall('not-permitted', { bobRole: 'speaker' });
      await bob.run(() => void (globalThis.sender = peer.pc.addTrack(startPicture().getVideoTracks()[0], new MediaStream())));
      await bob.until('Bob is told', () => errors.includes('not_permitted') || [errors, offers]);
      await bob.until('the offer is rolled back', () => peer.pc.signalingState === 'stable');
      await bob.run(() => {
        peer.pc.removeTrack(sender);
        return room.setTrack('sound', new AudioContext().createMediaStreamDestination().stream.getAudioTracks()[0]);
      });
      await alice.until('the later sound of Bob arrives', () => peer.streams.get('sound')?.getAudioTracks().length === 1);
      await alice.run(() => room.setTrack('screen', startPicture().getVideoTracks()[0]));
      await bob.until('the screen of Alice is shown', () => peer.streams.has('screen'));
      assert.deepEqual([await errorsOf(bob), await errorsOf(alice)], [['not_permitted'], []]);
    });

    it('an offer that is too large is rolled back and reported once, and then both go on', async () => {
      const [alice, bob] = await openCall('too-large');
      await alice.run(() => void (globalThis.many = Array.from({ length: 60 }, () => peer.pc.addTransceiver('video'))));
      await alice.until('Alice is told', () => errors.includes('too_large') || errors);
      await alice.until('the offer is rolled back', () => peer.pc.signalingState === 'stable');

      await bob.run(() => room.setTrack('screen', startPicture().getVideoTracks()[0]));
      await alice.until('the screen of Bob is shown', () => peer.streams.has('screen'));

      await alice.run(() => {
        for (const transceiver of many) transceiver.stop();
        return room.setTrack('screen', startPicture().getVideoTracks()[0]);
      });
      await bob.until('the screen of Alice is shown', () => peer.streams.has('screen'));
      for (const one of [alice, bob]) await one.until('the camera still arrives', receivesCamera);
      assert.deepEqual([await errorsOf(alice), await errorsOf(bob)], [['too_large'], []]);
    });

    it('an answer that is too large is rolled back on both sides, and then both go on', async () => {
      const [alice, bob] = await openCall('large-answer');
      await bob.run(() => void (pads = 'answer'));
      await alice.run(() => room.setTrack('screen', startPicture().getVideoTracks()[0]));
      await bob.until('Bob is told', () => errors.includes('too_large') || errors);
      await alice.until('Alice is told', () => errors.includes('offer_refused') || errors);
      for (const one of [alice, bob]) await one.until('stable', () => peer.pc.signalingState === 'stable');
      await bob.run(() => {
        pads = '';
        return room.setTrack('screen', startPicture().getVideoTracks()[0]);
      });
      await alice.until('the screen of Bob is shown', () => peer.streams.has('screen'));
      await bob.until('the screen of Alice is shown', () => peer.streams.has('screen'));
      for (const one of [alice, bob]) await one.until('the camera still arrives', receivesCamera);
      assert.deepEqual([await errorsOf(alice), await errorsOf(bob)], [['offer_refused'], ['too_large']]);
    });

    it('a first offer that is refused is reported once, and a later one connects with data', async () => {
      const pages = [];
      for (const name of ['Alice', 'Bob']) {
        const page = await RoomPage.join(browser, server.origin, { room: 'first', name, camera: name === 'Alice', pads: 'offer' });
        pages.push(page);
      }
      const told = () => Promise.all(pages.map((page) => page.run(() => errors.includes('too_large'))));
      // Also a polite Alice: if her first offer were rolled back, Chromium would never open the channel.
      await until('each side that offers is told', async () => {
        const [alice, bob] = await told();
        return alice && (bob || (await pages[1].run(() => peer.info.polite)));
      });
      const [offerer] = pages;
      await offerer.run(() => {
        pads = '';
        return room.setTrack('screen', startPicture().getVideoTracks()[0]);
      });
      for (const page of pages) await page.isConnected();
      const other = pages.find((page) => page !== offerer);
      await other.until('the screen arrives', () => peer.streams.has('screen'));
      await offerer.until('the data channel opens', () => peer.info.polite || peer.dataChannel?.readyState === 'open');
    });

    for (const refused of ['offer', 'answer']) {
      for (const side of ['impolite', 'polite']) {
        it(`after a first ${refused} that is too large, a change of the ${side} side connects both, with data`, async () => {
          const pages = [];
          for (const name of ['Alice', 'Bob']) pages.push(await RoomPage.join(browser, server.origin, { room: `first-${refused}-${side}`, name, pads: refused }));
          for (const page of pages) await page.until('the page is told', () => errors.includes('too_large') || errors);
          for (const page of pages) await page.until('the connection can go on', () => peer.pc.signalingState === 'stable' || peer.pc.signalingState);
          const told = await Promise.all(pages.map(errorsOf));
          for (const errors of told) assert.deepEqual(errors, [...new Set(errors)], 'each refusal is reported once');

          for (const page of pages) await page.run(() => void (pads = ''));
          const arePolite = await Promise.all(pages.map((page) => page.run(() => peer.info.polite)));
          await pages[arePolite.indexOf(side === 'polite')].run(() => room.setTrack('screen', startPicture().getVideoTracks()[0]));
          for (const page of pages) await page.isConnected();
          for (const page of pages) {
            const hasScreen = arePolite[pages.indexOf(page)] !== (side === 'polite');
            await page.until('the videos of the other side arrive', (hasScreen) => (peer.stream.getVideoTracks().length === 1 && peer.streams.has('screen') === hasScreen) || [...peer.streams.keys()], hasScreen);
            await page.until('the first video shows a picture', () => shows(peer.stream));
            await page.until('the data channel opens', () => peer.dataChannel?.readyState === 'open' || peer.dataChannel?.readyState);
          }
          const got = pages[0].run(() => new Promise((resolve) => peer.dataChannel.addEventListener('message', ({ data }) => resolve(data), { once: true })));
          await pages[1].run(() => peer.dataChannel.send('data'));
          assert.equal(await got, 'data');
          assert.deepEqual(await Promise.all(pages.map(errorsOf)), told, 'no error follows');
        });
      }
    }

    it('a declined data section causes no error, whichever side offers', async () => {
      for (let round = 0; round < 3; round++) {
        const [alice, bob] = await openCall(`declined-${round}`, { bobRole: 'speaker' });
        await alice.run(() => void peer.pc.createDataChannel('extra'));
        await alice.run(() => room.setTrack('screen', startPicture().getVideoTracks()[0]));
        await bob.until('the screen of Alice is shown', () => peer.streams.has('screen'));
        for (const one of [alice, bob]) await one.isConnected();
        assert.deepEqual([await errorsOf(alice), await errorsOf(bob)], [[], []]);
        assert.ok((await alice.run(() => offers)) <= 6, 'the declined section is not offered again and again');
        await browser.closePages();
      }
    });
  });
}
