// Tokens that end while people talk: nobody notices as long as there are new ones.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { Crowd, allSeeAll, until } from './people.mjs';
import { Embedded, Site } from './servers.mjs';
import { Witness } from './witness.mjs';

/** Short enough to see several ends of it, long enough for a machine that codes many pictures. */
const TTL_S = 8;

describe(`a call with tokens of ${TTL_S} seconds`, () => {
  const site = new Site();
  let crowd;
  let server;

  before(async () => {
    [crowd, server] = await Promise.all([Crowd.gather(), Embedded.start(site, { SIGNALBOX__AUTH__GUEST_TTL: `${TTL_S}s` })]);
  });
  after(async () => {
    await crowd?.close();
    await site.close();
  });
  afterEach(async () => assert.deepEqual(await crowd.disperse(), [], 'no page complains'));

  it('goes on over three of them: the same peers on the same sockets, and nobody sees anything', async () => {
    const [alice, bob] = [await crowd.joins(server.origin, 'long', 'Alice'), await crowd.joins(server.origin, 'long', 'Bob')];
    await allSeeAll(alice, bob);
    const witnesses = await Promise.all([alice, bob].map((person) => Witness.of(person)));
    await until('each has had four tokens', () => [alice, bob].every(({ tokens }) => tokens.length >= 4) || [alice.tokens.length, bob.tokens.length], 6 * TTL_S * 1000);
    await allSeeAll(alice, bob);
    for (const witness of witnesses) {
      await witness.wasNotBothered();
      witness.keptItsSocket();
    }
  });

  it('ends for one who gets no new token, and has that person back as soon as there is one', async () => {
    const [alice, bob] = [await crowd.joins(server.origin, 'refused', 'Alice'), await crowd.joins(server.origin, 'refused', 'Bob')];
    await allSeeAll(alice, bob);
    const old = bob.peerId;
    bob.expected = /status of 503/;
    await bob.page.route('**/auth/token', (route) => route.fulfill({ status: 503, body: '{"code":"unavailable"}' }));
    await alice.sees();
    assert.equal(bob.joined.length, 1);
    await bob.page.unroute('**/auth/token');
    await allSeeAll(alice, bob);
    assert.notEqual(bob.peerId, old);
  });
});
