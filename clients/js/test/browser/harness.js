/** The real server on a free port, and a browser with a fake camera. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const target = (profile) => fileURLToPath(new URL(`../../../../target/${profile}/signalbox`, import.meta.url));

/** The binary of the server: `SIGNALBOX_BIN`, or a release or debug build. */
export const binary = process.env.SIGNALBOX_BIN ?? [target('release'), target('debug')].find(existsSync);

export const chromiumPath = process.env.CHROMIUM ?? '/usr/bin/chromium';

const BROWSER_FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-background-networking',
  '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream',
  '--autoplay-policy=no-user-gesture-required',
  '--allow-loopback-in-peer-connection',
  // A page that the test itself serves has no address, so Chromium would block 127.0.0.1.
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

export const launchBrowser = () => chromium.launch({ executablePath: chromiumPath, args: BROWSER_FLAGS });

/** Opens a page with its own storage and camera; adds its errors and warnings to `complaints`. */
export async function openPage(browser, complaints) {
  const context = await browser.newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => message.type() === 'warning' && complaints.push(message.text()));
  return page;
}

/** Waits until the page plays this number of remote videos. */
export function waitForVideos(page, count, selector = 'video[data-peer-id]') {
  return page.waitForFunction(
    ([wanted, query]) => {
      const videos = [...document.querySelectorAll(query)];
      return videos.length === wanted && videos.every((video) => video.videoWidth > 0 && video.currentTime > 0);
    },
    [count, selector],
  );
}
