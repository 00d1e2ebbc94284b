// A data channel between each two pages, without a camera: for games, documents and files.
import { join } from '/client/signalbox.js';

const room = await join({ room: 'data-only', name: 'Ada' });
room.on('peer', (peer) => {
  peer.on('datachannel', (channel) => {
    channel.onmessage = ({ data }) => document.body.append(`${peer.name} says ${data}. `);
    channel.send('hello');
  });
});
addEventListener('pagehide', () => room.leave());
