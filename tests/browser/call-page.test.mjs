// The pictures, the sound and the layout of the call page, as the people in a call see them.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, afterEach, before, describe, it } from 'node:test';
import { SharedBrowser, allSeeEachOther, until } from './person.mjs';
import { EmbeddedServer, TestSite } from './servers.mjs';

const KEY = randomBytes(32).toString('hex');

const SIZES = [
  { name: 'a phone', width: 390, height: 844 },
  { name: 'a phone on its side', width: 844, height: 390 },
  { name: 'a desktop', width: 1440, height: 900 },
];

/** Fingers need so much. */
const TOUCH_PIXELS = 44;

/** Two cameras, and a screen to share without a question. */
const FLAGS = ['--use-fake-device-for-media-stream=device-count=2,fps=10', '--auto-select-desktop-capture-source=Entire screen', '--use-fake-ui-for-media-stream'];

/** The visible elements as boxes. @returns {Promise<{text: string, left: number, top: number, right: number, bottom: number, width: number, height: number}[]>} */
const boxesOf = ({ page }, selector) =>
  page.evaluate((selector) => {
    const visible = [...document.querySelectorAll(selector)].filter((element) => element.checkVisibility({ visibilityProperty: true }));
    return visible.map((element) => {
      const { left, top, right, bottom, width, height } = element.getBoundingClientRect();
      return { text: element.textContent.trim(), left, top, right, bottom, width, height };
    });
  }, selector);

const overlaps = (one, other) => one.left < other.right - 1 && other.left < one.right - 1 && one.top < other.bottom - 1 && other.top < one.bottom - 1;

function assertApart(boxes) {
  for (const [index, box] of boxes.entries()) {
    for (const other of boxes.slice(index + 1)) assert.ok(!overlaps(box, other), `${JSON.stringify(box)} and ${JSON.stringify(other)} overlap`);
  }
}

/** The toolbar: each button is inside the view, large enough for a finger, and beside the others. */
async function assertUsableToolbar(person) {
  const { width, height } = person.page.viewportSize();
  const buttons = await boxesOf(person, '.toolbar button');
  assert.ok(buttons.length >= 5, `${buttons.length} buttons`);
  assertApart(buttons);
  for (const button of buttons) {
    assert.ok(button.left >= 0 && button.right <= width && button.bottom <= height, JSON.stringify(button));
    assert.ok(button.width >= TOUCH_PIXELS && button.height >= TOUCH_PIXELS, JSON.stringify(button));
  }
  assertApart([...(await boxesOf(person, '.toolbar')), ...(await boxesOf(person, '.stage-area')), ...(await boxesOf(person, '.bar'))]);
}

describe('the call page', () => {
  const site = new TestSite();
  let browser;
  let server;

  before(async () => {
    [browser, server] = await Promise.all([SharedBrowser.launch(FLAGS), EmbeddedServer.start(site, { SIGNALBOX_API_KEYS: `backend:${KEY}` })]);
  });
  after(async () => {
    await browser?.close();
    await site.close();
  });
  afterEach(async () => assert.deepEqual(await browser.closePages(), [], 'no page reports an error'));

  const join = (room, name, options) => browser.joins(server.origin, room, name, options);
  const place = ({ page }, selector) => page.getAttribute(`.tile${selector}`, 'data-place');
  const tileOf = (name) => `.tile[data-peer-id]:has(.tile-name span:text-is("${name}"))`;
  /** A button that may be in the menu. */
  const use = async ({ page }, id) => {
    if (!(await page.locator(id).isVisible())) await page.click('#more-button');
    await page.click(id);
  };

  for (const size of SIZES) {
    it(`on ${size.name}, shows one, two, three and four people without overlaps`, async () => {
      const ada = await join(`sizes-${size.width}`, 'Ada', { viewport: size });
      await ada.page.locator('#alone').waitFor();
      assert.equal(await ada.page.inputValue('#alone-link'), `${server.origin}/?room=sizes-${size.width}`);
      assert.ok((await ada.page.getAttribute('#alone-code path', 'd')).length > 1_000);
      await assertUsableToolbar(ada);
      assertApart([...(await boxesOf(ada, '#alone')), ...(await boxesOf(ada, '.tile.self')), ...(await boxesOf(ada, '.toolbar'))]);

      const others = [await join(`sizes-${size.width}`, 'Bob')];
      await allSeeEachOther(ada, ...others);
      await ada.page.locator('#alone').waitFor({ state: 'hidden' });
      const [stage] = await boxesOf(ada, '#stage');
      const [own] = await boxesOf(ada, '.tile.self');
      const [bob] = await boxesOf(ada, '.tile[data-peer-id]');
      assert.deepEqual([bob.width, bob.height], [Math.floor(stage.width), Math.floor(stage.height)], 'Bob fills the stage');
      assert.ok(own.width * own.height < stage.width * stage.height * 0.12, 'oneself is small');
      assert.ok(stage.right - own.right < 16 && stage.bottom - own.bottom < 16, 'oneself is in the corner');
      await assertUsableToolbar(ada);

      for (const name of ['Carol', 'Dave']) {
        others.push(await join(`sizes-${size.width}`, name));
        await ada.seesAndHears(others.length);
        const tiles = await boxesOf(ada, '.tile');
        assert.equal(tiles.length, others.length + 1);
        assertApart(tiles);
        assert.equal(new Set(tiles.map(({ width, height }) => `${width}×${height}`)).size, 1, 'all tiles have one size');
        const lastRow = tiles.filter(({ top }) => top === Math.max(...tiles.map((tile) => tile.top)));
        const left = Math.min(...lastRow.map((tile) => tile.left)) - stage.left;
        const right = stage.right - Math.max(...lastRow.map((tile) => tile.right));
        assert.ok(Math.abs(left - right) < 3, `the last row is centered: ${left} and ${right}`);
        await assertUsableToolbar(ada);
      }
    });

    it(`on ${size.name}, moves nothing that stands, while it loads and people come and go`, async () => {
      const ada = await browser.person({ viewport: size });
      await ada.page.addInitScript(() => {
        globalThis.shifts = [];
        new PerformanceObserver((list) => {
          for (const { value, hadRecentInput, sources } of list.getEntries()) {
            if (!hadRecentInput) globalThis.shifts.push({ value, of: sources.map(({ node }) => node?.id || node?.className || node?.nodeName) });
          }
        }).observe({ type: 'layout-shift', buffered: true });
      });
      await ada.page.goto(`${server.origin}/?room=still-${size.width}&name=Ada`);
      await ada.page.locator('.start-page[data-video]').waitFor();
      await ada.page.click('#join-button');
      await ada.page.locator('#alone').waitFor();
      const bob = await join(`still-${size.width}`, 'Bob');
      await ada.seesAndHears(1);
      const carol = await join(`still-${size.width}`, 'Carol');
      await ada.seesAndHears(2);
      for (const person of [bob, carol]) await person.page.click('#leave');
      await ada.page.locator('#alone').waitFor();
      assert.deepEqual(await ada.page.evaluate(() => globalThis.shifts), []);
    });
  }

  it('is interactive within a second', async () => {
    // The machine may have other work, so the fastest of several loads counts.
    const times = [];
    for (let load = 0; load < 5; load += 1) {
      const { page } = await browser.person();
      await page.addInitScript(() => {
        const note = () => document.documentElement?.hasAttribute('data-started') && (globalThis.startedAt ??= performance.now());
        new MutationObserver(note).observe(document, { subtree: true, attributes: true, childList: true });
      });
      await page.goto(`${server.origin}/?room=fast`);
      times.push(await page.evaluate(() => globalThis.startedAt));
    }
    assert.ok(Math.min(...times) < 1_000, `${times} ms`);
  });

  it('lets the own picture be moved to another corner, by a drag and by its button', async () => {
    const [ada, bob] = [await join('corner', 'Ada'), await join('corner', 'Bob')];
    await allSeeEachOther(ada, bob);
    const [own] = await boxesOf(ada, '.tile.self');
    await ada.page.mouse.move(own.left + 20, own.top + 20);
    await ada.page.mouse.down();
    await ada.page.mouse.move(300, 300);
    await ada.page.mouse.move(120, 150);
    await ada.page.mouse.up();
    const [stage] = await boxesOf(ada, '#stage');
    const isAt = async (horizontal, vertical) => {
      const [now] = await boxesOf(ada, '.tile.self');
      return Math.abs(now[horizontal] - stage[horizontal]) < 16 && Math.abs(now[vertical] - stage[vertical]) < 16;
    };
    assert.ok(await isAt('left', 'top'));
    await ada.page.click('.tile.self .move');
    assert.ok(await isAt('right', 'top'));
    await ada.reloads();
    await ada.seesAndHears(1);
    assert.ok(await isAt('right', 'top'), 'the corner is remembered');
  });

  it('shares a screen beside the camera, and takes it away when the browser ends it', async () => {
    const [ada, bob] = [await join('screen', 'Ada'), await join('screen', 'Bob')];
    await allSeeEachOther(ada, bob);
    await bob.page.evaluate(() => {
      const { mediaDevices } = navigator;
      const original = mediaDevices.getDisplayMedia.bind(mediaDevices);
      mediaDevices.getDisplayMedia = async (constraints) => (globalThis.sharedScreen = await original(constraints));
    });
    await bob.page.keyboard.press('s');
    const screen = ada.page.locator('.tile.screen');
    await screen.waitFor();
    await until('the screen and the camera of Bob play', async () => {
      const playing = await ada.page.evaluate(() => [...document.querySelectorAll('.tile.screen video, .tile[data-peer-id][data-video] video')].map(({ videoWidth, paused }) => videoWidth > 0 && !paused));
      return (playing.length === 2 && playing.every(Boolean)) || playing;
    });
    assert.match(await screen.innerText(), /Screen of Bob/);
    assert.deepEqual([await place(ada, '.screen'), await place(ada, '[data-peer-id]'), await place(ada, '.self')], ['main', 'strip', 'strip']);
    assert.equal(await screen.locator('video').evaluate((video) => getComputedStyle(video).objectFit), 'contain');
    assertApart(await boxesOf(ada, '.tile'));
    assert.equal(await bob.page.getAttribute('#screen-button', 'aria-pressed'), 'true');
    await bob.page.locator('#sharing').waitFor();

    // Only the browser can press its own button, so the test reports what the browser reports then.
    await bob.page.evaluate(() => {
      const [track] = globalThis.sharedScreen.getVideoTracks();
      track.stop();
      track.dispatchEvent(new Event('ended'));
    });
    await screen.waitFor({ state: 'detached' });
    await bob.page.locator('#sharing').waitFor({ state: 'hidden' });
    await ada.seesAndHears(1);
    assert.equal(await place(ada, '[data-peer-id]'), 'main');

    await bob.page.click('#screen-button');
    await screen.waitFor();
    await bob.page.click('#sharing-stop');
    await screen.waitFor({ state: 'detached' });
  });

  it('shows the latest of several screens, or the one that the person has chosen', async () => {
    const [ada, bob, carol] = [await join('screens', 'Ada'), await join('screens', 'Bob'), await join('screens', 'Carol')];
    await allSeeEachOther(ada, bob, carol);
    await bob.page.click('#screen-button');
    await ada.page.locator('.tile.screen').waitFor();
    await carol.page.click('#screen-button');
    const screenOf = (name) => ada.page.locator('.tile.screen', { hasText: `Screen of ${name}` });
    await screenOf('Carol').waitFor();
    const places = async () => [await screenOf('Bob').getAttribute('data-place'), await screenOf('Carol').getAttribute('data-place')];
    assert.deepEqual(await places(), ['strip', 'main']);
    const pin = screenOf('Bob').getByRole('button', { name: 'Show Screen of Bob large' });
    await pin.click();
    assert.deepEqual(await places(), ['main', 'strip']);
    assert.equal(await pin.getAttribute('aria-pressed'), 'true');
    await pin.click();
    assert.deepEqual(await places(), ['strip', 'main']);
  });

  it('offers a screen only to people who may share one', async () => {
    const viewer = await browser.joinsAs('viewer', `backend:${KEY}`, server.origin, 'may-share', 'Vera');
    const guest = await join('may-share', 'Gus');
    await guest.page.locator('#screen-button').waitFor();
    await viewer.sees('Gus');
    assert.equal(await viewer.page.locator('#screen-button').isVisible(), false);
    await viewer.page.keyboard.press('s');
    assert.equal(await viewer.page.locator('#sharing').isVisible(), false);
  });

  it('shows who speaks, and makes the speaker large in the speaker view', async () => {
    const [ada, bob, carol] = [await join('speaker', 'Ada'), await join('speaker', 'Bob'), await join('speaker', 'Carol')];
    await allSeeEachOther(ada, bob, carol);
    const speaks = (name) => ada.page.locator(`${tileOf(name)}[data-speaking]`).waitFor();
    await bob.toggles('audio');
    await speaks('Carol');
    await use(ada, '#layout-button');
    assert.equal(await ada.page.getAttribute('#layout-button', 'aria-pressed'), 'true');
    await ada.page.locator(`${tileOf('Carol')}[data-place=main]`).waitFor();
    await bob.toggles('audio');
    await carol.toggles('audio');
    await ada.page.locator(`${tileOf('Bob')}[data-place=main]`).waitFor();
    assertApart(await boxesOf(ada, '.tile'));
    await ada.page.locator(tileOf('Carol')).hover();
    await ada.page.getByRole('button', { name: 'Show Carol large' }).click();
    await ada.page.locator(`${tileOf('Carol')}[data-place=main]`).waitFor();
  });

  it('has lists of devices, and remembers the choice', async () => {
    const ada = await browser.person();
    const label = () => ada.page.evaluate(() => document.querySelector('#preview').srcObject?.getVideoTracks()[0]?.label);
    await ada.page.goto(`${server.origin}/?room=devices&name=Ada`);
    await until('two cameras are listed', async () => (await ada.page.locator('#start-camera option').count()) === 2);
    // The pictures of the other camera are shown, but Chromium cannot send them.
    const [sent, other] = ['fake_device_0', 'fake_device_1'];
    for (const camera of [sent, other]) {
      await ada.page.selectOption('#start-camera', { label: camera });
      await until(`the preview has ${camera}`, async () => (await label()) === camera);
    }
    await ada.page.reload();
    await until('the camera is remembered', async () => (await label()) === other);
    await until('the meter moves', () => ada.page.evaluate(() => new DOMMatrix(document.querySelector('#level').style.transform).a > 0.1));

    await ada.page.click('#join-button');
    const bob = await join('devices', 'Bob');
    await bob.hears(1);
    const sends = (camera) => ada.page.evaluate((camera) => connectionsMade.at(-1).getSenders().some(({ track }) => track?.label === camera), camera);
    await until('the call has the camera of the preview', () => sends(other));
    await use(ada, '#settings-button');
    await ada.page.selectOption('#settings-camera', { label: sent });
    await until('the call has the camera of the settings', () => sends(sent));
    await ada.page.selectOption('#settings-speaker', { index: 1 });
    await until('the sound goes to the other speaker', () => ada.page.evaluate(() => document.querySelector('.tile[data-peer-id] video').sinkId === document.querySelector('#settings-speaker').value));
    await ada.page.click('#settings-close');
    await allSeeEachOther(ada, bob);
  });

  it('has keys, except while the person types or has switched them off', async () => {
    const { page } = await join('shortcuts', 'Ada');
    const isOff = (kind) => page.evaluate((kind) => document.querySelector(`.toolbar [data-toggle=${kind}]`).hasAttribute('data-off'), kind);
    await page.keyboard.press('m');
    await until('the microphone is off', () => isOff('audio'));
    await page.keyboard.press('v');
    await until('the camera is off', () => isOff('video'));
    await page.keyboard.press('Shift+V');
    await until('the camera is on', async () => !(await isOff('video')));
    await page.keyboard.press('?');
    await page.locator('#help').waitFor();
    await page.keyboard.press('Escape');
    await page.locator('#help').waitFor({ state: 'hidden' });

    await page.click('#chat-button');
    await page.locator('#chat textarea').fill('');
    await page.keyboard.type('mvs');
    assert.equal(await page.inputValue('#chat textarea'), 'mvs');
    assert.deepEqual([await isOff('audio'), await isOff('video')], [true, false]);
    await page.keyboard.press('Escape');
    await page.click('#more-button');
    await page.click('#settings-button');
    await page.uncheck('[data-setting=shortcuts]');
    await page.click('#settings-close');
    await page.keyboard.press('m');
    assert.equal(await isOff('audio'), true);
  });

  it('is dark or light, as the system or the person wants', async () => {
    const { page } = await browser.person({ colorScheme: 'light' });
    const isLight = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).every((part) => Number(part) > 200));
    await page.goto(`${server.origin}/?room=theme`);
    await page.locator('html[data-started]').waitFor({ state: 'attached' });
    assert.equal(await isLight(), true);
    await page.click('[data-opens=settings]');
    await page.selectOption('#settings-theme', 'dark');
    assert.equal(await isLight(), false);
    await page.reload();
    await page.locator('html[data-started]').waitFor({ state: 'attached' });
    assert.equal(await isLight(), false, 'the choice is remembered');
    await page.click('[data-opens=settings]');
    await page.selectOption('#settings-theme', 'light');
    await page.emulateMedia({ colorScheme: 'dark' });
    assert.equal(await isLight(), true);
  });

  it('continues in a small window with the picture of the other person', async () => {
    const [ada, bob] = [await join('small', 'Ada'), await join('small', 'Bob')];
    await allSeeEachOther(ada, bob);
    await use(ada, '#pip-button');
    const small = (check) => ada.page.evaluate(check);
    await until('Bob plays in the small window', () => small(() => {
      const video = documentPictureInPicture.window?.document.querySelector('video');
      return video?.videoWidth > 0 && !video.paused && documentPictureInPicture.window.document.querySelector('.tile-name').textContent === 'Bob';
    }));
    assert.equal(await ada.page.getAttribute('#pip-button', 'aria-pressed'), 'true');
    await small(() => documentPictureInPicture.window.document.querySelector('[data-toggle=audio]').click());
    await bob.page.locator('.tile[data-peer-id][data-muted]').waitFor();
    await use(ada, '#pip-button');
    await until('the small window is closed', () => small(() => documentPictureInPicture.window === null));
    await until('the button says so', async () => (await ada.page.getAttribute('#pip-button', 'aria-pressed')) === 'false');
  });

  it('opens its menus inside the view', async () => {
    for (const size of SIZES) {
      const ada = await join(`menus-${size.width}`, 'Ada', { viewport: size });
      await ada.page.click('#more-button');
      const [menu, ...buttons] = [...(await boxesOf(ada, '#more')), ...(await boxesOf(ada, '#more button'))];
      assertApart(buttons);
      for (const box of [menu, ...buttons]) assert.ok(box.left >= 0 && box.top >= 0 && box.right <= size.width && box.right <= menu.right, JSON.stringify(box));
      for (const button of buttons) assert.ok(button.height >= TOUCH_PIXELS, JSON.stringify(button));
      await ada.page.keyboard.press('Escape');
      await ada.page.locator('#more').waitFor({ state: 'hidden' });
    }
  });

  it('puts the secondary tools into the menu on a phone', async () => {
    const ada = await join('menu', 'Ada', { viewport: SIZES[0] });
    assert.equal(await ada.page.locator('#people-button').isVisible(), false);
    await ada.page.click('#more-button');
    await ada.page.click('#people-button');
    await ada.page.locator('#people').waitFor();
    assert.equal(await ada.page.locator('#more').isVisible(), false);
    assert.equal(await ada.page.evaluate(() => document.activeElement.id), 'people-title');
    await ada.page.keyboard.press('Escape');
    assert.equal(await ada.page.evaluate(() => document.activeElement.id), 'more-button');
  });
});
