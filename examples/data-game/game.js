// A game over data channels, without a camera. This is the only address of Signalbox here:
const SERVER = 'http://localhost:8080';
const { join } = await import(`${SERVER}/client/signalbox.js`);

const SIZE = 8;
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
/** Each page owns one player and sends its state to the others; no page changes another player. */
const self = { x: Math.floor(Math.random() * SIZE), y: Math.floor(Math.random() * SIZE), score: 0 };
const others = new Map();
const channels = new Map();

/** All calls of the client are in this function. */
async function joinGame() {
  const name = `Player ${Math.floor(Math.random() * 900) + 100}`;
  const onState = ({ state, error }) => showText(state === 'open' ? `You are ${name}.` : `${state} … ${error?.message ?? ''}`);
  const room = await join({ url: SERVER, room: 'star-game', name, onState });
  room.on('peer', (peer) => {
    peer.on('datachannel', (channel) => {
      channels.set(peer.peerId, channel);
      channel.onmessage = ({ data }) => receive(peer, data);
      channel.send(JSON.stringify(self));
    });
    peer.on('closed', () => {
      channels.delete(peer.peerId);
      others.delete(peer.peerId);
      draw();
    });
  });
  addEventListener('pagehide', () => room.leave());
}

/** A peer may send anything, so only a valid state is used. */
function receive({ peerId, name }, data) {
  let state;
  try {
    state = JSON.parse(data);
  } catch {
    return;
  }
  const isCount = (value, end) => Number.isInteger(value) && value >= 0 && value < end;
  if (!isCount(state?.x, SIZE) || !isCount(state.y, SIZE) || !isCount(state.score, 1000)) return;
  others.set(peerId, { name, x: state.x, y: state.y, score: state.score });
  draw();
}

function move(key) {
  const [dx, dy] = STEPS[key];
  const clamp = (value) => Math.min(SIZE - 1, Math.max(0, value));
  [self.x, self.y] = [clamp(self.x + dx), clamp(self.y + dy)];
  const star = starPlace();
  if (self.x === star.x && self.y === star.y) self.score += 1;
  for (const channel of channels.values()) if (channel.readyState === 'open') channel.send(JSON.stringify(self));
  draw();
}

/** All pages compute the same place from the sum of all scores, so no page must decide it. */
function starPlace() {
  const caught = [self, ...others.values()].reduce((sum, { score }) => sum + score, 0);
  const number = (caught * 37 + 11) % (SIZE * SIZE);
  return { x: number % SIZE, y: Math.floor(number / SIZE) };
}

function draw() {
  const board = document.getElementById('board');
  const star = document.getElementById('star');
  const put = (element, { x, y }) => Object.assign(element.style, { gridColumn: x + 1, gridRow: y + 1 });
  put(star, starPlace());
  const players = [['You', self, true], ...[...others.values()].map((other) => [other.name, other, false])];
  board.replaceChildren(star, ...players.map(([name, player, isSelf]) => {
    const dot = Object.assign(document.createElement('span'), { className: isSelf ? 'player self' : 'player', title: name, textContent: name.slice(-3) });
    put(dot, player);
    return dot;
  }));
  document.getElementById('scores').replaceChildren(...players.map(([name, { score }]) => Object.assign(document.createElement('li'), { textContent: `${name}: ${score}` })));
}

const showText = (text) => (document.getElementById('status').textContent = text);

addEventListener('keydown', (event) => {
  if (!(event.key in STEPS)) return;
  event.preventDefault();
  move(event.key);
});
for (const button of document.querySelectorAll('[data-key]')) button.addEventListener('click', () => move(button.dataset.key));
draw();
joinGame().catch((error) => showText(error.message));
