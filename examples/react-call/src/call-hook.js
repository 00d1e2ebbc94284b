// All calls of the client are in this file. This is the only address of Signalbox here:
import { useEffect, useState } from 'react';
import { join } from '@signalbox/client';

const SERVER = 'http://localhost:8080';

/** Joins a room when the component is mounted, and leaves it when the component is unmounted. */
export function useCall(roomName, name, media) {
  const [call, setCall] = useState({ peers: [], state: 'connecting', error: undefined });
  useEffect(() => {
    // StrictMode mounts twice, so the first join is aborted at once.
    const leaving = new AbortController();
    const leave = () => leaving.abort();
    const update = (change) => leaving.signal.aborted || setCall((before) => ({ ...before, ...change }));
    const enter = async () => {
      const onState = ({ state, error }) => update({ state, error });
      // This peer is a guest. For your own users: examples/README.md, "A page with your own users".
      const room = await join({ url: SERVER, room: roomName, name, media, signal: leaving.signal, onState });
      const updatePeers = () => update({ peers: [...room.peers.values()] });
      room.on('peer', (peer) => {
        updatePeers();
        peer.on('closed', updatePeers);
      });
    };
    enter().catch((error) => update({ state: 'closed', error }));
    addEventListener('pagehide', leave);
    return () => {
      removeEventListener('pagehide', leave);
      leave();
    };
  }, [roomName, name, media]);
  return call;
}
