import { join } from '/client/signalbox.js';
const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
const room = await join({ room: 'ten-lines', name: 'Ada', media });
room.on('peer', (peer) => {
  const video = document.createElement('video');
  Object.assign(video, { autoplay: true, playsInline: true, srcObject: peer.stream });
  document.body.append(video);
  peer.on('closed', () => video.remove());
});
addEventListener('pagehide', () => room.leave());
