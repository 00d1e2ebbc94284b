// Checks that documents and deployment files agree.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { bin, repo } from './harness.mjs';

const read = (path) => readFileSync(join(repo, path), 'utf8');
const findNames = (text, pattern) => new Set([...text.matchAll(pattern)].map(([, name]) => name));

describe('deployment files', () => {
  const compose = read('docker-compose.yml');
  const template = read('deploy/nginx/edge.conf.template');
  const deployment = read('docs/DEPLOYMENT.md');

  it('set every variable of the edge template', () => {
    const variables = findNames(template, /\$\{(EDGE_\w+)\}/g);
    assert.ok(variables.size > 10);
    for (const name of variables) assert.match(compose, new RegExp(`^ {6}${name}: \\S`, 'm'), name);
  });

  it('explain every setting that an operator may change', () => {
    for (const name of findNames(compose, /\$\{(\w+):-/g)) assert.ok(deployment.includes(`\`${name}\``), name);
  });

  it('publish only the ports of the edge', () => {
    const services = compose.slice(compose.indexOf('\nservices:'), compose.indexOf('\nnetworks:')).split(/\n {2}(?=[\w-]+:\n)/);
    const publishing = services.filter((service) => /^ {4}ports:/m.test(service)).map((service) => service.split(':')[0]);
    assert.deepEqual(publishing, ['edge']);
  });

  it('give a stopping node enough time for its drain', () => {
    const settings = { AUTH_SECRET: randomBytes(48).toString('base64'), REDIS_URL: 'redis://localhost' };
    const args = ['--config', join(repo, 'deploy/signalbox.toml'), '--check-config'];
    const checked = execFileSync(join(bin, 'signal-service'), args, { env: settings, encoding: 'utf8' });
    const drain = Number(/^drain = "(\d+)s" /m.exec(checked)[1]);
    const grace = Number(/x-service:[^]*?stop_grace_period: (\d+)s/.exec(compose)[1]);
    assert.ok(drain + 5 <= grace, `${drain} s of ${grace} s`);
  });

  it('explain every metric', () => {
    const sources = ['auth-service/src', 'signal-service/src', 'shared/http/src'].map(readSources).join('\n');
    const metrics = findNames(sources, /"((?:signalbox|process)_[a-z_]+)",?\s/g);
    assert.ok(metrics.size > 40, `${metrics.size}`);
    const documents = ['MONITORING', 'DEPLOYMENT', 'WEBHOOKS'].map((name) => read(`docs/${name}.md`)).join('\n');
    const explained = findNames(documents, /`((?:signalbox|process)_[a-z_]+)/g);
    for (const name of metrics) assert.ok(explained.has(name), name);
    // A histogram is asked by its buckets.
    const buckets = [...metrics].filter((name) => name.endsWith('_seconds')).map((name) => `${name}_bucket`);
    const existing = new Set([...metrics, ...buckets]);
    for (const name of findNames(documents + read('docs/CAPACITY.md'), /\b(signalbox_[a-z_]+)\b/g)) {
      assert.ok(existing.has(name) || /^signalbox_(auth_|webhooks_)?$/.test(name), `no metric has the name ${name}`);
    }
  });

  it('scale as their figures say', () => {
    execFileSync(process.execPath, [join(repo, 'bench/cost-model.mjs'), '--check'], { encoding: 'utf8' });
  });

  it('name tests that exist', () => {
    const rows = read('SECURITY.md').split('\n').filter((line) => line.startsWith('| '));
    const tests = rows.slice(1).flatMap((row) => [...row.split('|')[3].matchAll(/`([^`]+)`/g)].map(([, name]) => name));
    assert.ok(tests.length > 40);
    const folders = ['shared', 'auth-service', 'signal-service', 'signalbox', 'tests/src', 'tests/scenarios', 'tests/edge', 'tests/browser', 'tests/run.sh'];
    const known = folders.map((folder) => readSources(folder)).join('\n');
    for (const name of tests) {
      const found = known.includes(`fn ${name}(`) || known.includes(`it('${name}'`) || known.includes(`test('${name}'`) || /^(deny|signatures|tests\/\S+\.sh)$/.test(name);
      assert.ok(found, `SECURITY.md names a test that is not there: ${name}`);
    }
  });

  it('create strong secrets, keep them, and keep them out of the repository', () => {
    assert.match(read('deploy/.gitignore'), /^\/secrets\/$/m);
    assert.ok(read('.dockerignore').startsWith('#') && /^\*$/m.test(read('.dockerignore')), 'an image contains only named files');
    const make = join(repo, 'deploy/make-secrets.sh');
    const folder = execFileSync('mktemp', ['-d'], { encoding: 'utf8' }).trim();
    const readAll = () => readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), 'utf8')]);
    execFileSync(make, [folder]);
    const first = readAll();
    execFileSync(make, [folder]);
    assert.deepEqual(readAll(), first, 'a second run changes nothing');
    for (const name of findNames(compose, /deploy\/secrets\/([\w.]+)/g)) assert.ok(first.some(([file]) => file === name), name);
    const secret = (file) => first.find(([name]) => name === file)[1];
    for (const name of ['auth_secret', 'session_key']) assert.ok(Buffer.from(secret(name), 'base64').length >= 48, name);
    assert.notEqual(secret('auth_secret'), secret('session_key'));
    for (const name of ['backend_key', 'operator_key']) assert.ok(!secret('api_keys').includes(secret(name).trim().split(':')[1]), name);
    // A new key replaces only its own digest; a key that the operator added stays.
    const keys = () => readFileSync(join(folder, 'api_keys'), 'utf8').split('\n').filter(Boolean);
    const before = [...keys(), `shop:sha256=${'0'.repeat(64)}`];
    writeFileSync(join(folder, 'added'), `${before.join(',')}\n`);
    execFileSync('mv', ['-f', join(folder, 'added'), join(folder, 'api_keys')]);
    execFileSync('rm', ['-f', join(folder, 'operator_key')]);
    execFileSync(make, [folder]);
    const ids = (lines) => lines.map((line) => line.split(':')[0]).sort();
    assert.deepEqual(ids(keys()), ids(before));
    assert.deepEqual(keys().filter((line) => before.includes(line)).length, before.length - 1, 'one digest has changed');
    execFileSync('rm', ['-rf', folder]);
  });

  it('give the users of Redis only the names of a prefix', () => {
    const folder = execFileSync('mktemp', ['-d'], { encoding: 'utf8' }).trim();
    execFileSync(join(repo, 'deploy/make-secrets.sh'), ['--redis-prefix', 'blue', folder]);
    const names = findNames(readFileSync(join(folder, 'redis.acl'), 'utf8'), /(?:~|&)(\S+:)/g);
    assert.ok(names.size > 20, 'each kind has a rule');
    for (const name of names) assert.match(name, /^blue:sb:/);
    assert.throws(() => execFileSync(join(repo, 'deploy/make-secrets.sh'), ['--redis-prefix', 'a*', folder], { stdio: 'ignore' }));
    execFileSync('rm', ['-rf', folder]);
  });

  it('read a secret that an editor has written as the services read it', () => {
    const make = join(repo, 'deploy/make-secrets.sh');
    const folder = execFileSync('mktemp', ['-d'], { encoding: 'utf8' }).trim();
    const [one, two, key] = [32, 32, 32].map((size) => randomBytes(size).toString('hex'));
    writeFileSync(join(folder, 'turn_secrets'), `\ufeff${one}, ${two}\r\n`);
    writeFileSync(join(folder, 'backend_key'), `\ufeffbackend:${key}\r\n`);
    execFileSync(make, [folder]);
    const written = (name) => readFileSync(join(folder, name), 'utf8');
    assert.equal(written('turnserver.conf'), `static-auth-secret=${one}\nstatic-auth-secret=${two}\n`);
    const digest = createHash('sha256').update(key).digest('hex');
    assert.ok(written('api_keys').startsWith(`backend:sha256=${digest}\n`), 'the digest of the key alone');
    execFileSync('rm', ['-rf', folder]);
  });
});

function readSources(path) {
  const files = execFileSync('find', [path, '-type', 'f', '(', '-name', '*.rs', '-o', '-name', '*.mjs', ')', '-not', '-path', '*/node_modules/*'], { cwd: repo, encoding: 'utf8' });
  return files.split('\n').filter(Boolean).map(read).join('\n');
}
