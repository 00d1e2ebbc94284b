// The steps of docs/WITHOUT_DOCKER.md, with the files that it names and the nginx of the machine.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { EdgeServer, TestSite, bin, freePort, repo } from './harness.mjs';

const guide = readFileSync(join(repo, 'docs/WITHOUT_DOCKER.md'), 'utf8');
const unit = readFileSync(join(repo, 'deploy/signalbox.service'), 'utf8');
const valuesOf = (name) => [...unit.matchAll(new RegExp(`^${name}=(.*)$`, 'gm'))].map(([, value]) => value);

/** The main configuration of nginx in Debian, without what a package adds. */
const MAIN = (dir) => `
pid ${dir}/nginx.pid;
events { worker_connections 768; }
http {
  include /etc/nginx/mime.types;
  default_type application/octet-stream;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${dir}/${kind};`).join(' ')}
  gzip on;
  include ${dir}/signalbox.conf;
}`;

describe('Signalbox on a machine without Docker', () => {
  const site = new TestSite();
  let edge;
  let server;

  /** The variables of the service, with the folder of the test instead of /etc/signalbox. */
  const serviceEnvironment = () => {
    const lines = valuesOf('Environment').map((line) => line.replace('/etc/signalbox/secrets', site.secrets).split('='));
    return Object.fromEntries(lines);
  };

  before(async () => {
    const settings = /<<'END'\n(\[server\][^]*?)END\n/.exec(guide)[1].replace('rtc.example.com', 'localhost');
    const [port, plain, tls] = [await freePort(), await freePort(), await freePort()];
    writeFileSync(join(site.dir, 'signalbox.toml'), settings);
    execFileSync(join(bin, 'signalbox'), ['pages', join(site.dir, 'pages')]);
    server = site.startProcess('signalbox', join(bin, 'signalbox'), ['--config', join(site.dir, 'signalbox.toml'), '--listen', `127.0.0.1:${port}`], serviceEnvironment());
    await site.waitForPort(port, server);

    const accessLog = join(site.logs, `edge-${process.pid}-${tls}-access.log`);
    const env = {
      PATH: process.env.PATH,
      EDGE_HTTP_LISTEN: `127.0.0.1:${plain}`,
      EDGE_HTTPS_LISTEN: `127.0.0.1:${tls}`,
      EDGE_CERT: join(site.secrets, 'edge.crt'),
      EDGE_KEY: join(site.secrets, 'edge.key'),
      EDGE_ACCESS_LOG: accessLog,
      EDGE_PAGE: join(site.dir, 'pages'),
      EDGE_SIGNAL_SERVERS: `server 127.0.0.1:${port};`,
      EDGE_AUTH_SERVERS: `server 127.0.0.1:${port};`,
    };
    const configuration = execFileSync(join(repo, 'deploy/make-edge-conf.sh'), ['--name', 'localhost'], { env, encoding: 'utf8' });
    assert.doesNotMatch(configuration, /\$\{?EDGE_/, 'every variable has a value');
    writeFileSync(join(site.dir, 'signalbox.conf'), configuration);
    writeFileSync(join(site.dir, 'nginx.conf'), MAIN(site.dir));
    const directives = process.getuid() === 0 ? 'daemon off; user root;' : 'daemon off;';
    const child = site.startProcess('nginx', 'nginx', ['-p', site.dir, '-c', join(site.dir, 'nginx.conf'), '-e', 'stderr', '-g', directives]);
    await site.waitForPort(tls, child);
    edge = new EdgeServer({ plain, tls, child, accessLog, ca: site.secret('edge.crt') });
  });
  after(() => site.close());

  it('serves the call page, gives tokens to the backend and not to guests, and opens sockets', async () => {
    const page = await edge.request('/');
    assert.equal(page.status, 200);
    assert.match(page.headers['content-type'], /^text\/html; charset=utf-8$/);
    const client = await edge.request('/client/signalbox.js');
    assert.deepEqual([client.status, client.headers['access-control-allow-origin']], [200, '*']);
    const headers = { 'Content-Type': 'application/json' };
    const body = JSON.stringify({ room: 'r', user: 'alice' });
    const guest = await edge.request('/auth/token', { method: 'POST', headers, body });
    assert.deepEqual([guest.status, guest.json().code], [401, 'guests_off']);
    const key = Buffer.from(site.secret('backend_key')).toString('base64');
    const issued = await edge.request('/auth/token', { method: 'POST', headers: { ...headers, Authorization: `Basic ${key}` }, body });
    assert.equal(issued.status, 200, issued.text);
    const { status, socket, next } = await edge.open('/ws/signal', { protocols: ['signalbox.v1', `token.${issued.json().token}`] });
    assert.equal(status, 101);
    assert.equal((await next('joined')).userId, 'alice');
    socket.close();
    assert.equal((await edge.request('/health/ready')).status, 404, 'health is not reachable from outside');
  });

  it('takes the operator command with the key of the secrets', () => {
    const port = /:(\d+);/.exec(readFileSync(join(site.dir, 'signalbox.conf'), 'utf8'))[1];
    const args = ['rules', '--url', `http://localhost:${port}`];
    const env = { PATH: process.env.PATH, SIGNALBOX_API_KEY_FILE: join(site.secrets, 'operator_key') };
    assert.match(execFileSync(join(bin, 'signalbox'), args, { env, encoding: 'utf8' }), /"rules"/);
  });

  it('has a service that stops after its drain and is not started again with a wrong configuration', () => {
    const env = { PATH: process.env.PATH, ...serviceEnvironment() };
    const checked = execFileSync(join(bin, 'signalbox'), ['--config', join(site.dir, 'signalbox.toml'), '--check-config'], { env, encoding: 'utf8' });
    const drain = Number(/^drain = "(\d+)s" /m.exec(checked)[1]);
    assert.ok(drain + 5 <= Number(valuesOf('TimeoutStopSec')[0]));
    assert.deepEqual(valuesOf('RestartPreventExitStatus'), ['2']);
    const connections = Number(/^connections = (\d+)/m.exec(checked)[1]);
    assert.ok(connections < Number(valuesOf('LimitNOFILE')[0]));
  });

  it('has a service that systemd understands', { skip: !existsSync('/usr/bin/systemd-analyze') && 'systemd is not installed' }, () => {
    const file = join(site.dir, 'signalbox.service');
    writeFileSync(file, unit.replaceAll('/usr/local/bin/signalbox', join(bin, 'signalbox')));
    const output = execFileSync('sh', ['-c', 'systemd-analyze verify "$0" 2>&1', file], { encoding: 'utf8' });
    assert.doesNotMatch(output, /signalbox\.service/, output);
  });

  it('gets the arguments of the TURN server of Compose as a configuration file', () => {
    const env = { PATH: process.env.PATH, TURN_EXTERNAL_IP: '203.0.113.7', TURN_REALM: 'rtc.example', TURN_OWN_ADDRESS: 'allowed' };
    const lines = execFileSync(join(repo, 'deploy/make-turn-conf.sh'), [site.secrets], { env, encoding: 'utf8' }).trim().split('\n');
    const compose = readFileSync(join(repo, 'docker-compose.yml'), 'utf8');
    const wanted = [...compose.split('\n  turn:\n')[1].split('\n  edge:\n')[0].matchAll(/^ {6}- --(\S+)$/gm)].map(([, argument]) => argument);
    assert.ok(wanted.length > 40);
    assert.equal(lines.length, wanted.length - 2 + 1, 'without the two files, with one secret');
    for (const line of ['realm=rtc.example', 'external-ip=203.0.113.7', 'allowed-peer-ip=203.0.113.7', 'listening-port=3478', 'no-cli']) assert.ok(lines.includes(line), line);
    assert.equal(lines.at(-1), `static-auth-secret=${site.secret('turn_secrets')}`);
  });
});
