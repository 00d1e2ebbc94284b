/**
 * Reads the mailbox of this peer (docs/PROTOCOL.md, section 3.3): finds gaps and duplicates, and
 * acknowledges entries to the server. Does not interpret the entries.
 */

const ACK_ENTRIES = 64;
// The mailbox is also bounded by bytes (1 MiB by default), and 64 large offers would fill it.
const ACK_CHARACTERS = 128 * 1024;
const ACK_MS = 5_000;

export class MailboxReader {
  /** The last entry that was read; a resumed mailbox continues after it. */
  seq = 0;
  /** How many entries the server does not know yet to be read, and their length. */
  #entries = 0;
  #characters = 0;
  #ackEntries = ACK_ENTRIES;
  /** Sender → its highest message id so far. @type {Map<string, number>} */
  #lastIds = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #sendReceived;

  /** @param {(seq: number) => void} sendReceived sends the frame `received` */
  constructor(sendReceived) {
    this.#sendReceived = sendReceived;
  }

  /**
   * Starts with the mailbox of a new peer.
   *
   * @param {number} seq the number before the first entry
   * @param {number} backlog how many entries the mailbox holds before the server refuses more
   */
  start(seq, backlog) {
    this.#lastIds.clear();
    this.resume(backlog, seq);
  }

  /**
   * Continues on a new connection, whose `since` has acknowledged the entries so far, or with a new
   * mailbox of the same peer. The new mailbox may repeat messages of the old one.
   *
   * @param {number} backlog
   * @param {number} [seq] of a new mailbox: the number before its first entry
   */
  resume(backlog, seq = this.seq) {
    this.stop();
    this.seq = seq;
    this.#ackEntries = Math.min(ACK_ENTRIES, backlog / 4);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#entries = this.#characters = 0;
  }

  /**
   * Reads a frame and decides: `deliver` it, ignore it as a `double`, or drop the connection
   * because of a `gap`.
   *
   * @param {{ type: string, seq?: number, from?: string, id?: number, peerId?: string }} frame
   * @param {number} [characters] the length of the frame
   * @returns {'deliver' | 'double' | 'gap'}
   */
  read({ type, seq, from, id = 0, peerId = '' }, characters = 0) {
    // The `seq` of a first frame is the start of the mailbox, not an entry.
    if (/^(joined|resumed|waiting)$/.test(type)) return 'deliver';
    if (seq !== undefined) {
      if (seq <= this.seq) return 'double';
      if (seq !== this.seq + 1) return 'gap';
      this.seq = seq;
      this.#count(characters);
    }
    if (type === 'peer-left') this.#lastIds.delete(peerId);
    // A frame without `seq` came by direct delivery, and may come again through the mailbox.
    if (from && id) {
      if (id <= (this.#lastIds.get(from) ?? 0)) return 'double';
      this.#lastIds.set(from, id);
    }
    // These two only count.
    return /^(duplicate|superseded)$/.test(type) ? 'double' : 'deliver';
  }

  /** @param {number} characters */
  #count(characters) {
    this.#entries += 1;
    this.#characters += characters;
    if (this.#entries >= this.#ackEntries || this.#characters >= ACK_CHARACTERS) this.acknowledge();
    else this.#timer ??= setTimeout(() => this.acknowledge(), ACK_MS);
  }

  /** Acknowledges all entries so far. */
  acknowledge() {
    this.stop();
    this.#sendReceived(this.seq);
  }
}
