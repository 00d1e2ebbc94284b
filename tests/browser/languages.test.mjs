// The language of the pages: by the browser, or by a choice that is remembered; and nothing moves.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { chromium } from 'playwright-core';
import { CHROMIUM_FLAGS, until } from './person.mjs';
import { EmbeddedServer, TestSite } from './servers.mjs';

/** Runs in each page before its scripts. */
function recordShifts() {
  globalThis.shifts = [];
  new PerformanceObserver((list) => globalThis.shifts.push(...list.getEntries().map(({ value, sources }) => `${value} ${sources.map(({ node }) => node?.outerHTML.slice(0, 80))}`))).observe({ type: 'layout-shift', buffered: true });
}

describe('the language of the pages', () => {
  const site = new TestSite();
  let browser;
  let server;

  before(async () => {
    browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: CHROMIUM_FLAGS });
    server = await EmbeddedServer.start(site);
  });
  after(async () => {
    await browser?.close();
    await site.close();
  });

  const open = async (locale, path, viewport = { width: 390, height: 844 }) => {
    const context = await browser.newContext({ locale, viewport, permissions: ['camera', 'microphone'] });
    const page = await context.newPage();
    page.problems = [];
    page.on('pageerror', (error) => page.problems.push(String(error)));
    await page.addInitScript(recordShifts);
    await page.goto(`${server.origin}${path}`);
    await page.locator('html[data-started]').waitFor();
    return page;
  };
  const reads = (page, selector, text) => until(`${selector} says ${text}`, async () => (await page.locator(selector).innerText()) === text || page.locator(selector).innerText());

  for (const [locale, code, callTitle, checkTitle] of [
    ['en-GB', 'en', 'Start a call', 'Connection check'],
    ['de-AT', 'de', 'Gespräch beginnen', 'Verbindungsprüfung'],
    ['ja-JP', 'ja', '通話を始める', '接続の確認'],
    ['fr-FR', 'en', 'Start a call', 'Connection check'],
  ]) {
    it(`is ${code} for a browser in ${locale}, from the first picture on`, async () => {
      for (const [path, title] of [['/', callTitle], ['/check', checkTitle]]) {
        const page = await open(locale, path);
        await reads(page, 'h1:visible', title);
        assert.deepEqual(await page.evaluate(() => [document.documentElement.lang, document.documentElement.dir]), [code, 'ltr']);
        // Each text of the document is there.
        assert.deepEqual(await page.evaluate(() => [...document.querySelectorAll('[data-text]')].filter(({ textContent }) => textContent === '').map(({ outerHTML }) => outerHTML)), []);
        assert.deepEqual([await page.evaluate(() => globalThis.shifts), page.problems], [[], []]);
        await page.context().close();
      }
    });
  }

  it('changes at once by a choice, also in a call, and is remembered for both pages', async () => {
    const page = await open('en-US', '/?room=language&name=Ada&autojoin=1');
    await reads(page, '#alone-title', 'You are the only one here');
    await page.click('#more-button');
    await page.click('#settings-button');
    await page.selectOption('#settings-language', { label: 'Deutsch' });
    await page.click('#settings-close');
    await reads(page, '#alone-title', 'Sie sind allein hier');
    await reads(page, '#status', 'Sie sind allein hier. Senden Sie den Link der Person, mit der Sie sprechen möchten.');
    await reads(page, '.tile.self .tile-name span', 'Ada (Sie)');
    await reads(page, '#people-button', 'Personen (1)');
    await page.reload();
    await reads(page, '#alone-title', 'Sie sind allein hier');
    await page.goto(`${server.origin}/check`);
    await reads(page, 'h1', 'Verbindungsprüfung');
    assert.equal(await page.evaluate(() => document.documentElement.lang), 'de');
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  for (const [locale, text] of [['de-DE', /^Diese Seite kann keine Gespräche führen/], ['ja-JP', /^ブラウザーに WebRTC がない/], ['fr-FR', /^This page cannot make calls/]]) {
    it(`is also that of the words of a page that cannot run, in ${locale}`, async () => {
      const context = await browser.newContext({ locale });
      const page = await context.newPage();
      await page.addInitScript(() => delete globalThis.RTCPeerConnection);
      await page.goto(server.origin);
      await page.locator('#start-problem').waitFor();
      assert.match(await page.locator('#start-problem .problem:visible').innerText(), text);
      await context.close();
    });
  }
});
