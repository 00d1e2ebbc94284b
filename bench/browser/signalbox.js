// The library is loaded before the click, as that of PeerJS is.
const { server } = Object.fromEntries(new URLSearchParams(location.search));
const { Room } = await import(`${server}/client/signalbox.js`);

// Both sides do the same: they join the room.
export function answer({ server, room, stream, show }) {
  const joined = new Room({ url: server, room, media: stream });
  // The first track of the other side, as `stream` of PeerJS.
  joined.on('peer', (peer) => peer.on('track', () => show(peer.stream)));
  return joined.join();
}

export const call = answer;
