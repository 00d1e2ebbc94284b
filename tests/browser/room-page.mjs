// A page that runs the client without the call page: a Room with one peer, and its errors.

import { until } from './person.mjs';

/** Runs in the page: joins a room and keeps what the tests ask for in `globalThis`. */
async function joinRoom([room, name, token, withCamera, pads]) {
  const { join } = await import('/client/room.js');
  const media = withCamera ? await navigator.mediaDevices.getUserMedia({ audio: true, video: true }) : undefined;
  const getToken = token && (() => token);
  Object.assign(globalThis, { errors: [], offers: 0, peer: null, pads });
  const prepare = () => {
    globalThis.room.on('error', ({ error }) => errors.push(String(error.code ?? error)));
    globalThis.room.on('peer', (other) => {
      globalThis.peer = other;
      other.on('error', (error) => errors.push(String(error.code ?? error)));
    });
    // A description of the type `pads` is too large for the server.
    const { client } = globalThis.room;
    const post = client.post.bind(client);
    client.post = (frame) => {
      if (frame.type === 'offer') globalThis.offers += 1;
      return post(frame.type === globalThis.pads ? { ...frame, sdp: `${frame.sdp}${'a=x-pad:0123456789\r\n'.repeat(2500)}` } : frame);
    };
  };
  // Before the room has peers.
  const onState = (_change, joining) => {
    if (globalThis.room === joining) return;
    globalThis.room = joining;
    prepare();
  };
  /** A moving picture, like a screen that is shared. */
  globalThis.startPicture = () => {
    const canvas = document.createElement('canvas');
    const context = canvas.getContext('2d');
    setInterval(() => context.fillRect(0, 0, (performance.now() / 10) % canvas.width, canvas.height), 50);
    return canvas.captureStream(20);
  };
  /** Whether a stream shows a picture. */
  globalThis.shows = async (stream) => {
    const video = Object.assign(document.createElement('video'), { muted: true, playsInline: true, srcObject: stream });
    document.documentElement.append(video);
    const isLate = new Promise((resolve) => setTimeout(resolve, 2_000));
    await Promise.race([video.play(), isLate]);
    const hasPicture = video.videoWidth > 0;
    video.remove();
    return hasPicture;
  };
  await join({ room, name, media, getToken, handleStorage: null, onState });
}

export class RoomPage {
  #page;

  /**
   * @param {import('./any-browser.mjs').AnyBrowser} browser
   * @param {string} origin
   * @param {{ room: string, name: string, token?: string, camera?: boolean, pads?: string }} options
   *   `token`: without it, a guest; `pads`: the type of the descriptions that are too large
   */
  static async join(browser, origin, { room, name, token, camera = true, pads = '' }) {
    const one = new RoomPage();
    // Any file of the server is a document of its origin.
    one.#page = await browser.open(`${origin}/client/room.js`);
    await one.#page.evaluate(joinRoom, [room, name, token, camera, pads]);
    return one;
  }

  /** Runs a function in the page. */
  run(run, argument) {
    return this.#page.evaluate(run, argument);
  }

  /** Waits until a function in the page returns true. */
  until(description, check, argument) {
    return until(description, () => this.#page.evaluate(check, argument));
  }

  /** Waits until the media connection to the only peer works and no negotiation is pending. */
  isConnected() {
    return this.until('connected', () => (peer?.pc.connectionState === 'connected' && peer.pc.signalingState === 'stable') || `${peer?.pc.connectionState} ${peer?.pc.signalingState} ${errors}`);
  }
}
