/** The QR codes of the call page. The expected ones were made with the Python package qrcode 8.2. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { encodeQr } from '../../../web/call/qr-code.js';

const rowsOf = (text) => encodeQr(text).map((row) => row.map(Number).join(''));

test('a short text', () => {
  assert.deepEqual(rowsOf('HELLO'), `
111111101101001111111
100000100110101000001
101110100111101011101
101110101001001011101
101110101000101011101
100000101011001000001
111111101010101111111
000000001111100000000
100010111111011111001
000111001011100101111
101100101011001110010
111001000100011010000
001011100100111000110
000000001110111001011
111111101100110001010
100000100001100100010
101110101001001110101
101110100001100001011
101110100111001111000
100000100100011000000
111111101000111110101`.trim().split('\n'));
});

for (const [what, text, size, hash] of [
  ['letters of two, three and four bytes', 'ü€😀', 21, 'd1dfa735e46001c29b94191ee8e5f56c'],
  ['a link', 'http://localhost:8080/?room=jade-canal-k9pnm', 33, '4dea3716a2cdc4332adfae21b26302f2'],
  ['a link to a long room', `https://rtc.example/?room=${'a'.repeat(64)}`, 41, 'b03fc2ccf8205c0ba4251d3a773a6e43'],
  ['the version in the symbol', 'a'.repeat(107), 45, 'db9bb498dade500ad3eb1e5a3ca6c90f'],
  ['blocks of two lengths', 'a'.repeat(130), 49, '66f6537422b89ce5cf5eec6fd0763924'],
  ['a link with encoded letters', `https://meet.example.org/calls/?room=${'%C3%A9'.repeat(20)}`, 53, 'b9c6bd5b0b56a47ca9a3ce4d4833d147'],
  ['the longest text', 'a'.repeat(213), 57, '15c53ebe74e54b2f32a635ec5b999ccd'],
]) {
  test(what, () => {
    const rows = rowsOf(text);
    assert.equal(rows.length, size);
    assert.equal(createHash('sha256').update(rows.join('\n')).digest('hex').slice(0, 32), hash);
  });
}

test('a text that is too long has no code', () => assert.equal(encodeQr('a'.repeat(214)), null));
