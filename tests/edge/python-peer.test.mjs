// The example of a peer in Python, as it is.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { TestSite, bin, freePort, repo } from './harness.mjs';

const python = process.env.PYTHON ?? 'python3';
const isInstalled = spawnSync(python, ['-c', 'import websockets']).status === 0;

describe('a peer in Python', { skip: !isInstalled && 'the Python package websockets is not installed' }, () => {
  const site = new TestSite();
  let url;

  before(async () => {
    const port = await freePort();
    url = `http://127.0.0.1:${port}`;
    await site.waitForPort(port, site.startProcess('signalbox', join(bin, 'signalbox'), ['--listen', `127.0.0.1:${port}`]));
  });
  after(() => site.close());

  /** Starts a peer; `next()` gives its next line. */
  const startPeer = (name) => {
    const child = spawn(python, [join(repo, 'clients/js/examples/python-peer.py'), url, 'chat', name], { stdio: ['ignore', 'pipe', 'inherit'] });
    site.onClose(() => child.kill());
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    return { next: async () => (await lines.next()).value };
  };

  it('meets another one, and both say hello', { timeout: 20_000 }, async () => {
    const [ada, bob] = [startPeer('Ada'), startPeer('Bob')];
    const heard = await Promise.all([ada.next(), bob.next()]);
    assert.match(heard[0], /^Bob says: hello to (all|you)$/);
    assert.match(heard[1], /^Ada says: hello to (all|you)$/);
  });
});
