/**
 * The public record (metadata) of this person: whether the microphone and the camera are on, and the
 * raised hand. Owns all of it, because the server replaces the whole record at each update.
 */

/**
 * @typedef {{ audio?: boolean, video?: boolean, hand?: number }} Status `hand`: the place in the order
 *   of raised hands; absent: the hand is down
 */

export class OwnStatus {
  #room;
  /** @type {Status} */
  #status = {};
  #sent = '';

  /** @param {import('./client/room.js').Room} room @param {AbortSignal} signal */
  constructor(room, signal) {
    this.#room = room;
    // A new peer has no record yet.
    room.client.on('joined', () => this.#send((this.#sent = '')), { signal });
  }

  get hand() {
    return this.#status.hand;
  }

  /** @param {Status} change a member that is undefined is removed */
  set(change) {
    this.#status = { ...this.#status, ...change };
    if (this.#room.client.self !== null) this.#send(this.#sent);
  }

  /** Without a connection the update waits in the queue. @param {string} sent the last update */
  #send(sent) {
    const metadata = { ...this.#status };
    const text = JSON.stringify(metadata);
    if (text === sent) return;
    this.#sent = text;
    this.#room.client.update({ metadata }).catch(() => (this.#sent = ''));
  }
}
