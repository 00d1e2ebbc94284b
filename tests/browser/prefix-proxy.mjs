// A proxy that serves Signalbox under a path prefix, and may replace single files.

import { createServer, request as httpRequest } from 'node:http';
import { connect } from 'node:net';

/**
 * @param {import('./servers.mjs').TestSite} site
 * @param {number} port of Signalbox
 * @param {string} prefix such as `/calls`
 * @param {Record<string, string | null>} [replaced] path below the prefix, without the hash of its
 *   content → script; null is a 404
 * @returns {Promise<{ address: string, outside: string[], inside: string[] }>} the address of the page, and the
 *   paths outside and below the prefix that were requested
 */
export async function startPrefixProxy(site, port, prefix, replaced = {}) {
  const [seen, inside] = [[], []];
  const server = createServer((request, response) => {
    const path = request.url.startsWith(`${prefix}/`) ? request.url.slice(prefix.length) : undefined;
    if (path === undefined) {
      seen.push(request.url);
      return response.writeHead(404).end();
    }
    inside.push(path);
    const body = replaced[path.replace(/-[0-9a-f]{16}(?=\.\w+$)/, '')];
    if (body === null) return response.writeHead(404).end();
    if (body !== undefined) return response.writeHead(200, { 'Content-Type': 'text/javascript' }).end(body);
    const { method, headers } = request;
    const forwarded = httpRequest({ host: '127.0.0.1', port, method, path, headers }, (upstream) => {
      response.writeHead(upstream.statusCode, upstream.headers);
      upstream.pipe(response);
    });
    forwarded.on('error', () => response.destroy());
    return request.pipe(forwarded);
  });
  server.on('upgrade', ({ method, url, rawHeaders }, socket) => {
    const upstream = connect(port, '127.0.0.1');
    const headers = rawHeaders.map((text, index) => text + (index % 2 ? '\r\n' : ': ')).join('');
    upstream.write(`${method} ${url.slice(prefix.length)} HTTP/1.1\r\n${headers}\r\n`);
    for (const [from, to] of [[socket, upstream], [upstream, socket]]) from.on('error', () => to.destroy()).pipe(to);
  });
  const own = await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
  site.onClose(() => {
    server.closeAllConnections();
    server.close();
  });
  return { address: `http://localhost:${own}${prefix}/`, outside: seen, inside };
}
