/**
 * The call page: the start page and the call. Reads `?room=NAME` and `?invite=CODE`. `?name=NAME`
 * sets the name, and `?autojoin=1` joins without a click, for tests and for links on other pages.
 */
import { earlyConnection } from './client/early-connection.js';
import { join as joinRoom } from './client/room.js';
import { ticketFor, tokenSource } from './client/token-source.js';
import { CallView } from './call-view.js';
import { copyLink } from './copy-link.js';
import { bindDevicePickers } from './device-pickers.js';
import { bindDisclosures, closeAll } from './disclosures.js';
import { find, setText, showStream } from './dom.js';
import { LevelMeter } from './level-meter.js';
import { LocalMedia } from './local-media.js';
import { bindToggles } from './media-toggles.js';
import { bindNotice } from './notice.js';
import { mediaProblemText } from './page-texts.js';
import { numberOf } from './person-names.js';
import { randomRoomName } from './room-names.js';
import { bindSettings } from './settings-dialog.js';
import { bindShortcuts } from './shortcuts.js';
import { clearOutcome, showOutcome } from './start-outcome.js';
import { currentRoom, personName, tabUser } from './tab-storage.js';
import { showText, text } from './texts.js';

const query = new URLSearchParams(location.search);

/** The server of this page, which a proxy may serve under a path prefix. */
const url = new URL('.', location.href);
const media = new LocalMedia();
const meter = new LevelMeter(find('#level'));
const startPage = /** @type {HTMLElement} */ (find('#start-page'));
const callScreen = /** @type {HTMLElement} */ (find('#call'));
const nameField = /** @type {HTMLInputElement} */ (find('#name'));
const roomField = /** @type {HTMLInputElement} */ (find('#room'));
const joinButton = /** @type {HTMLButtonElement} */ (find('#join-button'));

/** @type {{ room: import('./client/room.js').Room, view: CallView } | null} */
let call = null;

/**
 * Converts the input of the room field: accepts spaces, and a complete link to a room.
 *
 * @param {string} text
 */
function parseRoomName(text) {
  const trimmed = text.trim();
  return roomOfLink(trimmed) ?? trimmed.replace(/\s+/g, '-');
}

/** @param {string} text @returns {string | null} */
function roomOfLink(text) {
  try {
    return new URL(text).searchParams.get('room');
  } catch {
    return null; // the text is no link
  }
}

/** An invite is `sbi_SECRET.ROOM`. A link may have the invite alone. */
function roomOfInvite() {
  const invite = query.get('invite') ?? '';
  return invite.includes('.') ? invite.slice(invite.indexOf('.') + 1) : null;
}

/** @param {string} room */
function linkTo(room) {
  return `${location.origin}${location.pathname}?room=${encodeURIComponent(room)}`;
}

/** Sets the address for a reload, without `name` and `autojoin`. @param {string} link */
function showAddress(link) {
  if (location.href === link) return;
  // A change during the load would count as another navigation.
  if (document.readyState === 'complete') history.replaceState(null, '', link);
  else addEventListener('load', () => history.replaceState(null, '', link), { once: true });
}

async function join() {
  const title = parseRoomName(roomField.value) || randomRoomName();
  const user = tabUser();
  const name = nameField.value.trim() || text('start.guest', { number: numberOf(user) });
  personName.set(nameField.value.trim());
  setText(find('#start-error'), '');
  joinButton.disabled = true;
  const invite = query.get('invite') ?? undefined;
  // A guest requests a new token each time. An invite is used once, and then its refresh token.
  const getToken = invite === undefined ? undefined : tokenSource({ url, invite, user, name });
  const RTCPeerConnection = earlyConnection({ media: media.stream });
  /** @type {import('./client/room.js').RoomOptions['onState']} */
  const onState = ({ state }, room) => {
    if (state === 'closed') RTCPeerConnection?.closeUnused();
    else showCall(room, name, title);
  };
  try {
    await joinRoom({ url, room: title, name, user, media: media.stream, getToken, getTicket: ticketFor, RTCPeerConnection, onState });
    currentRoom.set(title);
    showAddress(invite === undefined ? linkTo(title) : `${linkTo(title)}&invite=${encodeURIComponent(invite)}`);
  } catch (error) {
    RTCPeerConnection?.closeUnused();
    // Without a call, its options were wrong. Otherwise its end shows the reason.
    if (!call) showStartPage(title, /** @type {import('./client/index.js').SignalingError} */ (error));
  }
}

/**
 * Shows the call while it connects, or waits in the lobby.
 *
 * @param {import('./client/room.js').Room} room
 * @param {string} name
 * @param {string} title
 */
function showCall(room, name, title) {
  if (call) return;
  call = { room, view: new CallView({ room, media, name, title, link: linkTo(title) }) };
  void room.left.then((error) => showStartPage(title, error));
  showCallScreen(true);
  document.title = `${title} · Signalbox`;
}

/** @param {string} room @param {import('./client/index.js').SignalingError} error */
function showStartPage(room, error) {
  const wasInCall = call !== null && call.room.client.self !== null;
  call?.view.close();
  call = null;
  currentRoom.set(null);
  document.title = 'Signalbox';
  joinButton.disabled = false;
  roomField.value = room;
  showCallScreen(false);
  showOutcome(error, room, wasInCall);
}

/** @param {boolean} inCall */
function showCallScreen(inCall) {
  startPage.hidden = inCall;
  callScreen.hidden = !inCall;
  closeAll();
  showPreview();
  if (inCall) /** @type {HTMLElement} */ (find('#room-title')).focus();
}

function showPreview() {
  showStream(find('#preview'), media.stream);
  for (const kind of /** @type {const} */ (['audio', 'video'])) startPage.toggleAttribute(`data-${kind}`, media.isOn(kind));
  meter.watch(startPage.hidden ? null : media.track('audio'));
  setText(find('#media-note'), previewNote());
}

function previewNote() {
  if (media.isOpening && (media.isWanted('audio') || media.isWanted('video'))) return text('preview.opening');
  if (media.error) return mediaProblemText(media.error);
  return media.isOn('video') ? '' : text('preview.off');
}

function bindControls() {
  bindToggles(media);
  bindDevicePickers(media);
  bindSettings();
  bindDisclosures();
  bindShortcuts();
  bindNotice();
  roomField.addEventListener('input', clearOutcome);
  media.addEventListener('change', showPreview);
  find('#join').addEventListener('submit', (event) => {
    event.preventDefault();
    void join();
  });
  find('#leave').addEventListener('click', () => call?.room.leave());
  const copyButton = find('#copy');
  copyButton.addEventListener('click', () => void copyLink(copyButton, linkTo(find('#room-title').textContent ?? '')));
  addEventListener('pagehide', closeConnections);
  // A page that the back button restores has closed its connections already.
  addEventListener('pageshow', ({ persisted }) => persisted && location.reload());
}

/**
 * Closes the media connections when the page closes. Does not leave the room, because a reload
 * takes over the peer. The other pages hide the tile when both the socket and the media have ended.
 */
function closeConnections() {
  for (const { pc } of call?.room.peers.values() ?? []) pc.close();
}

async function start() {
  const linkedRoom = query.get('room') ?? roomOfInvite();
  roomField.value = linkedRoom ?? randomRoomName();
  nameField.value = query.get('name') ?? personName.get();
  showText(find('#start-title'), linkedRoom ? 'start.title_join' : 'start.title');
  bindControls();
  document.documentElement.setAttribute('data-started', '');
  const joinsAtOnce = linkedRoom !== null && (query.get('autojoin') === '1' || currentRoom.get() === linkedRoom);
  showPreview();
  const opened = media.open();
  if (!joinsAtOnce) return nameField.focus();
  // The person may not answer the camera prompt for a long time, and the call must not wait for it.
  await Promise.race([opened, new Promise((resolve) => setTimeout(resolve, 2_000))]);
  return join();
}

void start();
