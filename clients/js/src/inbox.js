/**
 * The reading end of this peer's mailbox (docs/PROTOCOL.md, section 3.3): finds gaps and doubles, and tells the server how far it
 * has read. Must not interpret what it lets through.
 */

const ACKNOWLEDGE_ENTRIES = 64;
// The mailbox is bounded by bytes too (1 MiB by default): large offers fill it long before 64 entries.
const ACKNOWLEDGE_CHARACTERS = 128 * 1024;
const ACKNOWLEDGE_MS = 5_000;
const BEGINNINGS = new Set(['joined', 'resumed', 'waiting']);

export class Inbox {
  #seq = 0;
  #acknowledged = 0;
  #characters = 0;
  #every = ACKNOWLEDGE_ENTRIES;
  /** Sender → the last id it used; ids grow within a peer. @type {Map<string, number>} */
  #lastIds = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #acknowledge;

  /** @param {(seq: number) => void} acknowledge sends `received` */
  constructor(acknowledge) {
    this.#acknowledge = acknowledge;
  }

  /** The last entry that was taken: where a resumed mailbox goes on. */
  get seq() {
    return this.#seq;
  }

  /**
   * A new peer's mailbox.
   *
   * @param {number} seq the number before the first entry
   * @param {number} backlog how many entries may wait before others are refused
   */
  start(seq, backlog) {
    this.restart(seq, backlog, () => false);
  }

  /** The connection is back and the mailbox whole; `since` has told the server how far it was read. @param {number} backlog */
  resume(backlog) {
    this.#begin(this.#seq, backlog);
  }

  /**
   * The mailbox of this peer is another now, but what it holds may have been heard from the old one.
   *
   * @param {number} seq the number before the first entry
   * @param {number} backlog
   * @param {(peerId: string) => boolean} isKnown who may still be heard of
   */
  restart(seq, backlog, isKnown) {
    for (const peerId of this.#lastIds.keys()) if (!isKnown(peerId)) this.#lastIds.delete(peerId);
    this.#begin(seq, backlog);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /**
   * What to do with a frame: `deliver` it, forget it as a `double`, or give up the connection because of a `gap`.
   *
   * @param {{ type: string, seq?: number, from?: string, id?: number, peerId?: string }} frame
   * @param {number} [characters] how long it was
   * @returns {'deliver' | 'double' | 'gap'}
   */
  take(frame, characters = 0) {
    // The `seq` of a first frame is where the mailbox begins, not an entry of it.
    if (BEGINNINGS.has(frame.type)) return 'deliver';
    if (frame.seq !== undefined) {
      if (frame.seq <= this.#seq) return 'double';
      if (frame.seq !== this.#seq + 1) return 'gap';
      this.#seq = frame.seq;
      this.#characters += characters;
      this.#progress();
    }
    if (frame.type === 'peer-left' && frame.peerId !== undefined) this.#lastIds.delete(frame.peerId);
    // Also without `seq`: what came past the mailbox while the store was away may come again through it.
    return this.#isDouble(frame) || frame.type === 'duplicate' ? 'double' : 'deliver';
  }

  /** @param {number} seq @param {number} backlog */
  #begin(seq, backlog) {
    this.stop();
    this.#seq = this.#acknowledged = seq;
    this.#characters = 0;
    this.#every = Math.max(1, Math.min(ACKNOWLEDGE_ENTRIES, Math.floor(backlog / 4)));
  }

  /** @param {{ from?: string, id?: number }} frame */
  #isDouble({ from, id }) {
    if (from === undefined || id === undefined) return false;
    if (id <= (this.#lastIds.get(from) ?? 0)) return true;
    this.#lastIds.set(from, id);
    return false;
  }

  #progress() {
    const due = this.#seq - this.#acknowledged >= this.#every || this.#characters >= ACKNOWLEDGE_CHARACTERS;
    if (due) this.tell();
    else this.#timer ??= setTimeout(() => this.tell(), ACKNOWLEDGE_MS);
  }

  /** Tells the server how far this side has read. */
  tell() {
    this.stop();
    this.#acknowledged = this.#seq;
    this.#characters = 0;
    this.#acknowledge(this.#seq);
  }
}
