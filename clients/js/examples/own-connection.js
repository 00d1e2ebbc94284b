// @ts-nocheck: an example, so it has no type annotations.
// Your own RTCPeerConnection for each other peer of the room: perfect negotiation (webrtc-pc,
// section 10.7), and the rule that the impolite peer makes the first offer.
import { SignalingClient, guestToken } from '/client/signalbox.js';

const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
const client = new SignalingClient({ getToken: () => guestToken({ room: 'own-connection', name: 'Ada' }) });
const connections = new Map();
const fingerprintOf = (sdp) => /^a=fingerprint:.*/m.exec(sdp)?.[0];

function connect({ peerId, polite }) {
  const { iceServers, icePolicy } = client.self;
  const pc = new RTCPeerConnection({ iceServers, iceTransportPolicy: icePolicy });
  const video = document.body.appendChild(Object.assign(document.createElement('video'), { autoplay: true, playsInline: true }));
  let makingOffer = false;
  let settingAnswer = false;

  const send = (frame) => client.send({ ...frame, to: peerId }).catch((error) => console.warn(`to ${peerId}:`, error));
  const addTracks = () => media.getTracks().forEach((track) => pc.addTrack(track, media));
  const describe = async () => {
    await pc.setLocalDescription();
    const { type, sdp } = pc.localDescription;
    void send({ type, sdp });
  };
  const offer = async () => {
    makingOffer = true;
    await describe().finally(() => (makingOffer = false));
  };
  // Candidates of an offer that was ignored or replaced may still arrive.
  const isOld = ({ usernameFragment: ufrag }) => ufrag && !pc.remoteDescription?.sdp.includes(`a=ice-ufrag:${ufrag}`);
  const receive = async ({ type, sdp, candidate }) => {
    if (type === 'candidate') return pc.addIceCandidate(candidate).catch((error) => isOld(candidate) || Promise.reject(error));
    const isReady = !makingOffer && (pc.signalingState === 'stable' || settingAnswer);
    if (type === 'offer' && !isReady && !polite) return undefined;
    settingAnswer = type === 'answer';
    await pc.setRemoteDescription({ type, sdp }).finally(() => (settingAnswer = false));
    if (type !== 'offer') return undefined;
    // The polite peer adds its tracks now, so that it has nothing to offer before.
    if (pc.getSenders().every(({ track }) => track === null)) addTracks();
    return describe();
  };
  const restart = () => {
    pc.restartIce();
    if (pc.signalingState === 'have-local-offer') void offer();
  };

  pc.onnegotiationneeded = offer;
  pc.onicecandidate = ({ candidate }) => candidate && void send({ type: 'candidate', candidate });
  pc.ontrack = ({ streams: [stream] }) => (video.srcObject = stream);
  pc.onconnectionstatechange = () => pc.connectionState === 'failed' && pc.restartIce();
  if (!polite) addTracks();
  const close = () => {
    pc.close();
    video.remove();
    if (connections.get(peerId) === connection) connections.delete(peerId);
  };
  // The peer may come back while its media arrives, and then it continues with this connection.
  const closeIfGone = () => {
    if (client.peers.has(peerId)) return;
    if (pc.connectionState === 'connected') setTimeout(closeIfGone, 5_000);
    else close();
  };
  // An offer with another fingerprint belongs to a new connection of the peer.
  const isReplacedBy = ({ type, sdp }) => type === 'offer' && pc.remoteDescription !== null && fingerprintOf(sdp) !== fingerprintOf(pc.remoteDescription.sdp);
  const connection = { receive, restart, close, closeIfGone, isReplacedBy };
  connections.set(peerId, connection);
}

function connectAll(peers) {
  for (const connection of connections.values()) connection.close();
  for (const peer of peers) connect(peer);
}

// A new peer: at first, and after a resume was impossible. A detached peer is in `peers` too: an
// offer waits until it resumes, and `peer-left` follows if it does not.
client.on('joined', ({ peers }) => connectAll(peers));
// A peer that is known already has come back after the server had lost its state.
client.on('peer-joined', (peer) => (connections.has(peer.peerId) ? connections.get(peer.peerId).restart() : connect(peer)));
client.on('peer-left', ({ peerId }) => connections.get(peerId)?.close());
const receive = (frame) => {
  const old = connections.get(frame.from);
  if (old?.isReplacedBy(frame)) {
    old.close();
    connect(client.peers.get(frame.from));
  }
  void connections.get(frame.from)?.receive(frame);
};
for (const type of ['offer', 'answer', 'candidate']) client.on(type, receive);
// Without `recovered`, frames may be lost, so the two sides may have different descriptions. A peer
// that is missing may come back in a moment.
client.on('resumed', ({ recovered }) => {
  if (recovered) return;
  for (const [peerId, connection] of connections) {
    if (client.peers.has(peerId)) connection.restart();
    else setTimeout(connection.closeIfGone, 5_000);
  }
  for (const peer of client.peers.values()) if (!connections.has(peer.peerId)) connect(peer);
});
addEventListener('pagehide', () => client.leave());
await client.connect();
