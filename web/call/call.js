/**
 * The call page: a lobby, a call, and the way between them. Reads `?room=NAME`; `?invite=CODE` is how this person gets in, `?name=NAME` fills the
 * name in, and `?autojoin=1` joins without a click (tests and links from other pages use both).
 */
import { tokenSource } from '/client/index.js';
import { Room } from '/client/room.js';
import { bindToggles, find, say, showStream } from './dom.js';
import { Media } from './media.js';
import * as memory from './memory.js';
import { randomRoom } from './names.js';
import { CallView } from './view.js';
import * as words from './words.js';

const query = new URLSearchParams(location.search);
const media = new Media();
const lobby = /** @type {HTMLElement} */ (find('#lobby'));
const screen = /** @type {HTMLElement} */ (find('#call'));
const nameField = /** @type {HTMLInputElement} */ (find('#name'));
const roomField = /** @type {HTMLInputElement} */ (find('#room'));
const joinButton = /** @type {HTMLButtonElement} */ (find('#join-button'));

/** @type {{ room: Room, view: CallView } | null} */
let call = null;

/** What a person typed or pasted as a room: spaces and a whole link are understood. @param {string} text */
function roomName(text) {
  const trimmed = text.trim();
  const linked = URL.canParse(trimmed) ? new URL(trimmed).searchParams.get('room') : null;
  return linked ?? trimmed.replace(/\s+/g, '-');
}

/** @param {string} room */
function linkTo(room) {
  return `${location.origin}${location.pathname}?room=${encodeURIComponent(room)}`;
}

/** A reload comes back to this address, without a name or `autojoin` in it. @param {string} link */
function showAddress(link) {
  if (location.href === link) return;
  // A change of address while the document loads is taken for another navigation by whoever waits for it.
  if (document.readyState === 'complete') history.replaceState(null, '', link);
  else addEventListener('load', () => history.replaceState(null, '', link), { once: true });
}

async function join() {
  const title = roomName(roomField.value) || randomRoom();
  const name = nameField.value.trim() || 'Guest';
  memory.name.set(nameField.value.trim());
  say(find('#lobby-error'), '');
  joinButton.disabled = true;
  const user = memory.user();
  const invite = query.get('invite') ?? undefined;
  // A guest's token is asked for again before it ends; an invitation is used once, and what comes of it is refreshed.
  const getToken = invite === undefined ? undefined : tokenSource({ invite, user, name });
  const room = new Room({ room: title, name, user, media: media.stream, getToken });
  call = { room, view: new CallView({ room, media, name, title }) };
  room.client.on('state', ({ state, error }) => state === 'closed' && backToLobby(title, error));
  show(true);
  document.title = `${title} · Signalbox`;
  try {
    await room.join();
    memory.currentRoom.set(title);
    showAddress(invite === undefined ? linkTo(title) : `${linkTo(title)}&invite=${encodeURIComponent(invite)}`);
  } catch {
    // The `closed` state has said why, in the lobby.
  }
}

/** @param {string} room @param {import('/client/index.js').SignalingError} [error] */
function backToLobby(room, error) {
  call?.view.end();
  call = null;
  memory.currentRoom.set(null);
  document.title = 'Signalbox';
  joinButton.disabled = false;
  roomField.value = room;
  show(false);
  if (error && error.code !== 'left') {
    say(find('#lobby-error'), words.refusal(error, room));
    /** @type {HTMLElement} */ (find('#lobby-error')).focus();
  } else {
    joinButton.focus();
  }
}

/** @param {boolean} inCall */
function show(inCall) {
  lobby.hidden = inCall;
  screen.hidden = !inCall;
  setPeopleOpen(false);
  if (inCall) /** @type {HTMLElement} */ (find('#room-title')).focus();
}

/** @param {boolean} open */
function setPeopleOpen(open) {
  /** @type {HTMLElement} */ (find('#people')).hidden = !open;
  find('#people-button').setAttribute('aria-expanded', String(open));
}

async function copyLink() {
  const link = linkTo(find('#room-title').textContent ?? '');
  const label = find('#copy span');
  try {
    await navigator.clipboard.writeText(link);
    say(find('#status'), 'The link is copied. Send it to whoever you want to talk to.');
    label.textContent = 'Copied';
    setTimeout(() => (label.textContent = 'Copy link'), 2_000);
  } catch {
    say(find('#call-problem'), `The browser did not let the page copy. Copy this link yourself: ${link}`);
  }
}

function showPreview() {
  showStream(find('#preview'), media.stream);
  lobby.toggleAttribute('data-video', media.isOn('video'));
  say(find('#media-note'), media.error ? words.mediaProblem(media.error) : '');
}

function bind() {
  bindToggles(media);
  media.addEventListener('change', showPreview);
  find('#join').addEventListener('submit', (event) => {
    event.preventDefault();
    void join();
  });
  find('#leave').addEventListener('click', () => call?.room.leave());
  find('#copy').addEventListener('click', () => void copyLink());
  find('#people-button').addEventListener('click', () => setPeopleOpen(find('#people').hasAttribute('hidden')));
  const closePeople = () => {
    setPeopleOpen(false);
    /** @type {HTMLElement} */ (find('#people-button')).focus();
  };
  find('#people-close').addEventListener('click', closePeople);
  find('#people').addEventListener('keydown', (event) => /** @type {KeyboardEvent} */ (event).key === 'Escape' && closePeople());
  addEventListener('pagehide', hangUp);
  // Brought back by the back button, the page has hung up already.
  addEventListener('pageshow', ({ persisted }) => persisted && location.reload());
}

/**
 * The page goes, perhaps to come back by a reload, which takes its place in the room; so the room is not left. But nothing is sent any more, and
 * that much can be told: whoever sees both the socket and the media end takes the tile away.
 */
function hangUp() {
  for (const { pc } of call?.room.peers.values() ?? []) pc.close();
}

async function start() {
  const invited = query.get('room');
  roomField.value = invited ?? randomRoom();
  nameField.value = query.get('name') ?? memory.name.get();
  say(find('#lobby-title'), invited ? 'Join the call' : 'Start a call');
  bind();
  const comesBack = invited !== null && (query.get('autojoin') === '1' || memory.currentRoom.get() === invited);
  const opened = media.open();
  if (!comesBack) return nameField.focus();
  // A question about the camera may stand unanswered for long; the call does not wait for it.
  await Promise.race([opened, new Promise((resolve) => setTimeout(resolve, 2_000))]);
  return join();
}

void start();
