// The library is loaded before the click, as that of PeerJS is.
const { server } = Object.fromEntries(new URLSearchParams(location.search));
const { Room } = await import(`${server}/client/signalbox.js`);

// Both sides do the same: they join the room.
export function answer({ server, room, stream, show }) {
  const joined = new Room({ url: server, room, media: stream });
  joined.on('peer', (peer) => show(peer.stream));
  return joined.join();
}

export const call = answer;
