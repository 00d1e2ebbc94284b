/** The supported browsers: one list for the linter, the documents and the page. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Linter } from 'eslint';
import { SUPPORTED_BROWSERS, supportedBrowsers } from '../supported-browsers.js';

const linter = new Linter();
const config = { plugins: { signalbox: { rules: { supported: supportedBrowsers } } }, rules: { 'signalbox/supported': 'error' }, languageOptions: { ecmaVersion: 2022, sourceType: 'module' } };
const complaints = (code) => linter.verify(code, config).map(({ message }) => message.split(' ')[0]);

test('what a supported browser lacks is found, and what all have is not', () => {
  for (const code of ['URL.canParse', 'AbortSignal.timeout', 'AbortSignal.any', 'Promise.withResolvers', 'CompressionStream', 'navigator.userActivation', 'Object.groupBy', 'globalThis.navigation', 'document.startViewTransition']) {
    assert.deepEqual(complaints(`${code}(1);`), [code]);
  }
  for (const code of ['new URL(1)', 'new AbortController()', 'structuredClone(1)', 'crypto.getRandomValues(1)', 'navigator.mediaDevices', 'Object.hasOwn(1)', 'performance.now()', 'document.querySelector(1)', 'globalThis.location']) {
    assert.deepEqual(complaints(`${code};`), []);
  }
});

test('all texts name the same browsers', () => {
  const { chrome, firefox, safari } = SUPPORTED_BROWSERS;
  const expected = `Chrome or Edge ${chrome}, Firefox ${firefox}, Safari ${safari}`;
  const read = (file) => readFileSync(new URL(file, import.meta.url), 'utf8');
  assert.ok(read('../README.md').replace(/\s+/g, ' ').includes(expected));
  for (const page of ['call', 'check']) {
    const texts = [...read(`../../../web/${page}/index.html`).matchAll(/ data-problem="[^>]*>([^<]+)/g)].map(([, text]) => text);
    assert.ok(texts.length >= 6, page);
    // Each language joins the first two names with its own word.
    for (const text of texts) assert.match(text, new RegExp(`Chrome (or|oder|または) ${expected.slice('Chrome or '.length).replaceAll(/[, ]+/g, '[, 、]+')}`));
  }
});
