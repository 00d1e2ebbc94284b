import { Room } from '/client/signalbox.js';
const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
const room = new Room({ room: 'ten-lines', name: 'Ada', media });
room.on('peer', (peer) => {
  const video = Object.assign(document.createElement('video'), { autoplay: true, playsInline: true, srcObject: peer.stream });
  document.body.append(video);
  peer.on('closed', () => video.remove());
});
addEventListener('pagehide', () => room.leave());
await room.join();
