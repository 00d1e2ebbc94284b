/** Parts of the call page that need no browser. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RateLimit } from '../../../web/call/rate-limit.js';
import { splitLinks } from '../../../web/call/safe-links.js';

for (const [text, expected] of [
  ['no link', ['no link']],
  ['https://a.example', [{ address: 'https://a.example/', label: 'https://a.example' }]],
  ['see http://a.example/b, please', ['see ', { address: 'http://a.example/b', label: 'http://a.example/b' }, ', please']],
  ['(https://a.example/?q=1#x).', ['(', { address: 'https://a.example/?q=1#x', label: 'https://a.example/?q=1#x' }, ').']],
  ['これです https://a.example/x。どうぞ', ['これです ', { address: 'https://a.example/x', label: 'https://a.example/x' }, '。どうぞ']],
  ['HTTPS://A.example/', [{ address: 'https://a.example/', label: 'HTTPS://A.example/' }]],
  ['https://known.example@evil.example/', ['https://known.example@evil.example/']],
  ['javascript:alert(1) data:text/html,x ftp://a.example file:///etc', ['javascript:alert(1) data:text/html,x ftp://a.example file:///etc']],
  ['https:// https://[ https://a.example', ['https:// https://[ ', { address: 'https://a.example/', label: 'https://a.example' }]],
  ['', []],
]) {
  test(`the links in "${text}"`, () => {
    assert.deepEqual(splitLinks(text), expected);
  });
}

test('an action is allowed again when the earlier ones are old enough', () => {
  const limit = new RateLimit(2, 1_000);
  assert.deepEqual([0, 100, 200, 999, 1_000, 1_050, 1_100].map((now) => limit.allows(now)), [true, true, false, false, true, false, true]);
});
