// The code in the client README with which a backend gets tokens, as it is written there.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { TestSite, bin, freePort, repo } from './harness.mjs';

const readme = readFileSync(join(repo, 'clients/js/README.md'), 'utf8');

/** The only code block in this language that contains this text. */
function codeBlock(language, text) {
  const blocks = [...readme.matchAll(/^```(\w+)\n(.*?)^```$/gms)].filter(([, name, code]) => name === language && code.includes(text));
  assert.equal(blocks.length, 1);
  return blocks[0][2];
}

const LANGUAGES = {
  'Node.js': ['node', '--input-type=module', '-e', `${codeBlock('js', 'roomToken')}\nconsole.log(await roomToken('stand-up', 'ada'));`],
  Python: ['python3', '-c', `${codeBlock('python', 'room_token')}\nprint(room_token("stand-up", "ada"))`],
};

describe('the code for backends', () => {
  const site = new TestSite();
  const secret = randomBytes(32).toString('hex');
  let url;

  before(async () => {
    const port = await freePort();
    url = `http://127.0.0.1:${port}`;
    const child = site.startProcess('signalbox', join(bin, 'signalbox'), ['--listen', `127.0.0.1:${port}`], { SIGNALBOX_API_KEYS: `shop:${secret}` });
    await site.waitForPort(port, child);
  });
  after(() => site.close());

  for (const [language, [program, ...args]] of Object.entries(LANGUAGES)) {
    it(`gets a token in ${language}`, async () => {
      const env = { PATH: process.env.PATH, SIGNALBOX_URL: url, KEY_ID: 'shop', KEY_SECRET: secret };
      const token = execFileSync(program, args, { env, encoding: 'utf8' }).trim();
      const response = await fetch(`${url}/auth/validate`, { headers: { Authorization: `Bearer ${token}` } });
      const { claims } = await response.json();
      assert.deepEqual([claims.room, claims.sub, claims.role, claims.caller], ['stand-up', 'ada', 'host', 'shop']);
    });

    it(`fails with a wrong key in ${language}`, () => {
      const env = { PATH: process.env.PATH, SIGNALBOX_URL: url, KEY_ID: 'shop', KEY_SECRET: 'wrong' };
      const { status, stdout, stderr } = spawnSync(program, args, { env, encoding: 'utf8' });
      assert.notEqual(status, 0);
      assert.equal(stdout, '');
      assert.match(stderr, /caller_unknown|401/);
    });
  }
});
