// The ten lines of the client's README, run as they stand.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Crowd, until } from './people.mjs';
import { Embedded, Site, repo } from './servers.mjs';

const example = readFileSync(join(repo, 'clients/js/examples/ten-lines.js'), 'utf8');

/** The code of every fenced JavaScript block that imports the client. */
function blocks(file) {
  const fences = readFileSync(join(repo, file), 'utf8').matchAll(/^```(?:js|javascript)\n(.*?)^```$/gms);
  return [...fences].map(([, code]) => code).filter((code) => code.includes('/client/room.js'));
}

describe('the example in ten lines', () => {
  const site = new Site();
  let crowd;
  let server;

  before(async () => {
    [crowd, server] = await Promise.all([Crowd.gather(), Embedded.start(site)]);
  });
  after(async () => {
    await crowd?.close();
    await site.close();
  });

  it('has ten lines', () => assert.equal(example.trimEnd().split('\n').length, 10));

  for (const file of ['README.md', 'clients/js/README.md']) {
    it(`stands in ${file} byte for byte`, { skip: !existsSync(join(repo, file)) && `there is no ${file}` }, () => {
      assert.deepEqual(blocks(file), [example]);
    });
  }

  it('makes a call between two pages, under the policy of the server', async () => {
    // Any document of the server will do: it brings an empty body, the server's address and its policy.
    const open = async () => {
      const person = await crowd.person();
      await person.page.route('**/ten-lines.js', (route) => route.fulfill({ contentType: 'text/javascript', body: example }));
      await person.page.goto(`${server.origin}/client/index.js`);
      await person.page.addScriptTag({ url: '/ten-lines.js', type: 'module' });
      return person;
    };
    const [ada, grace] = [await open(), await open()];
    const plays = (person) =>
      until('one video plays', async () => {
        const now = await person.page.$$eval('video', (videos) => videos.map(({ videoWidth, currentTime }) => ({ videoWidth, currentTime })));
        return (now.length === 1 && now[0].videoWidth > 0 && now[0].currentTime > 0) || now;
      });
    await Promise.all([plays(ada), plays(grace)]);
    await Promise.all([ada.receives(1), grace.receives(1)]);

    await grace.page.goto('about:blank');
    await until('who left is no longer shown', async () => (await ada.page.locator('video').count()) === 0);
    assert.deepEqual(await crowd.disperse(), []);
  });
});
