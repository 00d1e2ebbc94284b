// Both sides do the same: they join the room.
export async function answer({ server, room, stream, show }) {
  const { Room } = await import(`${server}/client/signalbox.js`);
  const joined = new Room({ url: server, room, media: stream });
  joined.on('peer', (peer) => (peer.stream ? show(peer.stream) : peer.on('stream', show)));
  await joined.join();
}

// The library is loaded before the click, as that of PeerJS is.
const { server } = Object.fromEntries(new URLSearchParams(location.search));
await import(`${server}/client/signalbox.js`);
export const call = answer;
