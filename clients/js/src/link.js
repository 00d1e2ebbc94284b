/**
 * One WebSocket from its opening to its one report of closing. Owns the socket and the deadline for the first frame; must not
 * know what a frame means, nor come back by itself.
 */

const SUBPROTOCOL = 'signalbox.v1';

/** Opening the socket and the first frame after it, together. */
const JOIN_MS = 15_000;

/**
 * @typedef {{ code: number, reason: string, opened: boolean }} Closing `opened`: whether the upgrade had succeeded
 * @typedef {{
 *   address: string, proof: string, WebSocket: typeof WebSocket,
 *   onText: (text: unknown) => void, onClose: (closing: Closing) => void,
 * }} LinkOptions
 */

export class Link {
  #socket;
  #opened = false;
  #onClose;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #deadline;

  /** @param {LinkOptions} options */
  constructor({ address, proof, WebSocket, onText, onClose }) {
    this.#onClose = onClose;
    // Token or handle go beside the subprotocol, because addresses end up in logs.
    this.#socket = new WebSocket(address, [SUBPROTOCOL, proof]);
    this.#socket.onopen = () => (this.#opened = true);
    this.#socket.onmessage = ({ data }) => onText(data);
    this.#socket.onclose = ({ code, reason }) => this.#report(code, reason);
    // Without a handler an injected socket may throw; the close that follows says all there is.
    this.#socket.onerror = () => {};
    this.#deadline = setTimeout(() => this.drop('join_timeout'), JOIN_MS);
  }

  /** The first frame came. */
  joined() {
    clearTimeout(this.#deadline);
  }

  /** @param {string} text */
  send(text) {
    if (this.#socket.readyState === 1) this.#socket.send(text);
  }

  /**
   * Gives the socket up and reports at once: on a dead network the closing handshake takes minutes.
   *
   * @param {string} reason one of the local codes
   */
  drop(reason) {
    this.#report(1006, reason);
    this.end();
  }

  /** Closes without a report. */
  end() {
    clearTimeout(this.#deadline);
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close(1000);
  }

  /** @param {number} code @param {string} reason */
  #report(code, reason) {
    clearTimeout(this.#deadline);
    this.#socket.onclose = this.#socket.onmessage = null;
    this.#onClose({ code, reason, opened: this.#opened });
  }
}
