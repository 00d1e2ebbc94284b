// A call on a page of your own web site. This is the only address of Signalbox here:
const SERVER = 'http://localhost:8080';
const { join } = await import(`${SERVER}/client/signalbox.js`);

/** All calls of the client are in this function. */
async function joinCall(name, media) {
  const leaving = new AbortController();
  byId('leave').onclick = () => leaving.abort();
  addEventListener('pagehide', () => leaving.abort());
  // This peer is a guest. For your own users: examples/README.md, "A page with your own users".
  const options = { url: SERVER, room: 'stand-up', name, media };
  const room = await join({ ...options, signal: leaving.signal, onState: ({ state, error }) => showState(state, error) });
  room.on('peer', (peer) => {
    const video = addVideo(peer.name, peer.stream);
    peer.on('closed', () => video.remove());
  });
}

const byId = (id) => document.getElementById(id);
let media;

byId('form').addEventListener('submit', async (event) => {
  event.preventDefault();
  showState('connecting');
  try {
    media = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
    addVideo('You', media).querySelector('video').muted = true;
    await joinCall(byId('name').value, media);
  } catch (error) {
    showState('closed', error);
  }
});

const TEXTS = { connecting: 'Connecting …', lobby: 'Wait until a moderator admits you.', open: 'You are in the call.', waiting: 'Trying again …', closed: 'You are not in the call.' };

function showState(state, error) {
  const isOver = state === 'closed';
  byId('form').hidden = !isOver;
  byId('leave').hidden = isOver;
  // Leaving is no failure.
  byId('status').textContent = error && !['left', 'aborted'].includes(error.code) ? `${TEXTS[state]} ${error.message}` : TEXTS[state];
  if (!isOver) return;
  for (const track of media?.getTracks() ?? []) track.stop();
  byId('videos').replaceChildren();
}

function addVideo(name, stream) {
  const figure = document.createElement('figure');
  const video = Object.assign(document.createElement('video'), { autoplay: true, playsInline: true, srcObject: stream });
  const caption = Object.assign(document.createElement('figcaption'), { textContent: name });
  figure.append(video, caption);
  byId('videos').append(figure);
  return figure;
}
