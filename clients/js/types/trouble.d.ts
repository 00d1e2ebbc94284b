/**
 * Why two peers are not connected, as far as this side can tell: the rules, without a connection and
 * without a timer (see connection-report.js).
 */
export type TroubleCode = 'turn_refused' | 'turn_unreachable' | 'no_candidates' | 'no_relay' | 'udp_blocked' | 'no_path' | 'answer_missing';
export type IceServerUrl = {
    isTurn: boolean;
    host: string;
    protocol: 'udp' | 'tcp' | 'tls';
};
export type IceError = {
    url: string;
    errorCode: number;
};
export type Findings = {
    /**
     * whether the peer has described its side
     */
    hasAnswer: boolean;
    /**
     * the types of the candidates of this side: `host`, `srflx`, `relay`
     */
    local: string[];
    /**
     * those of the peer
     */
    remote: string[];
    /**
     * that this side asks for candidates
     */
    servers: IceServerUrl[];
    errors: IceError[];
    /**
     * whether each server has answered, or has been given up
     */
    hasGathered: boolean;
    /**
     * whether the server allows only relay candidates
     */
    relayOnly: boolean;
    /**
     * whether this browser reports the errors of ICE servers
     */
    knowsErrors: boolean;
};
/**
 * The rules in their order. A relay that works leaves only `no_path`. Other findings about relays come
 * before those about direct ways, because a relay that works would connect the peers.
 *
 * @param {Findings} findings
 * @returns {TroubleCode}
 */
export declare function findTrouble(findings: Findings): TroubleCode;
/**
 * Parses the URL of an ICE server (RFC 7064, RFC 7065); the protocol is that to the server.
 *
 * @param {string} url
 * @returns {IceServerUrl | undefined} undefined for another text
 */
export declare function parseServer(url: string): IceServerUrl | undefined;
/**
 * The types of the candidates in a description.
 *
 * @param {RTCSessionDescription | null} description
 */
export declare function candidateTypes(description: RTCSessionDescription | null): string[];
