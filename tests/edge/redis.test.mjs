// The Redis server of docker-compose.yml: its configuration and the limits of its users.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { TestSite } from './harness.mjs';

describe('the store', () => {
  const site = new TestSite();
  let port;
  before(async () => (port = await site.startRedis()));
  after(() => site.close());

  const redis = (user, ...command) => {
    const password = user && new URL(site.secret(`redis_url_${user}`)).password;
    const args = ['-h', '127.0.0.1', '-p', `${port}`, ...(user ? ['--user', user] : []), ...command];
    const env = { PATH: process.env.PATH, ...(password && { REDISCLI_AUTH: password }) };
    const { stdout, stderr } = spawnSync('redis-cli', args, { env, encoding: 'utf8', timeout: 5_000 });
    return (stdout + stderr).trim();
  };
  const info = (name) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(redis('signal', 'info'))?.[1];

  it('refuses clients without a user name', () => {
    assert.match(redis(null, 'ping'), /^NOAUTH/);
    assert.match(redis(null, 'hgetall', 'sb:x'), /^NOAUTH/);
  });

  it('allows the commands of the signaling service', () => {
    assert.equal(redis('signal', 'ping'), 'PONG');
    const script = "redis.call('HSET', KEYS[1], 'f', ARGV[1]); redis.call('PEXPIRE', KEYS[1], 50000); redis.call('SPUBLISH', 'sb:node:{a}:n', 'x'); return redis.call('TIME')[1]";
    assert.match(redis('signal', 'eval', script, '1', 'sb:room:{a}:r', 'v'), /^\d+$/);
    assert.match(redis('signal', 'eval', "return redis.call('INFO', 'replication')", '0'), /master_replid:/);
  });

  it('limits the signaling service to its own keys, topics and commands', () => {
    for (const command of [
      ['hset', 'other', 'f', 'v'],
      ['spublish', 'other', 'x'],
      ['flushall'],
      ['keys', '*'],
      ['scan', '0'],
      ['config', 'set', 'maxmemory', '1'],
      ['config', 'get', '*'],
      ['acl', 'list'],
      ['client', 'list'],
      ['client', 'kill', 'type', 'normal'],
      ['script', 'flush'],
      ['slowlog', 'get'],
      ['monitor'],
      ['shutdown', 'nosave'],
      ['replicaof', 'no', 'one'],
      ['module', 'list'],
      ['save'],
      ['set', 'other', '1'],
      ['append', 'sb:x', '1'],
      ['psubscribe', '*'],
      ['set', 'sb:a:refresh:x', '1'],
      ['hdel', 'sb:rules:{control}', 'ban:*:u'],
      ['ssubscribe', 'sb:feed:{a}'],
    ]) {
      assert.match(redis('signal', ...command), /^NOPERM/, command.join(' '));
    }
  });

  it('limits the scripts of the signaling service in the same way', () => {
    for (const call of ["'FLUSHALL'", "'KEYS', '*'", "'CONFIG', 'GET', '*'", "'APPEND', 'sb:x', '1'", "'SET', 'other', '1'", "'HSET', 'other', 'f', 'v'", "'SPUBLISH', 'other', 'x'"]) {
      assert.match(redis('signal', 'eval', `return redis.call(${call})`, '0'), /can't (run|publish|access)|not allowed/, call);
    }
  });

  it('limits the auth service to its own keys, topics and commands', () => {
    assert.equal(redis('auth', 'ping'), 'PONG');
    for (const command of [['keys', '*'], ['config', 'get', '*'], ['set', 'other', '1'], ['set', 'sb:s:nodes', '1'], ['get', 'sb:ticket:x'], ['spublish', 'other', 'x'], ['psubscribe', '*'], ['monitor'], ['flushall']]) {
      assert.match(redis('auth', ...command), /^NOPERM/, command.join(' '));
    }
    assert.match(redis('auth', 'eval', "return redis.call('HSET', 'other', 'f', 'v')", '0'), /can't (run|access)|not allowed/);
  });

  it('refuses writes when it is full, and writes nothing to disk', () => {
    assert.equal(info('maxmemory_policy'), 'noeviction');
    assert.equal(info('maxmemory'), `${256 * 1024 * 1024}`);
    assert.equal(info('aof_enabled'), '0');
  });
});
