export type Peer = import('./peer.js').Peer;
export type SignalingClient = import('./client.js').SignalingClient;
export type TroubleCode = import('./trouble.js').TroubleCode;
export type Trouble = {
    code: TroubleCode | null;
};
export type SelectedPair = {
    /**
     * the type of the candidate of this side: `host`, `srflx`, `prflx`, `relay`
     */
    local: string;
    /**
     * that of the peer
     */
    remote: string;
    relayed: boolean;
    /**
     * `udp`, `tcp` or `tls`; with a relay of this side the protocol to the relay
     */
    protocol: string;
    roundTripMs?: number;
};
export type Diagnosis = {
    state: import('./peer.js').PeerState;
    trouble: TroubleCode | null;
    /**
     * null without a connection
     */
    pair: SelectedPair | null;
    /**
     * `type protocol`, such as `host udp`
     */
    candidates: {
        local: string[];
        remote: string[];
    };
    /**
     * of ICE servers; 701:
     * no answer
     */
    errors: {
        kind: 'stun' | 'turn';
        protocol: string;
        code: number;
    }[];
};
export declare class ConnectionReport {
    #private;
    /**
     * @param {Peer} peer
     * @param {{ client: SignalingClient, since: number, errors: RTCPeerConnectionIceErrorEvent[],
     *   onTrouble: (trouble: Trouble) => void, restartIce: () => void }} options `since`: when the peer was
     *   made; `errors` of ICE servers: the peer adds them as they come; `restartIce`: no media
     *   arrives any more
     */
    constructor(peer: Peer, { client, since, errors, onTrouble, restartIce }: {
        client: SignalingClient;
        since: number;
        errors: RTCPeerConnectionIceErrorEvent[];
        onTrouble: (trouble: Trouble) => void;
        restartIce: () => void;
    });
    /** @returns {Promise<Diagnosis>} */
    diagnose(): Promise<Diagnosis>;
}
