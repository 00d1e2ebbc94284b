/** The texts of the pages: all languages are complete, and no text stands anywhere else. */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';

const web = new URL('../../../web/', import.meta.url);
const LANGUAGES = ['en', 'de', 'ja'];
const read = (path) => readFileSync(new URL(path, web), 'utf8');

/** The files of the texts: page → language → texts. */
const pages = new Map();
for (const file of readdirSync(new URL('texts/', web))) {
  const [, page, code] = /^(\w+)-(\w\w)\.js$/.exec(file) ?? [];
  if (!code) continue;
  const { [code]: texts } = await import(new URL(`texts/${file}`, web));
  pages.set(page, { ...pages.get(page), [code]: texts });
}

const formsOf = (text) => (typeof text === 'string' ? { other: text } : text);
const placeholders = (text) => [...new Set(text.match(/\{\w+\}/g))].sort().join();

for (const [page, languages] of pages) {
  test(`the page ${page} has all texts with the same placeholders in all languages`, () => {
    assert.deepEqual(Object.keys(languages).sort(), [...LANGUAGES].sort());
    const keys = Object.keys(languages.en);
    for (const code of LANGUAGES) assert.deepEqual(Object.keys(languages[code]), keys, code);
    for (const key of keys) {
      const expected = placeholders(formsOf(languages.en[key]).other);
      for (const code of LANGUAGES) {
        const forms = formsOf(languages[code][key]);
        assert.equal(typeof languages[code][key], typeof languages.en[key], `${code} ${key}`);
        assert.equal(placeholders(forms.other), expected, `${code} ${key}`);
        assert.ok(Object.values(forms).every((form) => form.trim() === form && form !== ''), `${code} ${key}`);
      }
    }
  });

  test(`the texts of the page ${page} have the plurals of each language`, () => {
    for (const code of LANGUAGES) {
      const expected = new Intl.PluralRules(code).resolvedOptions().pluralCategories;
      const plurals = Object.entries(languages[code]).filter(([, text]) => typeof text !== 'string');
      for (const [key, forms] of plurals) assert.deepEqual(Object.keys(forms).sort(), [...expected].sort(), `${code} ${key}`);
    }
  });

  test(`the page ${page} uses each text, and each text that it uses exists`, () => {
    const folder = new URL(`${page}/`, web);
    const sources = readdirSync(folder).filter((file) => /\.(js|html)$/.test(file)).map((file) => read(`${page}/${file}`)).join('\n');
    const document = read(`${page}/index.html`);
    const known = new Set(Object.keys(languages.en));
    const named = [...document.matchAll(/ data-(?:text|label|placeholder)="([^"]+)"/g)].map(([, key]) => key);
    for (const key of named) assert.ok(known.has(key), key);
    // A key may be made of a prefix and a code, as in `refusal.${code}`.
    const prefixes = [...sources.matchAll(/`(\w+\.(?:\w+_)?)\$\{/g)].map(([, prefix]) => prefix);
    const isUsed = (key) => [`'${key}'`, `"${key}"`].some((quoted) => sources.includes(quoted)) || prefixes.some((prefix) => key.startsWith(prefix));
    assert.deepEqual([...known].filter((key) => !isUsed(key)), []);
  });

  test(`the page ${page} has no text outside of its texts`, () => {
    // The first two must be readable without a module, so they are there in all languages. A key has its letter.
    const document = read(`${page}/index.html`).replace(/<noscript>.*?<\/noscript>|<div id="start-problem".*?<\/div>|<kbd>.*?<\/kbd>|<!--.*?-->/gs, '');
    const literals = [...document.matchAll(/>([^<>]*\p{L}[^<>]*)</gu)].map(([, text]) => text.trim()).filter((text) => text !== 'Signalbox');
    assert.deepEqual(literals, []);
    assert.deepEqual(document.match(/ (aria-label|title|placeholder)="[^"]+"/g), null);
    // Browsers have the same names in all languages, and the names of rooms have ASCII letters only.
    const named = ['room-names.js', 'browser-name.js'];
    for (const file of readdirSync(new URL(`${page}/`, web)).filter((name) => name.endsWith('.js') && !named.includes(name))) {
      const code = read(`${page}/${file}`).replace(/\/\*.*?\*\/|^\s*\/\/.*$/gms, '');
      // An error of the code itself is for its author.
      const lines = code.split('\n').filter((line) => !/new Error\(|console\.warn\(/.test(line));
      const shown = lines.filter((line) => /(setText\(.*, |(textContent|ariaLabel) = |\b(label|description|title): )['`]\p{Lu}/u.test(line));
      const sentences = lines.flatMap((line) => line.match(/'[^'\n]*'|`[^`\n]*`/g) ?? []).filter((string) => !string.startsWith('`Bearer ') && /^.\p{Lu}\p{Ll}+ |\p{L}{2,} \p{L}{2,} \p{L}{2,}/u.test(string));
      assert.deepEqual([...shown, ...sentences], [], file);
    }
  });
}

test('each language says in all its texts that nothing else is needed without scripts', () => {
  for (const page of ['call', 'check']) {
    const document = read(`${page}/index.html`);
    const languagesOf = (part) => [...part.matchAll(/ lang="(\w\w)"/g)].map(([, code]) => code);
    const [noscript] = document.match(/<noscript>.*<\/noscript>/s);
    assert.deepEqual(languagesOf(noscript), LANGUAGES);
    for (const problem of ['page', 'webrtc']) {
      const texts = document.match(new RegExp(`<p [^>]*data-problem="${problem}".*`, 'g'));
      assert.deepEqual(languagesOf(texts.join('')), LANGUAGES);
    }
  }
});
