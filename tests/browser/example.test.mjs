// The example of the client README, without a change.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { SharedBrowser, until } from './person.mjs';
import { EmbeddedServer, TestSite, repo } from './servers.mjs';

const example = readFileSync(join(repo, 'clients/js/examples/ten-lines.js'), 'utf8');

/** Returns the JavaScript code blocks that import the client. */
function codeBlocks(file) {
  const fences = readFileSync(join(repo, file), 'utf8').matchAll(/^```(?:js|javascript)\n(.*?)^```$/gms);
  return [...fences].map(([, code]) => code).filter((code) => code.includes('/client/room.js'));
}

describe('the example in ten lines', () => {
  const site = new TestSite();
  let browser;
  let server;

  before(async () => {
    [browser, server] = await Promise.all([SharedBrowser.launch(), EmbeddedServer.start(site)]);
  });
  after(async () => {
    await browser?.close();
    await site.close();
  });

  it('has ten lines', () => assert.equal(example.trimEnd().split('\n').length, 10));

  for (const file of ['README.md', 'clients/js/README.md']) {
    it(`is in ${file} byte for byte`, { skip: !existsSync(join(repo, file)) && `there is no ${file}` }, () => {
      assert.deepEqual(codeBlocks(file), [example]);
    });
  }

  it('makes a call between two pages, under the policy of the server', async () => {
    // Any document of the server works: it gives an empty body, the origin and the policy.
    const open = async () => {
      const person = await browser.person();
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
    await until('the video of Grace is removed', async () => (await ada.page.locator('video').count()) === 0);
    assert.deepEqual(await browser.closePages(), []);
  });
});
