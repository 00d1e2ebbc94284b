// Click to connected, and to the first frame, in Chromium: two tabs on this machine with fake media.
// The page is on another origin than the server. Servers alternate.
//   node clicks.mjs SIGNALBOX_BINARY ROUNDS REPORT_FILE CPUS
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const [signalbox, rounds, report, cpus] = process.argv.slice(2);
const here = dirname(fileURLToPath(import.meta.url));
const types = { html: 'text/html', js: 'text/javascript' };

const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

const children = [];
async function start(command, environment, port, path) {
  const options = ['--pdeathsig', 'KILL', 'taskset', '-c', cpus, ...command];
  children.push(spawn('setpriv', options, { env: { PATH: process.env.PATH, ...environment }, stdio: 'ignore' }));
  for (let tries = 0; tries < 500; tries += 1) {
    const isReady = await fetch(`http://127.0.0.1:${port}${path}`).then((answer) => answer.ok, () => false);
    if (isReady) return `http://localhost:${port}`;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`${command[0]} is not ready`);
}

// `/NAME/FILE` is a file of the page with the adapter of that server.
const site = createServer((request, response) => {
  const [, name, file] = new URL(request.url, 'http://localhost').pathname.split('/');
  const paths = { 'page.html': join(here, 'page.html'), 'adapter.js': join(here, `${name}.js`) };
  paths['peerjs.min.js'] = join(here, 'node_modules/peerjs/dist/peerjs.min.js');
  if (!paths[file]) return response.writeHead(404).end();
  return response.writeHead(200, { 'Content-Type': types[file.split('.').at(-1)] }).end(readFileSync(paths[file]));
});
await new Promise((resolve) => site.listen(0, '127.0.0.1', resolve));
const origin = `http://localhost:${site.address().port}`;

const [signalboxPort, peerjsPort] = [await freePort(), await freePort()];
const settings = {
  SIGNALBOX_LISTEN: `127.0.0.1:${signalboxPort}`,
  SIGNALBOX__SERVER__ALLOWED_ORIGINS: origin,
  SIGNALBOX__AUTH__GUESTS: 'true',
  SIGNALBOX__LOG__FILTER: 'warn',
};
const servers = {
  signalbox: await start([signalbox], settings, signalboxPort, '/health/ready'),
  peerjs: await start(['node', join(here, 'peerjs.mjs')], { PORT: String(peerjsPort) }, peerjsPort, '/'),
};

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream', '--autoplay-policy=no-user-gesture-required',
    '--allow-loopback-in-peer-connection', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1',
  ],
});

async function measure(name, round) {
  const context = await browser.newContext();
  const open = async (side) => {
    const page = await context.newPage();
    const query = new URLSearchParams({ server: servers[name], room: `bench-${name}-${round}`, side });
    await page.goto(`${origin}/${name}/page.html?${query}`);
    await page.waitForFunction(() => window.isReady);
    return page;
  };
  await open('answer');
  const page = await open('call');
  await page.click('button');
  await page.waitForFunction(() => window.times.connected && window.times.firstFrame);
  const times = await page.evaluate(() => window.times);
  await context.close();
  return times;
}

const results = { signalbox: [], peerjs: [] };
try {
  for (let round = 0; round <= Number(rounds); round += 1) {
    for (const name of Object.keys(results)) {
      const times = await measure(name, round);
      // The first round warms the browser up.
      if (round > 0) results[name].push(times);
      console.log(`  ${name.padEnd(24)} ${round}: connected ${times.connected.toFixed(0)} ms · first frame ${times.firstFrame.toFixed(0)} ms`);
    }
  }
} finally {
  await browser.close();
  for (const child of children) child.kill('SIGKILL');
  site.close();
}

const cell = (name, key) => {
  const values = results[name].map((times) => times[key]).sort((a, b) => a - b);
  const number = (value) => value.toFixed(0);
  return `${number(values[Math.floor(values.length / 2)])} (${number(values[0])}–${number(values.at(-1))})`;
};
const rows = Object.keys(results).map((name) => `| ${name} | ${cell(name, 'connected')} | ${cell(name, 'firstFrame')} | ${rounds} |`);
const about =
  'Two tabs of Chromium on this machine with fake media; the page is on another origin than the server, and has its ' +
  'media before the click. The click connects to the server, and the other tab waits there already.';
writeFileSync(report, `## browser\n\n${about}\n\n| server | click to connected ms | to first frame ms | rounds |\n|---|---:|---:|---|\n${rows.join('\n')}\n`);
