export type Peer = import('./peer.js').Peer;
export type Room = import('./room.js').Room;
export type UseRoomOptions = Omit<import('./room.js').RoomOptions, 'signal' | 'onState'>;
export type RoomView = {
    /**
     * null until the component is mounted
     */
    room: Room | null;
    /**
     * `connecting` until the component is mounted
     */
    state: import('./client.js').ClientState;
    /**
     * why the connection is lost, or
     * why this peer is not in the room
     */
    error?: import('./signaling-error.js').SignalingError;
    /**
     * until the next attempt, in the state `waiting`
     */
    retryInMs?: number;
    /**
     * the other peers
     */
    peers: readonly Peer[];
};
export type PeerView = {
    state: import('./peer.js').PeerState;
    name: string;
    info: import('./messages.js').PeerEntry;
    /**
     * the microphone and the camera; always the same object
     */
    stream: MediaStream;
    /**
     * by name, such as `screen`
     */
    streams: ReadonlyMap<string, MediaStream>;
    /**
     * null until it is open
     */
    dataChannel: RTCDataChannel | null;
};
/**
 * Is in the room while the component is mounted. Another `url`, `room`, `user` or `name` is another
 * room. Other `media` replace the tracks in the same room. The other options are those of the first
 * render with this room.
 *
 * @param {UseRoomOptions} options
 * @returns {RoomView}
 */
export declare function useRoom(options: UseRoomOptions): RoomView;
/**
 * Renders the component again when the peer changes: its state, name, tracks or data channel.
 *
 * @param {Peer} peer
 * @returns {PeerView}
 */
export declare function usePeer(peer: Peer): PeerView;
