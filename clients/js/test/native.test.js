/** The client in a runtime without a page, as React Native is. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';

test('an app without any part of a browser is in a call with the parts that it injects', () => {
  const app = fileURLToPath(new URL('native-app.js', import.meta.url));
  assert.equal(execFileSync(process.execPath, [app], { encoding: 'utf8', timeout: 30_000 }), 'the call worked\n');
});
