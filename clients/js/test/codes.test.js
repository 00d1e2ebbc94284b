import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { CLOSE_CODES, ERROR_CODES, LOCAL_CODES, explain } from '../src/codes.js';
import { SignalingError, isRetryable, parseClose } from '../src/signaling-error.js';

const protocol = readFileSync(new URL('../../../docs/PROTOCOL.md', import.meta.url), 'utf8');
const section = (title) => protocol.split(/^#{2,3} /m).find((part) => part.startsWith(title));

test('the close codes are exactly those of the protocol document', () => {
  const rows = [...section('6.').matchAll(/^\| (\d{4}) \| `([a-z_]+)`/gm)].map(([, code, reason]) => [code, reason]);
  assert.ok(rows.length > 10);
  assert.deepEqual(Object.entries(CLOSE_CODES), rows);
});

test('the error codes are exactly those of the protocol document', () => {
  const rows = section('5.1').split('\n').filter((line) => line.startsWith('| `'));
  const codes = rows.flatMap((row) => [...row.split('|')[1].matchAll(/`([a-z_]+)`/g)].map(([, code]) => code));
  assert.deepEqual([...ERROR_CODES].sort(), codes.sort());
});

test('4000 to 4499 and the codes of a lost server are retryable, and all others are final', () => {
  for (const code of [4000, 4006, 4499, 1001, 1006, 1011, 1012, 1013]) assert.ok(isRetryable(code), String(code));
  for (const code of [1000, 1002, 1003, 1008, 3000, 3999, 4500, 4512, 4999, 5000]) assert.ok(!isRetryable(code), String(code));
});

test('a close reason has a code and an optional wait', () => {
  assert.deepEqual(parseClose(4005, 'unavailable;500'), { code: 'unavailable', retryMs: 500 });
  assert.deepEqual(parseClose(4000, 'going_away'), { code: 'going_away', retryMs: 0 });
  assert.deepEqual(parseClose(1001, ''), { code: 'lost', retryMs: 1000 });
  assert.deepEqual(parseClose(1006, ''), { code: 'lost', retryMs: 0 });
  assert.deepEqual(parseClose(1011, 'Some Proxy;soon'), { code: 'lost', retryMs: 0 });
});

test('an error knows whether the same request may succeed later', () => {
  assert.ok(new SignalingError('unavailable').retryable);
  assert.ok(!new SignalingError('no_such_peer').retryable);
  assert.ok(new SignalingError('overloaded', '', { status: 503 }).retryable);
  assert.ok(!new SignalingError('guests_off', '', { status: 401 }).retryable);
  assert.ok(!new SignalingError('room_full', '', { closeCode: 4510 }).retryable);
});

/** The codes that the modules of this client give to an error. */
function createdCodes() {
  const folder = new URL('../src/', import.meta.url);
  const texts = readdirSync(folder).filter((name) => name.endsWith('.js') && name !== 'codes.js').map((name) => readFileSync(new URL(name, folder), 'utf8'));
  const patterns = [/new SignalingError\(\s*'([a-z_]+)'/g, /fail\('([a-z_]+)'/g, /drop\('([a-z_]+)'/g, /\['(un[a-z_]+)', /g, /code: '([a-z_]+)', message/g];
  const codes = texts.flatMap((text) => patterns.flatMap((pattern) => [...text.matchAll(pattern)].map(([, code]) => code)));
  // These are codes of the protocol too.
  return new Set(codes.filter((code) => !ERROR_CODES.includes(code) && !Object.values(CLOSE_CODES).includes(code)));
}

test('each code that this client creates has its advice, and is in the README', () => {
  const codes = createdCodes();
  assert.ok(codes.size > 15, String(codes.size));
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  for (const code of codes) {
    assert.ok(LOCAL_CODES.includes(code), `${code} is not in LOCAL_CODES`);
    const text = explain(new SignalingError(code, 'It happened.'));
    assert.match(text, /^It happened\. [A-Z].*\.$/, code);
  }
  for (const code of LOCAL_CODES) assert.ok(readme.includes(`\`${code}\``), `README.md does not name ${code}`);
});

test('an error of the server is explained by its own message', () => {
  assert.equal(explain(new SignalingError('room_full', 'The room has as many peers as it takes.')), 'The room has as many peers as it takes.');
});
