/** The size of the main entry point has a budget, and the documents name the size that it has. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { inKilobytes, measureSizes } from '../size.js';

/**
 * Minified and compressed; `join`, `Peer` and `SignalingClient` with all that they need to connect.
 * The goal is 12,288 bytes, so this number may only become smaller.
 */
const BUDGET_BYTES = 12_920;

test('the main entry point fits into its budget', async () => {
  const sizes = await measureSizes();
  const main = sizes.get('@signalbox/client') ?? Infinity;
  assert.ok(main <= BUDGET_BYTES, `${main} of ${BUDGET_BYTES} bytes`);
  for (const [name, bytes] of sizes) assert.ok(bytes > 100, `${name} is empty`);
});

test('each size in the documents is the one that `npm run size` prints', async () => {
  const sizes = await measureSizes();
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  for (const [name, bytes] of sizes) assert.ok(readme.includes(`| \`${name}\` | ${inKilobytes(bytes)} |`), `clients/js/README.md: ${name} has ${inKilobytes(bytes)}`);
});
