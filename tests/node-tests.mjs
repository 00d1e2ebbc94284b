// Runs the test files of a folder, or some of them, several at once:
//   node tests/node-tests.mjs FOLDER [FILE...]
//
// Each file has its own network, processes and logs. So no two files take the same port, change the
// same address or find each other's processes. Where that is not permitted, the files run one after
// the other.

import { spawn, spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';

const UNSHARE = ['unshare', '--net', '--pid', '--fork', '--mount-proc', '--kill-child', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh'];

/** These mostly wait, so each counts as a third of a core. Any other file counts as a core. */
const MOSTLY_WAIT = ['sleep-chromium.test.mjs', 'sleep-firefox.test.mjs', 'verdicts.test.mjs', 'leaving.test.mjs'];
const THIRDS = 3;

/** These measure in seconds what a person waits for, so no other busy file runs beside them. */
const ALONE = ['trouble.test.mjs', 'two-browsers.test.mjs'];

/** These begin first, because they are the longest. */
const FIRST = [...MOSTLY_WAIT, 'check-page.test.mjs', 'resilience.test.mjs', 'room-media.test.mjs', 'example.test.mjs'];

const COUNTS = ['tests', 'suites', 'pass', 'fail', 'cancelled', 'skipped', 'todo'];

const [folder, ...chosen] = process.argv.slice(2);
const files = chosen.length > 0 ? chosen : readdirSync(folder).filter((name) => /\.test\.m?js$/.test(name)).sort();
const queue = [...FIRST.filter((name) => files.includes(name)), ...files.filter((name) => !FIRST.includes(name))];
const isIsolated = spawnSync(UNSHARE[0], [...UNSHARE.slice(1), 'true']).status === 0;
/** One third more, so that on two cores a busy file runs beside the four that mostly wait. */
const capacity = isIsolated ? availableParallelism() * THIRDS + 1 : THIRDS;
const weigh = (file) => {
  if (!isIsolated) return THIRDS;
  if (ALONE.includes(file)) return capacity - 1;
  return MOSTLY_WAIT.includes(file) ? 1 : THIRDS;
};
const began = performance.now();
const running = new Map();
const ended = [];

/** Runs one file, and prints its output when it has ended. */
async function run(file) {
  const test = [process.execPath, '--test', '--test-reporter=spec', join(folder, file)];
  const [program, ...args] = isIsolated ? [...UNSHARE, ...test] : test;
  const { SIGNALBOX_TEST_LOGS: logs } = process.env;
  const env = { ...process.env, ...(logs && { SIGNALBOX_TEST_LOGS: join(logs, file) }) };
  const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const one = { file, child, text: '', began: performance.now() };
  running.set(file, one);
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (part) => (one.text += part));
  one.status = await new Promise((resolve) => child.on('close', (code, signal) => resolve(code ?? signal)).on('error', (error) => resolve(error.code)));
  running.delete(file);
  ended.push(one);
  console.log(`\n---- ${join(folder, file)} (${Math.round((performance.now() - one.began) / 1000)} s)\n${one.text}`);
}

/** Starts each file for which there is room, and again when one has ended. */
async function runAll() {
  const promises = new Map();
  while (queue.length > 0 || promises.size > 0) {
    for (const file of [...queue]) {
      const load = [...promises.keys()].reduce((sum, other) => sum + weigh(other), 0);
      if (load + weigh(file) > capacity) continue;
      queue.splice(queue.indexOf(file), 1);
      promises.set(file, run(file).then(() => promises.delete(file)));
    }
    await Promise.race(promises.values());
  }
}

/** Prints the failures of all files again, and the sums, as node does for one file. */
function report() {
  for (const { file, text, status } of ended.filter(({ status }) => status !== 0)) {
    const failing = text.indexOf('✖ failing tests:');
    console.log(`\n✖ ${join(folder, file)} ended with ${status}\n${failing < 0 ? text.slice(-2000) : text.slice(failing)}`);
  }
  for (const count of COUNTS) {
    const found = ended.flatMap(({ text }) => [...text.matchAll(new RegExp(`^ℹ ${count} (\\d+)$`, 'gm'))]);
    console.log(`ℹ ${count} ${found.reduce((sum, [, number]) => sum + Number(number), 0)}`);
  }
  console.log(`ℹ files ${ended.length}${isIsolated ? '' : ', one after the other, because there are no namespaces'}\nℹ duration_ms ${Math.round(performance.now() - began)}`);
}

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    for (const { file, child, text } of running.values()) {
      child.kill('SIGKILL');
      console.log(`\n✖ ${join(folder, file)} had not ended at ${signal}\n${text}`);
    }
    process.exit(1);
  });
}

if (files.length === 0) console.log(`no tests in ${folder}`);
await runAll();
report();
process.exitCode = files.length > 0 && ended.every(({ status }) => status === 0) ? 0 : 1;
