/**
 * One WebSocket, from its opening to one report of its close. Owns the socket and the deadline for
 * the first frame. Does not parse frames, and does not reconnect.
 */
import { isRetryable } from './signaling-error.js';

/** The time for the opening of the socket and the first frame. */
const JOIN_MS = 15_000;

/** The time for the opening of the socket, a `leave` and the close that answers it. */
const LEAVE_MS = 3_000;

/**
 * @typedef {(code: number, reason: string, opened: boolean) => void} OnClose `opened`: whether the
 *   upgrade succeeded
 */

export class SignalSocket {
  #socket;
  #opened = false;
  #onClose;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #deadline = setTimeout(() => this.drop('join_timeout'), JOIN_MS);

  /**
   * @param {WebSocket} socket
   * @param {(text: string) => void} onText
   * @param {OnClose} onClose
   */
  constructor(socket, onText, onClose) {
    this.#socket = socket;
    this.#onClose = onClose;
    socket.onopen = () => (this.#opened = true);
    socket.onmessage = ({ data }) => onText(data);
    socket.onclose = ({ code, reason }) => this.#reportClose(code, reason);
    // An injected socket may throw without an error handler. A close follows each error.
    socket.onerror = () => {};
  }

  /** The first frame arrived. */
  endDeadline() {
    clearTimeout(this.#deadline);
  }

  /** @param {string} text */
  send(text) {
    if (this.#socket.readyState === 1) this.#socket.send(text);
  }

  /**
   * Closes the socket and reports the close now, because on a dead network the closing handshake
   * takes minutes.
   *
   * @param {string} reason a code of `LOCAL_CODES`
   */
  drop(reason) {
    this.#reportClose(1006, reason);
    this.close();
  }

  /**
   * Sends `leave`, as soon as the socket is open, and closes the socket.
   *
   * @returns {Promise<boolean>} whether the peer has left
   */
  leave() {
    const socket = this.#socket;
    const send = () => {
      socket.send('{"type":"leave"}');
      socket.close(1000);
    };
    clearTimeout(this.#deadline);
    socket.onmessage = null;
    return new Promise((resolve) => {
      /** @param {boolean} hasLeft */
      const end = (hasLeft) => {
        this.close();
        resolve(hasLeft);
      };
      this.#deadline = setTimeout(() => end(false), LEAVE_MS);
      /** @type {{ unref?: () => void }} */ (this.#deadline).unref?.();
      // The server handles `leave` before it answers the close.
      socket.onclose = ({ code }) => end(!isRetryable(code));
      if (socket.readyState === 1) send();
      else socket.onopen = send;
    });
  }

  /** Closes the socket without a report. */
  close() {
    clearTimeout(this.#deadline);
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close(1000);
  }

  /** @param {number} code @param {string} reason */
  #reportClose(code, reason) {
    clearTimeout(this.#deadline);
    this.#socket.onclose = this.#socket.onmessage = null;
    this.#onClose(code, reason, this.#opened);
  }
}
