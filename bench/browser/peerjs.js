import './peerjs.min.js';

const connect = (server, id) => {
  const { hostname, port } = new URL(server);
  return new window.Peer(id, { host: hostname, port: Number(port), path: '/', config: { iceServers: [] } });
};

export function answer({ server, room, stream, show }) {
  const peer = connect(server, room);
  peer.on('call', (incoming) => {
    incoming.answer(stream);
    incoming.on('stream', show);
  });
  return new Promise((resolve) => peer.on('open', resolve));
}

export function call({ server, room, stream, show }) {
  const peer = connect(server);
  peer.on('open', () => peer.call(room, stream).on('stream', show));
}
