// Compares two reports of one build, row by row, by the column with the ratio to a reference of the
// same round. Fails if more ranges are apart than chance explains.
//   node bench/compare.mjs RESULTS.md OTHER_RESULTS.md

import { readFileSync } from 'node:fs';

const RATIO = /^(\S+)(?: \((\S+)–(\S+)\))? × (\S+)$/;

/** `scenario, case: server` → the range of its ratio, and the number of rounds. */
function ratiosOf(file) {
  const rows = new Map();
  let [scenario, title] = ['', ''];
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    if (line.startsWith('## ')) scenario = line.slice(3);
    else if (line.startsWith('### ')) title = line.slice(4);
    else if (line.startsWith('| ')) {
      const [server, ...cells] = line.slice(2, -2).split(' | ');
      const ratio = cells.at(-2)?.match(RATIO);
      if (!ratio) continue;
      const [, median, low = median, high = median] = ratio;
      rows.set(`${scenario}, ${title}: ${server}`, { text: cells.at(-2), low: Number(low), high: Number(high), rounds: Number.parseInt(cells.at(-1), 10) });
    }
  }
  return rows;
}

const factorial = (n) => (n <= 1 ? 1 : n * factorial(n - 1));

/** How probable it is that all values of one run are above all of another, or below, though nothing differs. */
const chanceOf = (a, b) => (2 * factorial(a) * factorial(b)) / factorial(a + b);

const [first, second] = process.argv.slice(2).map(ratiosOf);
if (!second) throw new Error('usage: node bench/compare.mjs RESULTS.md OTHER_RESULTS.md');
const [apart, chances] = [[], []];
for (const [name, one] of first) {
  const other = second.get(name);
  if (!other) continue;
  chances.push(chanceOf(one.rounds, other.rounds));
  // The page rounds to two places.
  if (one.low > other.high + 0.005 || other.low > one.high + 0.005) apart.push(`${name}\n  ${one.text}\n  ${other.text}`);
}
const expected = chances.reduce((sum, chance) => sum + chance, 0);
const deviation = Math.sqrt(chances.reduce((sum, chance) => sum + chance * (1 - chance), 0));
const most = Math.floor(expected + 2 * deviation);
if (apart.length > 0) console.log(apart.join('\n'));
console.log(`${chances.length} ratios, ${apart.length} apart; chance explains ${expected.toFixed(1)} and up to ${most}`);
process.exitCode = chances.length === 0 || apart.length > most ? 1 : 0;
