// The client that a server offers: every site may load it, one file and the npm package work, and
// the binary and the edge serve the same bytes.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { Agent, get as httpGet } from 'node:http';
import { connect } from 'node:http2';
import { join, relative } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { TestSite, bin, freePort, repo } from './harness.mjs';

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.js': 'text/javascript; charset=utf-8',
  '.ts': 'application/typescript; charset=utf-8',
  '.tgz': 'application/gzip',
};
const typeOf = (path) => TYPES[path.slice(path.lastIndexOf('.'))];

/** All files below a folder, as paths below it, sorted. */
function filesBelow(folder) {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return files.map((entry) => relative(folder, join(entry.parentPath ?? entry.path, entry.name))).sort();
}

/** Runs a program without a network configuration of npm. There is no registry, and npm asks for the optional React of the package. */
function run(folder, program, ...args) {
  const env = { PATH: process.env.PATH, HOME: folder, npm_config_cache: join(folder, '.npm'), npm_config_fetch_retries: '0', npm_config_audit: 'false', npm_config_fund: 'false', npm_config_update_notifier: 'false' };
  return execFileSync(program, args, { cwd: folder, encoding: 'utf8', env });
}

describe('the files under /client/', () => {
  const site = new TestSite();
  const pages = join(site.dir, 'pages');
  const client = join(pages, 'client');
  const servers = {};
  let origin;

  before(async () => {
    execFileSync(join(bin, 'signalbox'), ['pages', pages]);
    const port = await freePort();
    origin = `http://127.0.0.1:${port}`;
    await site.waitForPort(port, site.startProcess('signalbox', join(bin, 'signalbox'), ['--listen', `127.0.0.1:${port}`]));
    const upstream = await site.startUpstream((_, response) => response.end());
    servers.edge = await site.startEdge({ signal: [upstream.port], auth: [upstream.port] });
    servers.binary = {
      request: async (path, options) => {
        const response = await fetch(origin + path, options);
        return { status: response.status, headers: Object.fromEntries(response.headers), bytes: Buffer.from(await response.arrayBuffer()) };
      },
    };
  });
  after(() => site.close());

  const folder = (name) => {
    const path = join(site.dir, name);
    mkdirSync(path);
    return path;
  };

  it('contain the modules, one file, its types and the package', () => {
    const modules = filesBelow(join(repo, 'clients/js/src'));
    const texts = [...modules, 'signalbox.d.ts', 'signalbox.js'];
    assert.deepEqual(filesBelow(client), [...texts, ...texts.map((name) => `${name}.gz`), 'signalbox-client.tgz'].sort());
    for (const name of modules) assert.deepEqual(readFileSync(join(client, name)), readFileSync(join(repo, 'clients/js/src', name)), name);
  });

  for (const name of ['binary', 'edge']) {
    it(`may be loaded by every site, and the pages by none: ${name}`, async () => {
      const files = filesBelow(pages).filter((path) => !path.endsWith('.gz')).map((path) => `/${path}`);
      const [onClient, onPage] = [files.filter((path) => path.startsWith('/client/')), files.filter((path) => !path.startsWith('/client/'))];
      assert.ok(onClient.length > 20 && onPage.length > 5);
      for (const path of ['/', '/check', ...onPage, ...onClient, '/client/nothing.js', '/client/', '/client/sub/nothing.js', '/client/room.js.gz']) {
        for (const method of ['GET', 'HEAD']) {
          const { status, headers, bytes } = await servers[name].request(path, { method, headers: { Origin: 'https://app.example' } });
          const isPublic = path.startsWith('/client/');
          const what = `${method} ${path}`;
          assert.equal(headers['access-control-allow-origin'], isPublic ? '*' : undefined, what);
          assert.equal(headers['cross-origin-resource-policy'], isPublic ? 'cross-origin' : 'same-origin', what);
          assert.equal(headers['access-control-allow-credentials'], undefined, what);
          assert.equal(headers['x-content-type-options'], 'nosniff', what);
          if (onClient.includes(path) || onPage.includes(path)) {
            // The list of nginx has an older type for the scripts of the page.
            const type = headers['content-type'].replace('application/javascript', 'text/javascript');
            // Only a file whose name has the hash of its content may be kept without a question.
            const [, hash] = /-([0-9a-f]{16})\.\w+$/.exec(path) ?? [];
            const kept = hash ? 'public, max-age=31536000, immutable' : 'no-cache';
            assert.equal(hash === undefined, isPublic || path.endsWith('.html'), what);
            if (hash) assert.equal(createHash('sha256').update(readFileSync(join(pages, path))).digest('hex').slice(0, 16), hash, what);
            assert.deepEqual([status, type, headers['cache-control']], [200, typeOf(path), kept], what);
            if (bytes && method === 'GET') assert.deepEqual(bytes, readFileSync(join(pages, path)), what);
          } else if (path !== '/' && path !== '/check') {
            assert.ok([403, 404].includes(status), `${what}: ${status}`);
            assert.equal(headers['cache-control'], 'no-store', what);
          }
        }
      }
      // After an upgrade a name of the earlier page is unknown, and no browser keeps that answer.
      for (const path of ['/call-0123456789abcdef.js', '/index.html.gz']) {
        const { status, headers } = await servers[name].request(path);
        assert.deepEqual([status, headers['cache-control']], [404, 'no-store'], path);
      }
    });

    it(`are compressed if the browser reads gzip, and not sent again: ${name}`, async () => {
      const texts = filesBelow(pages).filter((path) => path.endsWith('.gz')).map((path) => `/${path.slice(0, -3)}`);
      assert.ok(texts.length > 30);
      for (const path of [...texts, '/client/signalbox-client.tgz']) {
        const isText = texts.includes(path);
        for (const [accepted, coding] of [['gzip, deflate, br', 'gzip'], ['gzip;q=0', undefined], ['identity', undefined]]) {
          const request = (headers) => servers[name].request(path, { headers: { 'Accept-Encoding': accepted, ...headers } });
          const { status, headers, bytes } = await request({});
          const what = `${path} ${accepted}`;
          assert.deepEqual([status, headers['content-encoding']], [200, isText ? coding : undefined], what);
          assert.equal(headers.vary, isText ? 'Accept-Encoding' : undefined, what);
          // `fetch` has uncompressed the bytes of the binary.
          if (bytes) assert.deepEqual(bytes, readFileSync(join(pages, path)), what);
          const again = await request({ 'If-None-Match': headers.etag });
          assert.deepEqual([again.status, again.headers['cache-control'], again.headers.etag], [304, headers['cache-control'], headers.etag], what);
          assert.equal((await request({ 'If-None-Match': '"another"' })).status, 200, what);
        }
      }
    });
  }

  it('are answered with 304 without a body, so that the connection stays usable', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    after(() => agent.destroy());
    const get = (headers) =>
      new Promise((resolve, reject) => {
        httpGet(`${origin}/client/room.js`, { agent, headers }, (response) => {
          const parts = [];
          response.on('data', (part) => parts.push(part)).on('error', reject);
          response.on('end', () => resolve({ status: response.statusCode, etag: response.headers.etag, bytes: Buffer.concat(parts).length }));
        }).on('error', reject);
      });
    const { etag } = await get({});
    for (let round = 0; round < 3; round += 1) assert.deepEqual(await get({ 'If-None-Match': etag }), { status: 304, etag, bytes: 0 });
    assert.equal((await get({})).status, 200);
  });

  it('come from the edge over HTTP/2, all in one connection', async () => {
    const session = connect(`https://localhost:${servers.edge.tls}`, { ca: site.secret('edge.crt') });
    after(() => session.close());
    const get = (path) =>
      new Promise((resolve, reject) => {
        const stream = session.request({ ':path': path });
        let text = '';
        stream.on('response', (headers) => stream.setEncoding('utf8').on('data', (part) => (text += part)).on('end', () => resolve({ headers, text })));
        stream.on('error', reject);
      });
    const { headers, text } = await get('/');
    assert.equal(headers[':status'], 200);
    const names = [...text.matchAll(/(?:href|src)="([\w-]+-[0-9a-f]{16}\.\w+)"/g)].map(([, file]) => file);
    const answers = await Promise.all([...new Set(names)].map((file) => get(`/${file}`)));
    assert.ok(answers.length >= 5);
    for (const answer of answers) assert.deepEqual([answer.headers[':status'], answer.headers['cache-control']], [200, 'public, max-age=31536000, immutable']);
    assert.equal((await get('/auth/token')).headers[':status'], 200, 'the services get the requests too');
  });

  it('a page with plain HTTP follows the redirect of the edge', async () => {
    const { headers, status } = await fetch(`http://localhost:${servers.edge.plain}/client/signalbox.js`, { redirect: 'manual' });
    assert.deepEqual([status, headers.get('access-control-allow-origin')], [308, '*']);
    const page = await fetch(`http://localhost:${servers.edge.plain}/call.js`, { redirect: 'manual' });
    assert.deepEqual([page.status, page.headers.get('access-control-allow-origin')], [308, null]);
  });

  it('the one file exports what the modules export', async () => {
    const [joined, modules] = await Promise.all([import(join(client, 'signalbox.js')), import(join(repo, 'clients/js/src/all.js'))]);
    assert.deepEqual(Object.keys(joined).sort(), Object.keys(modules).sort());
    assert.ok(joined.join && joined.Peer && joined.SignalingClient);
    assert.deepEqual(joined.CLOSE_CODES, modules.CLOSE_CODES);
    assert.equal(await joined.guestToken({ url: origin, room: 'r' }).then((token) => token.split('.').length), 3);
  });

  it('the package is the one that npm makes in a fresh clone', () => {
    const [ours, theirs, clone] = ['ours', 'theirs', 'clone'].map(folder);
    // A fresh clone has no modules of other packages.
    cpSync(join(repo, 'clients/js'), clone, { recursive: true, filter: (path) => !path.includes('node_modules') });
    const packed = run(clone, 'npm', 'pack', '--silent').trim();
    execFileSync('tar', ['-xzf', join(clone, packed), '-C', theirs]);
    execFileSync('tar', ['-xzf', join(client, 'signalbox-client.tgz'), '-C', ours]);
    assert.deepEqual(filesBelow(ours), filesBelow(theirs));
    for (const path of filesBelow(ours)) assert.deepEqual(readFileSync(join(ours, path)), readFileSync(join(theirs, path)), path);
  });

  it('npm installs the package from the server, for JavaScript and TypeScript', () => {
    const project = mkdtempSync(join(site.dir, 'project-'));
    writeFileSync(join(project, 'package.json'), '{"name":"app","private":true,"type":"module"}');
    run(project, 'npm', 'install', '--silent', `${origin}/client/signalbox-client.tgz`);
    const exports = run(project, 'node', '-p', "import('@signalbox/client').then((all) => console.log(Object.keys(all).join()))");
    assert.match(exports, /Peer,SignalingClient,SignalingError,guestToken,join/);
    cpSync(join(client, 'signalbox.js'), join(project, 'signalbox.js'));
    cpSync(join(client, 'signalbox.d.ts'), join(project, 'signalbox.d.ts'));
    for (const [file, source, Peer, Joined] of [
      ['package.ts', '@signalbox/client', 'Peer', 'Joined'],
      ['one-file.ts', './signalbox.js', 'Peer', 'Joined'],
    ]) {
      writeFileSync(
        join(project, file),
        `import { SignalingClient, SignalingError, join, type ${Peer}, type ${Joined}, type Room } from '${source}';
        const joined: Promise<Room> = join({ room: 'r', name: 'Ada', onState: ({ state }) => state === 'lobby' });
        joined.catch((error: unknown) => error instanceof SignalingError && error.code.toUpperCase());
        const room = await joined;
        room.on('peer', (peer: Peer) => peer.on('datachannel', (channel) => channel.send(peer.name)));
        const first = room.client.self as Joined;
        first.peerId.toUpperCase();
        new SignalingClient({ url: 'https://rtc.example', getToken: async () => 'T' }).on('peer-joined', ({ peerId, polite }) => [peerId.length, polite === true]);
        // @ts-expect-error there is no such event
        room.on('pear', () => {});
        // @ts-expect-error the option room is missing
        void join({ name: 'Ada' });
        // @ts-expect-error a track has a name
        void room.setTrack(7, null);
        `,
      );
    }
    // Each entry point is found by Node (React is optional, and not installed here) and by TypeScript.
    const { exports: entries } = JSON.parse(readFileSync(join(project, 'node_modules/@signalbox/client/package.json'), 'utf8'));
    const paths = Object.keys(entries).map((path) => path.replace('.', '@signalbox/client'));
    const inNode = paths.filter((path) => !path.endsWith('/react'));
    assert.equal(run(project, 'node', '-e', `Promise.all(${JSON.stringify(inNode)}.map((path) => import(path))).then((all) => console.log(all.every((one) => Object.keys(one).length > 0)))`).trim(), 'true');
    const all = paths.map((path, number) => `import * as entry${number} from '${path}';\nconsole.log(entry${number});`);
    writeFileSync(
      join(project, 'entries.ts'),
      `${all.join('\n')}
      import { usePeer, useRoom } from '@signalbox/client/react';
      import { SignalboxCall } from '@signalbox/client/element';
      import { SimplePeer } from '@signalbox/client/simple-peer';
      const { peers, state } = useRoom({ room: 'r', name: 'Ada' });
      for (const peer of peers) {
        usePeer(peer).streams.get('screen')?.getTracks();
        new SimplePeer(peer, { stream: new MediaStream() }).on('data', () => state === 'open').send('text');
      }
      const element: HTMLElement = new SignalboxCall();
      element.hidden = true;
      // @ts-expect-error the hook has a signal of its own
      useRoom({ room: 'r', signal: AbortSignal.abort() });
      `,
    );
    const tsc = join(repo, 'clients/js/node_modules/.bin/tsc');
    for (const [module, resolution] of [['NodeNext', 'NodeNext'], ['ESNext', 'Bundler']]) {
      const flags = ['--noEmit', '--strict', '--target', 'ES2022', '--lib', 'ES2023,DOM,DOM.Iterable', '--module', module, '--moduleResolution', resolution, '--types', ''];
      run(project, tsc, ...flags, 'package.ts', 'one-file.ts', 'entries.ts');
    }
  });
});
