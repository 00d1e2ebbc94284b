// Web sites with the examples: on the server's own origin, behind a proxy of this test, or on another
// origin.

import { existsSync, readFileSync } from 'node:fs';
import { createServer, request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { extname, join } from 'node:path';
import { repo } from './servers.mjs';

const EXAMPLES = 'clients/js/examples';

export const readExample = (name) => readFileSync(join(repo, EXAMPLES, name), 'utf8');

/** A page that runs one module and has no other content. */
const page = (script) => `<!doctype html><meta charset="utf-8"><body>${script}</body>`;

/**
 * Starts a web server that answers some paths itself: `own` gives `{ type, body }` for a path. All
 * other requests go to this port, if there is one.
 */
async function startSite(site, own, backendPort) {
  const server = createServer((request, response) => {
    const answer = own(request.url);
    if (answer) return response.writeHead(200, { 'Content-Type': `${answer.type}; charset=utf-8` }).end(answer.body);
    if (backendPort === undefined) return response.writeHead(404).end();
    const { method, url: path, headers } = request;
    const forwarded = httpRequest({ host: '127.0.0.1', port: backendPort, method, path, headers }, (upstream) => {
      response.writeHead(upstream.statusCode, upstream.headers);
      upstream.pipe(response);
    });
    forwarded.on('error', () => response.destroy());
    return request.pipe(forwarded);
  });
  server.on('upgrade', ({ method, url, rawHeaders }, socket, head) => {
    const upstream = connect(backendPort, '127.0.0.1');
    const headers = rawHeaders.map((text, index) => text + (index % 2 ? '\r\n' : ': ')).join('');
    upstream.write(`${method} ${url} HTTP/1.1\r\n${headers}\r\n`);
    upstream.write(head);
    for (const [from, to] of [[socket, upstream], [upstream, socket]]) from.on('error', () => to.destroy()).pipe(to);
  });
  const port = await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
  site.onClose(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://localhost:${port}`;
}

/** The origin of Signalbox with two more paths: `/pages/NAME.js` is a page with that example. */
export function startExampleSite(site, signalboxPort) {
  return startSite(
    site,
    (path) => {
      const [, folder, name] = /^\/(pages|examples)\/([\w-]+\.js)$/.exec(path) ?? [];
      if (folder === 'pages') return { type: 'text/html', body: page(`<script type="module" src="/examples/${name}"></script>`) };
      return folder && { type: 'text/javascript', body: readExample(name) };
    },
    signalboxPort,
  );
}

/** A site with one page, on an origin of its own. @param {() => string} markup */
export function startOtherSite(site, markup) {
  return startSite(site, (path) => (path === '/' ? { type: 'text/html', body: page(markup()) } : undefined));
}

/** The address that the pages in examples/ have. */
const SERVER = 'http://localhost:8080';

const TYPES = { '.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript' };

/**
 * The files of a folder, on an origin of their own. `edit` changes a text, and the rest goes to
 * `backendPort`.
 */
export function startFolderSite(site, folder, { edit = (text) => text, backendPort } = {}) {
  return startSite(
    site,
    (path) => {
      const file = join(folder, path === '/' ? 'index.html' : path);
      const type = TYPES[extname(file)];
      return type && existsSync(file) ? { type, body: edit(readFileSync(file, 'utf8')) } : undefined;
    },
    backendPort,
  );
}

/** Writes another address of Signalbox into a text, which names it once at most. */
export function setServer(text, origin) {
  const parts = text.split(SERVER);
  if (parts.length > 2) throw new Error(`${SERVER} is there more than once`);
  return parts.join(origin);
}
