/**
 * A signaling server that loses frames on purpose, and its test page. It implements the part of
 * docs/PROTOCOL.md that two peers in one room need, in the process of the test.
 */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { joinedFrame } from '../scripted-server.js';

const PAGE = `<!doctype html><script type="module">
import { join } from '/client/room.js';
globalThis.made = [];
globalThis.RTCPeerConnection = class extends RTCPeerConnection { constructor(...args) { super(...args); made.push(this); } };
const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
globalThis.room = await join({ room: 'r', getToken: () => 'T', media });
globalThis.ended = [];
globalThis.hungUp = 0;
room.on('peer', (peer) => {
  const video = Object.assign(document.createElement('video'), { autoplay: true, muted: true, srcObject: peer.stream });
  document.body.append(video);
  peer.on('closed', (why) => { ended.push(why); video.remove(); });
  peer.on('datachannel', (channel) => channel.addEventListener('close', () => (hungUp += 1)));
});
</script>`;

export class LossyServer {
  /** peerId → its socket, mailbox and last accepted message id. @type {Map<string, any>} */
  peers = new Map();
  /** Decides whether an entry is lost. */
  isLost = (_frame) => false;
  /** How many connections used a token. */
  tokens = 0;
  #peerCount = 0;
  #http = createServer((request, response) => void this.#serve(request, response));

  async start() {
    const sockets = new WebSocketServer({ server: this.#http, path: '/ws/signal' });
    sockets.on('connection', (socket, request) => this.#onConnection(socket, request));
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

  #onConnection(socket, request) {
    const credential = request.headers['sec-websocket-protocol'].split(/, */)[1];
    const since = new URL(request.url, this.origin).searchParams.get('since');
    const known = this.peers.get(credential.split('.')[1]);
    if (!known) this.tokens += 1;
    const resumes = known && since !== null;
    if (known && !resumes) this.#leave(known, 'replaced');
    const peer = resumes ? known : this.#newPeer();
    peer.socket = socket;
    socket.on('message', (text) => this.#onFrame(peer, JSON.parse(text)));
    if (resumes) {
      this.#send(peer, this.#firstFrame(peer, { type: 'resumed', recovered: true, lastId: peer.lastId, seq: Number(since) }));
      for (const entry of peer.mailbox.slice(Number(since) - peer.base)) this.#send(peer, entry);
    } else {
      this.#send(peer, this.#firstFrame(peer, {}));
      for (const other of this.#others(peer)) this.#append(other, { type: 'peer-joined', ...this.#entryOf(peer, other) });
    }
  }

  #newPeer() {
    const peerId = String((this.#peerCount += 1)).padStart(32, '0');
    const peer = { peerId, mailbox: [], base: 0, lastId: 0 };
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

  #entryOf({ peerId }, viewer) {
    return { peerId, userId: peerId, name: peerId, role: 'guest', metadata: {}, polite: viewer.peerId < peerId, detached: false };
  }

  #firstFrame(peer, more) {
    const peers = this.#others(peer).map((other) => this.#entryOf(other, peer));
    return joinedFrame({ peerId: peer.peerId, peers, resume: `${peer.peerId}.h`, seq: peer.base + peer.mailbox.length, ...more });
  }

  #send({ socket }, frame) {
    socket.send(JSON.stringify(frame));
  }

  #append(peer, frame) {
    if (this.isLost(frame)) return;
    const entry = { ...frame, seq: peer.base + peer.mailbox.length + 1 };
    peer.mailbox.push(entry);
    this.#send(peer, entry);
  }

  #onFrame(peer, { to, ...frame }) {
    if (frame.id === undefined) return;
    const duplicate = frame.id <= peer.lastId;
    peer.lastId = Math.max(peer.lastId, frame.id);
    const target = this.peers.get(to);
    if (!duplicate && target) this.#append(target, { ...frame, from: peer.peerId });
    this.#send(peer, { type: 'ack', id: frame.id, duplicate });
  }

  /** Breaks the socket without a close frame. */
  breakSocket(peer) {
    peer.socket.terminate();
  }

  /** Replaces the mailbox and loses its entries; the peer gets `resumed` on the open connection. */
  replaceMailbox(peer) {
    peer.base += peer.mailbox.length + 50;
    peer.mailbox = [];
    this.#send(peer, this.#firstFrame(peer, { type: 'resumed', recovered: false, lastId: peer.lastId, seq: peer.base }));
  }
}
