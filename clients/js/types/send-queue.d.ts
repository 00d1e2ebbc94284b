/**
 * The queue of pending messages: the outgoing messages, of any frame type, to which the server has
 * not given a final reply. The queue gives each message an id and keeps it over any number of
 * connections. It sends a message again after a temporary refusal (docs/PROTOCOL.md, section 3.2).
 * Owns ids, order and bounds. Does not know sockets.
 *
 * How the queue retries, by an example. Messages 5, 6 and 7 go to Bob, Carol and Dave:
 * 1. The store becomes unavailable, and the server refuses 5 with `unavailable`. The queue now holds
 *    back new messages to Bob. It still sends 6 and 7, because the server may deliver messages to
 *    other targets directly.
 * 2. The store is available again before 6 and 7 reach the server. The server now refuses every id
 *    after 5, also for other targets, until 5 arrives again. So it refuses 6 and 7. These two
 *    refusals are still on their way to the queue.
 * 3. The retry time has come. The queue must send the refused messages again in the order of their
 *    ids, and it does not know yet that 6 and 7 are among them. So it sends nothing until no message
 *    is in flight (sent and without a reply). Then it sends 5, 6 and 7, lowest id first, and after
 *    them the messages that it held back.
 *
 * Why step 3 waits: the queue could otherwise send 5, and then a new message 8 before 6 and 7. As
 * soon as 5 has arrived the server may accept 8, and then every lower id counts as accepted. It would
 * acknowledge 6 and 7 as duplicates, and they would be lost.
 *
 * "The store" is Redis, where the server keeps the mailboxes. Without it a server delivers a message
 * directly if the target is connected to the same process.
 */
import { SignalingError } from './signaling-error.js';
export type Ack = import('./messages.js').Ack;
export type ErrorFrame = import('./messages.js').ErrorFrame;
export type RefusedId = import('./messages.js').RefusedId;
export type ClientFrame = {
    type: string;
    to?: string;
    re?: number | PendingMessage;
    [member: string]: unknown;
};
/** One outgoing message in the queue. */
export declare class PendingMessage {
    frame: ClientFrame;
    /** Settles with the final reply of the server. @type {Promise<Ack>} */
    done: Promise<Ack>;
    /** @type {(ack: Ack) => void} */
    resolve: (ack: Ack) => void;
    /** @type {(error: SignalingError) => void} */
    reject: (error: SignalingError) => void;
    /**
     * The message id, set when the message is sent. It is removed again when a refusal is final for
     * the id, so that the retry uses a new id.
     *
     * @type {number | undefined}
     */
    id: number | undefined;
    /** Whether the message is in flight on the current connection. */
    isSent: boolean;
    /** The temporary refusal, while the message waits for its retry. @type {SignalingError | undefined} */
    refusal: SignalingError | undefined;
    /** When the mailbox of a target was first full. @type {number | undefined} */
    backloggedAt: number | undefined;
    /** @param {ClientFrame} frame */
    constructor(frame: ClientFrame);
    /**
     * Returns the frame as text. Messages are sent in order, so an offer of this client to which the
     * frame belongs has an id by now.
     */
    encode(): string;
}
/**
 * On each new connection the caller calls, in this order:
 * 1. {@link SendQueue.resume} if the peer is the same, or {@link SendQueue.rejoin} if the client
 *    joined as a new peer. Both decide which pending messages stay; neither sends a message.
 * 2. {@link SendQueue.open}, which starts to send.
 *
 * {@link SendQueue.pause} ends it when the connection is lost.
 */
export declare class SendQueue {
    #private;
    /**
     * @param {(text: string) => void} transmit
     * @param {number} [capacity] the maximum number of pending messages
     */
    constructor(transmit: (text: string) => void, capacity?: number);
    /** How many messages are pending, both in flight and not. */
    get size(): number;
    /**
     * Sends a frame as soon as possible. If the queue is full, the message is rejected.
     *
     * @param {ClientFrame} frame
     */
    push(frame: ClientFrame): PendingMessage;
    /**
     * Starts to send on the current connection.
     *
     * @param {number} frameBytes the limit for one frame; the server closes after a longer one
     */
    open(frameBytes: number): void;
    /** The connection is lost. All messages stay pending. */
    pause(): void;
    /**
     * The server sent `resumed` for this peer. The refused ids get their replies, and the other messages
     * up to `lastAcceptedId` are resolved. The next {@link open} sends the remaining messages again,
     * before any new message. They keep their ids, except messages that the server has refused: such a
     * refusal is final for the id, unless it was `unavailable`.
     *
     * @param {number} lastAcceptedId the `lastId` of `resumed`
     * @param {RefusedId[]} [refused] the `refused` of `resumed`
     */
    resume(lastAcceptedId: number, refused?: RefusedId[]): void;
    /**
     * The client has joined as a new peer, or waits in the lobby as one: at its first join, or because
     * it could not resume its peer. A frame `message` or `update` stays in the queue if it has no id and
     * its target is in the room. Other messages are rejected, see {@link errorAfterRejoin}.
     *
     * @param {(peerId: string) => boolean} isPresent whether this peer is in the room now
     */
    rejoin(isPresent: (peerId: string) => boolean): void;
    /**
     * Rejects all messages and stops sending, for example because this client has left the room.
     *
     * @param {SignalingError} error
     */
    rejectAll(error: SignalingError): void;
    /**
     * Settles the message that a reply belongs to, or retries it later after a temporary refusal.
     *
     * @param {Ack | ErrorFrame} reply an `ack`, or an `error` with an id
     */
    onReply(reply: Ack | ErrorFrame): void;
}
