/**
 * Reads the mailbox of this peer (docs/PROTOCOL.md, section 3.3): finds gaps and duplicates, and
 * acknowledges entries to the server. Does not interpret the entries.
 */

const ACK_ENTRIES = 64;
// The mailbox is also bounded by bytes (1 MiB by default), and 64 large offers would fill it.
const ACK_CHARACTERS = 128 * 1024;
const ACK_MS = 5_000;
const FIRST_FRAMES = new Set(['joined', 'resumed', 'waiting']);

export class MailboxReader {
  #seq = 0;
  #acked = 0;
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

  /** The last entry that was read; a resumed mailbox continues after it. */
  get seq() {
    return this.#seq;
  }

  /**
   * Starts with the mailbox of a new peer.
   *
   * @param {number} seq the number before the first entry
   * @param {number} backlog how many entries the mailbox holds before the server refuses more
   */
  start(seq, backlog) {
    this.restart(seq, backlog, () => false);
  }

  /**
   * Continues the same mailbox on a new connection; `since` has acknowledged the entries so far.
   *
   * @param {number} backlog
   */
  resume(backlog) {
    this.#reset(this.#seq, backlog);
  }

  /**
   * Continues with a new mailbox of the same peer. It may repeat messages of the old mailbox.
   *
   * @param {number} seq the number before the first entry
   * @param {number} backlog
   * @param {(peerId: string) => boolean} isKnown whether the mailbox may hold messages of this peer
   */
  restart(seq, backlog, isKnown) {
    for (const peerId of this.#lastIds.keys()) if (!isKnown(peerId)) this.#lastIds.delete(peerId);
    this.#reset(seq, backlog);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /**
   * Reads a frame and decides: `deliver` it, ignore it as a `double`, or drop the connection
   * because of a `gap`.
   *
   * @param {{ type: string, seq?: number, from?: string, id?: number, peerId?: string }} frame
   * @param {number} [characters] the length of the frame
   * @returns {'deliver' | 'double' | 'gap'}
   */
  read(frame, characters = 0) {
    // The `seq` of a first frame is the start of the mailbox, not an entry.
    if (FIRST_FRAMES.has(frame.type)) return 'deliver';
    if (frame.seq !== undefined) {
      if (frame.seq <= this.#seq) return 'double';
      if (frame.seq !== this.#seq + 1) return 'gap';
      this.#seq = frame.seq;
      this.#characters += characters;
      this.#acknowledgeIfDue();
    }
    if (frame.type === 'peer-left' && frame.peerId !== undefined) this.#lastIds.delete(frame.peerId);
    // A frame without `seq` came by direct delivery, and may come again through the mailbox.
    const onlyCounts = frame.type === 'duplicate' || frame.type === 'superseded';
    return this.#isDuplicate(frame) || onlyCounts ? 'double' : 'deliver';
  }

  /** @param {number} seq @param {number} backlog */
  #reset(seq, backlog) {
    this.stop();
    this.#seq = this.#acked = seq;
    this.#characters = 0;
    this.#ackEntries = Math.max(1, Math.min(ACK_ENTRIES, Math.floor(backlog / 4)));
  }

  /** @param {{ from?: string, id?: number }} frame */
  #isDuplicate({ from, id }) {
    if (from === undefined || id === undefined) return false;
    if (id <= (this.#lastIds.get(from) ?? 0)) return true;
    this.#lastIds.set(from, id);
    return false;
  }

  #acknowledgeIfDue() {
    const due = this.#seq - this.#acked >= this.#ackEntries || this.#characters >= ACK_CHARACTERS;
    if (due) this.acknowledge();
    else this.#timer ??= setTimeout(() => this.acknowledge(), ACK_MS);
  }

  /** Acknowledges all entries so far. */
  acknowledge() {
    this.stop();
    this.#acked = this.#seq;
    this.#characters = 0;
    this.#sendReceived(this.#seq);
  }
}
