// The library is loaded before the click, as that of PeerJS is.
const { server } = Object.fromEntries(new URLSearchParams(location.search));
const { earlyConnection, join } = await import(`${server}/client/signalbox.js`);

// Both sides do the same: they join the room.
export function answer({ server, room, stream, show }) {
  // The first track of the other side, as `stream` of PeerJS.
  return join({ url: server, room, media: stream, RTCPeerConnection: earlyConnection({ media: stream }) }).then((joined) => joined.on('peer', (peer) => peer.on('track', () => show(peer.stream))));
}

export const call = answer;
