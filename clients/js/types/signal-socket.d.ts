export type SocketClose = {
    code: number;
    reason: string;
    opened: boolean;
};
export type SignalSocketOptions = {
    address: string;
    credential: string;
    WebSocket: typeof WebSocket;
    onText: (text: unknown) => void;
    onClose: (close: SocketClose) => void;
};
/**
 * @typedef {{ code: number, reason: string, opened: boolean }} SocketClose `opened`: whether the
 *   upgrade succeeded
 * @typedef {{
 *   address: string, credential: string, WebSocket: typeof WebSocket,
 *   onText: (text: unknown) => void, onClose: (close: SocketClose) => void,
 * }} SignalSocketOptions
 */
export declare class SignalSocket {
    #private;
    /** @param {SignalSocketOptions} options */
    constructor({ address, credential, WebSocket, onText, onClose }: SignalSocketOptions);
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
