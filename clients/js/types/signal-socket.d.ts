export type OnClose = (code: number, reason: string, opened: boolean) => void;
/**
 * @typedef {(code: number, reason: string, opened: boolean) => void} OnClose `opened`: whether the
 *   upgrade succeeded
 */
export declare class SignalSocket {
    #private;
    /**
     * @param {WebSocket} socket
     * @param {(text: string) => void} onText
     * @param {OnClose} onClose
     */
    constructor(socket: WebSocket, onText: (text: string) => void, onClose: OnClose);
    /** The first frame arrived. */
    endDeadline(): void;
    /** @param {string} text */
    send(text: string): void;
    /**
     * Closes the socket and reports the close now, because on a dead network the closing handshake
     * takes minutes.
     *
     * @param {string} reason a code of `LOCAL_CODES`
     */
    drop(reason: string): void;
    /**
     * Sends `leave`, as soon as the socket is open, and closes the socket.
     *
     * @returns {Promise<boolean>} whether the peer has left
     */
    leave(): Promise<boolean>;
    /** Closes the socket without a report. */
    close(): void;
}
