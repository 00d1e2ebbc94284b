// The deployment of docker-compose.yml without containers: nginx, auth-service, two signal-services
// and Redis, with the shipped configuration and users.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { TestSite, bin, repo, stopProcess } from './harness.mjs';

const SDP = 'v=0\r\no=- 46117317 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n';

describe('a deployment', () => {
  const site = new TestSite();
  const nodes = [];
  const sockets = [];
  let redis;
  let auth;
  let edge;

  before(async () => {
    redis = await site.startRedis();
    // As in docker-compose.yml: the services trust the client address of nginx only.
    const trust = { SIGNALBOX__SERVER__TRUSTED_PROXIES: '127.0.0.1' };
    const start = ['auth-service', 'signal-service', 'signal-service'].map((name) => site.startService(name, name === 'auth-service' ? 'auth' : 'signal', redis, trust));
    const services = await Promise.all(start);
    auth = services[0];
    nodes.push(services[1], services[2]);
    edge = await site.startEdge({ signal: nodes.map(({ port }) => port), auth: [auth.port] });
  });
  after(async () => {
    for (const { socket } of sockets) socket.terminate();
    await site.close();
  });

  const key = () => `Basic ${Buffer.from(site.secret('backend_key')).toString('base64')}`;
  const requestToken = (body, headers = { authorization: key() }) =>
    edge.request('/auth/token', { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) });
  const token = async (room, user) => {
    const answer = await requestToken({ room, user });
    assert.equal(answer.status, 200, answer.text);
    return answer.json().token;
  };
  const open = async (path, options) => {
    const answer = await edge.open(path, options);
    if (answer.socket) sockets.push(answer);
    return answer;
  };
  const join = async (room, user) => {
    const peer = await open(`/ws/signal?token=${await token(room, user)}`, { protocols: ['signalbox.v1'] });
    assert.equal(peer.status, 101);
    return { ...peer, joined: await peer.next('joined') };
  };

  it('refuses clients of a denied address by their real address, not by a claimed one', async () => {
    // As the service `operator` of docker-compose.yml.
    const env = { SIGNALBOX_URL: `http://127.0.0.1:${auth.port}`, SIGNALBOX_API_KEY_FILE: `${site.secrets}/operator_key` };
    const runOperatorCommand = (...args) => execFileSync(`${bin}/signalbox`, ['--config', `${repo}/deploy/signalbox.toml`, ...args], { env });
    const validate = async (token, localAddress, claimed) => {
      const headers = { authorization: `Bearer ${token}`, 'x-forwarded-for': claimed };
      const answer = await edge.request('/ws/validate', { headers, localAddress, host: '127.0.0.1', servername: 'localhost' });
      return answer.status === 200 ? 200 : answer.json().code;
    };
    const good = await token('denied', 'alice');
    runOperatorCommand('deny', '127.0.0.5', '--for', '60s');
    const end = Date.now() + 5000;
    // Each node loads the rule by itself, and the edge spreads requests over the nodes.
    for (let refused = 0; refused < 4; ) {
      refused = (await validate(good, '127.0.0.5', '192.0.2.1')) === 200 ? 0 : refused + 1;
      assert.ok(Date.now() < end, 'the access rule is active on every node');
    }
    for (let n = 0; n < 4; n++) {
      assert.equal(await validate(good, '127.0.0.5', `192.0.2.${n}`), 'address_denied');
      assert.equal(await validate(good, '127.0.0.6', '127.0.0.5'), 200, 'the denied address is only claimed');
    }
    runOperatorCommand('allow', '127.0.0.5');
  });

  it('carries an offer between peers on two nodes', async () => {
    const alice = await join('stand-up', 'alice');
    let bob = await join('stand-up', 'bob');
    for (let n = 0; bob.joined.node === alice.joined.node && n < 4; n++) bob = await join('stand-up', `bob-${n}`);
    assert.notEqual(bob.joined.node, alice.joined.node, 'the edge spreads connections over the nodes');
    alice.socket.send(JSON.stringify({ type: 'offer', to: bob.joined.peerId, id: 1, sdp: SDP }));
    const offer = await bob.next('offer');
    assert.deepEqual([offer.from, offer.sdp], [alice.joined.peerId, SDP]);
    assert.equal((await alice.next('ack')).id, 1);
  });

  it('accepts the token in the subprotocol and returns only its own subprotocol', async () => {
    const peer = await open('/ws/signal', { protocols: ['signalbox.v1', `token.${await token('r', 'alice')}`] });
    assert.equal(peer.status, 101);
    assert.equal(peer.protocol, 'signalbox.v1');
    assert.equal((await peer.next('joined')).userId, 'alice');
  });

  it('refuses a bad token and a foreign origin before the upgrade', async () => {
    const good = await token('r', 'alice');
    for (const [query, origin, status, code] of [
      ['', undefined, 401, 'token_missing'],
      [`?token=${good.slice(0, -6)}AAAAAA`, undefined, 401, 'token_bad_signature'],
      [`?token=${good}`, 'https://evil.example', 403, 'origin_not_allowed'],
      ['?resume=x', undefined, 401, 'resume_invalid'],
    ]) {
      const headers = origin ? { Origin: origin } : {};
      const answer = await open(`/ws/signal${query}`, { headers });
      assert.deepEqual([answer.status, answer.json?.().code], [status, code]);
      const verdict = await edge.request(`/ws/validate${query}`, { headers });
      assert.deepEqual([verdict.status, verdict.json().code], [status, code], '/ws/validate gives the same answer');
    }
    const own = await open(`/ws/signal?token=${good}`, { headers: { Origin: `https://localhost:${edge.tls}` } });
    assert.equal(own.status, 101, 'the origin of the page is accepted');
  });

  const resume = (handle, since = 0) => open(`/ws/signal?since=${since}`, { protocols: ['signalbox.v1', `resume.${handle}`] });

  it('resumes a peer with its handle in the query or subprotocol, and accepts a takeover', async () => {
    const alice = await join('back', 'alice');
    const bob = await join('back', 'bob');
    alice.socket.terminate();
    assert.equal((await bob.next('peer-detached')).peerId, alice.joined.peerId);
    const verdict = await edge.request(`/ws/validate?resume=${alice.joined.resume}`);
    assert.equal(verdict.status, 200, verdict.text);
    const again = await resume(alice.joined.resume, 1);
    const resumed = await again.next('resumed');
    assert.deepEqual([resumed.peerId, resumed.recovered], [alice.joined.peerId, true]);
    again.socket.send('{"type":"ping","id":1}');
    await again.next('pong');

    const old = await edge.request(`/ws/validate?resume=${alice.joined.resume}`);
    assert.deepEqual([old.status, old.json().code], [401, 'resume_replaced'], 'the previous handle is invalid');
    const third = await open(`/ws/signal?resume=${resumed.resume}&since=${resumed.seq}`, { protocols: ['signalbox.v1'] });
    const handle = (await third.next('resumed')).resume;
    const reloaded = await open('/ws/signal', { protocols: ['signalbox.v1', `resume.${handle}`] });
    const { peerId } = await reloaded.next('joined');
    const left = await bob.next('peer-left');
    assert.deepEqual([left.peerId, left.reason], [alice.joined.peerId, 'replaced']);
    assert.notEqual(peerId, alice.joined.peerId);
  });

  it('accepts tokens and handles of every allowed length', async () => {
    for (const length of [512, 4000]) {
      const metadata = { note: 'x'.repeat(length) };
      const answer = await requestToken({ room: 'long', user: `user-${length}`, metadata });
      assert.equal(answer.status, 200, answer.text);
      const peer = await open('/ws/signal', { protocols: ['signalbox.v1', `token.${answer.json().token}`] });
      const { peerId, resume: handle } = await peer.next('joined');
      peer.socket.terminate();
      const resumed = await (await resume(handle)).next('resumed');
      assert.equal(resumed.peerId, peerId);
      assert.equal((await edge.request(`/ws/validate?resume=${resumed.resume}`)).status, 200);
      const other = await open(`/ws/signal?resume=${resumed.resume}&since=0`);
      assert.equal((await other.next('resumed')).peerId, peerId, 'also with the handle in the query');
    }
  });

  it('issues tokens only to callers with a key', async () => {
    assert.equal((await requestToken({ room: 'r', user: 'u' }, { authorization: `Basic ${Buffer.from('backend:nope').toString('base64')}` })).status, 401);
    assert.equal((await requestToken({ room: 'r', user: 'u' }, {})).status, 401);
    const good = await token('r', 'alice');
    const verdict = await edge.request('/auth/validate', { headers: { authorization: `Bearer ${good}` } });
    assert.equal(verdict.status, 200);
    assert.ok(verdict.headers['strict-transport-security']);
    assert.equal(verdict.headers['cache-control'], 'no-store');
  });

  it('forwards the feed to an application', async () => {
    assert.equal((await open('/ws/events')).status, 401);
    const feed = await open('/ws/events', { headers: { authorization: key() } });
    assert.equal(feed.status, 101);
    const firstEvent = new Promise((resolve) => feed.socket.on('message', (data) => JSON.parse(data).room === 'watched' && resolve(JSON.parse(data))));
    await join('watched', 'alice');
    assert.match((await firstEvent).event, /^(room-opened|peer-joined)$/);
  });

  it('serves health and metrics only on the inside', async () => {
    for (const { port, metricsPort } of [auth, ...nodes]) {
      for (const path of ['/health/live', '/health/ready']) assert.equal((await fetch(`http://127.0.0.1:${port}${path}`)).status, 200);
      assert.equal((await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).status, 200);
      assert.equal((await fetch(`http://127.0.0.1:${port}/metrics`)).status, 404, 'not where clients connect');
    }
    for (const path of ['/health/live', '/health/ready', '/metrics']) assert.equal((await edge.request(path)).status, 404);
  });

  it('continues with one node, and answers 503 without a node', async () => {
    await nodes[0].stop();
    for (let n = 0; n < 4; n++) {
      const { joined } = await join('after', `peer-${n}`);
      assert.equal(joined.peers.length, n);
    }
    const last = await token('after', 'late');
    await nodes[1].stop();
    const refused = await open(`/ws/signal?token=${last}`, { protocols: ['signalbox.v1', 'x.y'] });
    assert.deepEqual([refused.status, refused.json().code], [503, 'unavailable']);
    assert.equal((await requestToken({ room: 'r', user: 'u' })).status, 200, 'tokens do not need the nodes');
    await auth.stop();
    assert.equal((await requestToken({ room: 'r', user: 'u' })).status, 503);
  });

  it('writes no token, key or SDP to a log', async () => {
    await stopProcess(edge.child);
    const secrets = ['backend_key', 'operator_key', 'auth_secret', 'session_key', 'redis_url_signal', 'redis_url_auth'].map((name) => site.secret(name).split(':').pop().split('@')[0]);
    for (const file of [edge.accessLog, edge.child.log, auth.child.log, ...nodes.map(({ child }) => child.log)]) {
      const written = existsSync(file) ? readFileSync(file, 'utf8') : '';
      for (const mark of ['eyJ', 'token=', 'resume=', 'v=0', 'Basic ', 'Bearer ', ...secrets]) assert.ok(!written.includes(mark), `${file} holds ${mark}`);
    }
    assert.ok(edge.accessLogEntries().length > 10);
  });
});
