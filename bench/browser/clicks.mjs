// Click to connected, and to the first frame, in Chromium: two tabs on this machine with fake media.
// The page is on another origin than the server, or on the same. Servers and origins alternate.
//   node clicks.mjs SIGNALBOX_BINARY ROUNDS REPORT_FILE CPUS
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, request as httpRequest } from 'node:http';
import { connect } from 'node:net';
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

const ports = { signalbox: await freePort(), peerjs: await freePort() };
const rows = ['signalbox', 'peerjs'].flatMap((name) => [{ name, isSame: false }, { name, isSame: true }]);
// No server: how fast two tabs of this browser connect at all.
rows.push({ name: 'free', isSame: true });

// A site for each server. `/page/NAME/FILE` is a file of the page with the adapter of that server; any
// other path is one of the server, for a page on the same origin.
function startSite(upstream) {
  const site = createServer((request, response) => {
    const [, page, name, file] = new URL(request.url, 'http://localhost').pathname.split('/');
    if (page !== 'page') return forward(upstream, request, response);
    const paths = { 'page.html': join(here, 'page.html'), 'adapter.js': join(here, `${name}.js`) };
    paths['peerjs.min.js'] = join(here, 'node_modules/peerjs/dist/peerjs.min.js');
    if (!paths[file]) return response.writeHead(404).end();
    return response.writeHead(200, { 'Content-Type': types[file.split('.').at(-1)] }).end(readFileSync(paths[file]));
  });
  site.on('upgrade', ({ method, url, rawHeaders }, client) => {
    const server = connect({ host: '127.0.0.1', port: upstream, noDelay: true });
    const headers = rawHeaders.map((text, index) => text + (index % 2 ? '\r\n' : ': ')).join('');
    client.setNoDelay();
    server.write(`${method} ${url} HTTP/1.1\r\n${headers}\r\n`);
    for (const [from, to] of [[client, server], [server, client]]) from.on('error', () => to.destroy()).pipe(to);
  });
  return new Promise((resolve) => site.listen(0, '127.0.0.1', () => resolve(`http://localhost:${site.address().port}`)));
}

function forward(port, request, response) {
  const { method, url: path, headers } = request;
  const forwarded = httpRequest({ host: '127.0.0.1', port, method, path, headers, agent: false }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  forwarded.on('error', () => response.destroy());
  request.pipe(forwarded);
}

const sites = { signalbox: await startSite(ports.signalbox), peerjs: await startSite(ports.peerjs) };
const settings = {
  SIGNALBOX_LISTEN: `127.0.0.1:${ports.signalbox}`,
  SIGNALBOX__SERVER__ALLOWED_ORIGINS: sites.signalbox,
  SIGNALBOX__AUTH__GUESTS: 'true',
  SIGNALBOX__LOG__FILTER: 'warn',
};
const servers = {
  signalbox: await start([signalbox], settings, ports.signalbox, '/health/ready'),
  peerjs: await start(['node', join(here, 'peerjs.mjs')], { PORT: String(ports.peerjs) }, ports.peerjs, '/'),
};

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream', '--autoplay-policy=no-user-gesture-required',
    '--allow-loopback-in-peer-connection', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1',
  ],
});

async function measure({ name, isSame }, round) {
  const context = await browser.newContext();
  const site = sites[name] ?? sites.signalbox;
  const open = async (side) => {
    const page = await context.newPage();
    const query = new URLSearchParams({ server: isSame ? site : servers[name], room: `bench-${name}-${isSame}-${round}`, side });
    await page.goto(`${site}/page/${name}/page.html?${query}`);
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

const title = ({ name, isSame }) => (name === 'free' ? 'no server (two tabs)' : `${name}, ${isSame ? 'same' : 'other'} origin`);
const results = new Map(rows.map((row) => [row, []]));
try {
  for (let round = 0; round <= Number(rounds); round += 1) {
    for (const row of rows) {
      const times = await measure(row, round);
      // The first round warms the browser up.
      if (round > 0) results.get(row).push(times);
      console.log(`  ${title(row).padEnd(24)} ${round}: connected ${times.connected.toFixed(0)} ms · first frame ${times.firstFrame.toFixed(0)} ms`);
    }
  }
} finally {
  await browser.close();
  for (const child of children) child.kill('SIGKILL');
}

const cell = (row, key) => {
  const values = results.get(row).map((times) => times[key]).sort((a, b) => a - b);
  const number = (value) => value.toFixed(0);
  return `${number(values[Math.floor(values.length / 2)])} (${number(values[0])}–${number(values.at(-1))})`;
};
const lines = rows.map((row) => `| ${title(row)} | ${cell(row, 'connected')} | ${cell(row, 'firstFrame')} | ${rounds} |`);
const about =
  'Two tabs of Chromium on this machine with fake media; the page has the library and its media before the click. ' +
  'The click connects to the server, and the other tab waits there already. Each tab shows the media of the other ' +
  'from its first track on. Without a server, the two tabs exchange ' +
  'the same messages through a channel of the browser.';
writeFileSync(report, `## browser\n\n${about}\n\n| server | click to connected ms | to first frame ms | rounds |\n|---|---:|---:|---|\n${lines.join('\n')}\n`);
process.exit();
