/**
 * What people do with each other beside talking: messages, raised hands and reactions. Also owns the
 * public record of this person, because a raised hand is a part of it.
 */
import { ChatPanel } from './chat-panel.js';
import { OwnStatus } from './own-status.js';
import { RaisedHands } from './raised-hands.js';
import { Reactions } from './reactions.js';

export class Conversation {
  status;
  hands;
  #chat;
  #reactions;

  /**
   * @param {object} options
   * @param {import('./client/room.js').Room} options.room
   * @param {(person: import('./person-names.js').Person) => string} options.nameOf
   * @param {() => string} options.ownName
   * @param {() => void} options.onHand the own hand has changed
   * @param {AbortSignal} options.signal the end of the call
   */
  constructor({ room, nameOf, ownName, onHand, signal }) {
    this.status = new OwnStatus(room, signal);
    this.hands = new RaisedHands(room, this.status, { nameOf, onChange: onHand, signal });
    this.#chat = new ChatPanel(room, { nameOf, ownName, signal });
    this.#reactions = new Reactions(room, { nameOf, signal });
  }

  update() {
    this.hands.update();
    this.#chat.update();
    this.#reactions.update();
  }
}
