/** The real server, on a port of its own, and a browser with a made-up camera. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const target = (profile) => fileURLToPath(new URL(`../../../../target/${profile}/signalbox`, import.meta.url));

/** The server's binary: `SIGNALBOX_BIN`, or what was built last. */
export const binary = process.env.SIGNALBOX_BIN ?? [target('release'), target('debug')].find(existsSync);

export const chromiumPath = process.env.CHROMIUM ?? '/usr/bin/chromium';

const args = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-background-networking',
  '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream',
  '--autoplay-policy=no-user-gesture-required',
  '--allow-loopback-in-peer-connection',
  // A page that the test itself fulfils has no address, and would not be let through to 127.0.0.1.
  '--disable-features=LocalNetworkAccessChecks',
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
];

export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

export async function startServer(port) {
  const child = spawn(binary, ['--listen', `127.0.0.1:${port}`], { stdio: 'ignore' });
  const exited = once(child, 'exit');
  const stop = async (signal = 'SIGTERM') => {
    child.kill(signal);
    await exited;
  };
  while (child.exitCode === null) {
    const up = await fetch(`http://127.0.0.1:${port}/`).then((response) => response.ok, () => false);
    if (up) return { stop };
    await new Promise((resolve) => setImmediate(resolve));
  }
  throw new Error(`${binary} did not start`);
}

export const launch = () => chromium.launch({ executablePath: chromiumPath, args });

/** A fresh person: own storage, own camera. Whatever the page complains about ends up in `complaints`. */
export async function person(browser, complaints) {
  const context = await browser.newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => message.type() === 'warning' && complaints.push(message.text()));
  return page;
}

/** Waits until the page plays so many remote pictures that move. */
export function seesOthers(page, count, selector = 'video[data-peer-id]') {
  return page.waitForFunction(
    ([wanted, query]) => {
      const videos = [...document.querySelectorAll(query)];
      return videos.length === wanted && videos.every((video) => video.videoWidth > 0 && video.currentTime > 0);
    },
    [count, selector],
  );
}
