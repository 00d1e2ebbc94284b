/**
 * A signaling server that loses things on purpose, and the pages that talk to it: enough of docs/PROTOCOL.md for two people in one room, in
 * the process of the test.
 */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { joinedFrame } from '../scripted.js';

const PAGE = `<!doctype html><script type="module">
import { Room } from '/client/room.js';
globalThis.made = [];
globalThis.RTCPeerConnection = class extends RTCPeerConnection { constructor(...args) { super(...args); made.push(this); } };
const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
globalThis.room = new Room({ room: 'r', getToken: () => 'T', media });
globalThis.ended = [];
globalThis.hungUp = 0;
room.on('peer', (peer) => {
  const video = Object.assign(document.createElement('video'), { autoplay: true, muted: true, srcObject: peer.stream });
  document.body.append(video);
  peer.on('closed', (why) => { ended.push(why); video.remove(); });
  peer.on('datachannel', (channel) => channel.addEventListener('close', () => (hungUp += 1)));
});
await room.join();
</script>`;

export class LossyServer {
  /** peerId → what is known of it: its socket, the entries of its mailbox, its last accepted id. @type {Map<string, any>} */
  peers = new Map();
  /** Says of each frame on its way whether it is lost. */
  loses = (_frame) => false;
  /** How often somebody came with a token. */
  tokens = 0;
  #made = 0;
  #http = createServer((request, response) => void this.#serve(request, response));

  async start() {
    const sockets = new WebSocketServer({ server: this.#http, path: '/ws/signal' });
    sockets.on('connection', (socket, request) => this.#connected(socket, request));
    this.#http.listen(0, '127.0.0.1');
    await once(this.#http, 'listening');
    this.origin = `http://127.0.0.1:${this.#http.address().port}`;
    return this;
  }

  stop() {
    for (const { socket } of this.peers.values()) socket.terminate();
    this.#http.close();
    this.#http.closeAllConnections();
  }

  async #serve({ url }, response) {
    if (!url.startsWith('/client/')) return response.writeHead(200, { 'Content-Type': 'text/html' }).end(PAGE);
    const file = new URL(`../../src/${url.slice('/client/'.length)}`, import.meta.url);
    return response.writeHead(200, { 'Content-Type': 'text/javascript' }).end(await readFile(file));
  }

  #connected(socket, request) {
    const proof = request.headers['sec-websocket-protocol'].split(/, */)[1];
    const since = new URL(request.url, this.origin).searchParams.get('since');
    const known = this.peers.get(proof.split('.')[1]);
    if (!known) this.tokens += 1;
    const resumes = known && since !== null;
    if (known && !resumes) this.#leave(known, 'replaced');
    const peer = resumes ? known : this.#newPeer();
    peer.socket = socket;
    socket.on('message', (text) => this.#heard(peer, JSON.parse(text)));
    if (resumes) {
      this.#say(peer, this.#beginning(peer, { type: 'resumed', recovered: true, lastId: peer.lastId, seq: Number(since) }));
      for (const entry of peer.box.slice(Number(since) - peer.base)) this.#say(peer, entry);
    } else {
      this.#say(peer, this.#beginning(peer, {}));
      for (const other of this.#others(peer)) this.#append(other, { type: 'peer-joined', ...this.#entry(peer, other) });
    }
  }

  #newPeer() {
    const peerId = String((this.#made += 1)).padStart(32, '0');
    const peer = { peerId, box: [], base: 0, lastId: 0 };
    this.peers.set(peerId, peer);
    return peer;
  }

  #leave(peer, reason) {
    this.peers.delete(peer.peerId);
    for (const other of this.peers.values()) this.#append(other, { type: 'peer-left', peerId: peer.peerId, reason });
  }

  #others(peer) {
    return [...this.peers.values()].filter((other) => other !== peer);
  }

  #entry({ peerId }, viewer) {
    return { peerId, userId: peerId, name: peerId, role: 'guest', metadata: {}, polite: viewer.peerId < peerId, detached: false };
  }

  #beginning(peer, more) {
    const peers = this.#others(peer).map((other) => this.#entry(other, peer));
    return joinedFrame({ peerId: peer.peerId, peers, resume: `${peer.peerId}.h`, seq: peer.base + peer.box.length, ...more });
  }

  #say({ socket }, frame) {
    socket.send(JSON.stringify(frame));
  }

  #append(peer, frame) {
    if (this.loses(frame)) return;
    const entry = { ...frame, seq: peer.base + peer.box.length + 1 };
    peer.box.push(entry);
    this.#say(peer, entry);
  }

  #heard(peer, { to, ...frame }) {
    if (frame.id === undefined) return;
    const duplicate = frame.id <= peer.lastId;
    peer.lastId = Math.max(peer.lastId, frame.id);
    const target = this.peers.get(to);
    if (!duplicate && target) this.#append(target, { ...frame, from: peer.peerId });
    this.#say(peer, { type: 'ack', id: frame.id, duplicate });
  }

  /** The socket breaks without a word. */
  cut(peer) {
    peer.socket.terminate();
  }

  /** The mailbox breaks: a new one, told in passing. */
  breakBox(peer) {
    peer.base += peer.box.length + 50;
    peer.box = [];
    this.#say(peer, this.#beginning(peer, { type: 'resumed', recovered: false, lastId: peer.lastId, seq: peer.base }));
  }
}
