/**
 * Prints the size of each entry point of the package, and of what a page loads later: bundled and
 * minified by esbuild, and compressed by gzip. React is not included. Run it with `npm run size`.
 */
import { readFileSync } from 'node:fs';
import { argv, stdout } from 'node:process';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const { exports, peerDependencies } = JSON.parse(readFileSync(new URL('package.json', import.meta.url), 'utf8'));

/** What `Peer` loads while two peers negotiate. */
const LATER = './src/connection-report.js';

/** @param {string} file @returns {Promise<number>} bytes, without what is loaded later */
async function sizeOf(file) {
  const entry = fileURLToPath(new URL(file, import.meta.url));
  const { outputFiles } = await build({ entryPoints: [entry], bundle: true, splitting: true, external: Object.keys(peerDependencies), minify: true, format: 'esm', target: 'es2022', write: false, outdir: 'out' });
  return gzipSync(outputFiles[0]?.contents ?? '', { level: 9 }).length;
}

/** Entry point, or what is loaded later → bytes. @returns {Promise<Map<string, number>>} */
export async function measureSizes() {
  const sizes = new Map();
  for (const [name, { default: file }] of Object.entries(exports)) sizes.set(name.replace('.', '@signalbox/client'), await sizeOf(file));
  return sizes.set('connection-report.js', await sizeOf(LATER));
}

/** A size in words, as the documents have it. @param {number} bytes */
export function inKilobytes(bytes) {
  return `${(bytes / 1024).toFixed(1)} KB`;
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, bytes] of await measureSizes()) stdout.write(`${name.padEnd(26)}${String(bytes).padStart(7)} bytes  ${inKilobytes(bytes)}\n`);
}
