// Tokens that expire during a call. The call continues while there are new tokens.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { SharedBrowser, allSeeEachOther, until } from './person.mjs';
import { EmbeddedServer, TestSite } from './servers.mjs';
import { StageObserver } from './stage-observer.mjs';

/** Short enough for several renewals, and long enough for a slow machine. */
const TTL_S = 8;

describe(`a call with tokens of ${TTL_S} seconds`, () => {
  const site = new TestSite();
  let browser;
  let server;

  before(async () => {
    [browser, server] = await Promise.all([SharedBrowser.launch(), EmbeddedServer.start(site, { SIGNALBOX__AUTH__GUEST_TTL: `${TTL_S}s` })]);
  });
  after(async () => {
    await browser?.close();
    await site.close();
  });
  afterEach(async () => assert.deepEqual(await browser.closePages(), [], 'no page reports an error'));

  it('continues over three tokens with the same peers and sockets, without a visible change', async () => {
    const [alice, bob] = [await browser.joins(server.origin, 'long', 'Alice'), await browser.joins(server.origin, 'long', 'Bob')];
    await allSeeEachOther(alice, bob);
    const observers = await Promise.all([alice, bob].map((person) => StageObserver.start(person)));
    await until('each person has received four tokens', () => [alice, bob].every(({ tokens }) => tokens.length >= 4) || [alice.tokens.length, bob.tokens.length], 6 * TTL_S * 1000);
    await allSeeEachOther(alice, bob);
    for (const observer of observers) {
      await observer.assertNoHints();
      observer.assertSameSocket();
    }
  });

  it('ends for a person without a new token, and reconnects when there is one', async () => {
    const [alice, bob] = [await browser.joins(server.origin, 'refused', 'Alice'), await browser.joins(server.origin, 'refused', 'Bob')];
    await allSeeEachOther(alice, bob);
    const old = bob.peerId;
    bob.expectedProblems = /status of 503/;
    await bob.page.route('**/auth/token', (route) => route.fulfill({ status: 503, body: '{"code":"unavailable"}' }));
    await alice.sees();
    assert.equal(bob.joined.length, 1);
    await bob.page.unroute('**/auth/token');
    await allSeeEachOther(alice, bob);
    assert.notEqual(bob.peerId, old);
  });
});
