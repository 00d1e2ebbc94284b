/** Asks the STUN servers for a server-reflexive candidate: the address of this browser on the internet. */
import { stunServers, turnServers } from './ice-urls.js';

const DEADLINE_MS = 6_000;

/** The error of a browser for a server that does not answer. */
const NO_ANSWER = 701;

/** @type {import('./step-runner.js').Step['run']} */
export async function checkStun({ access }) {
  if (!access) return { outcome: 'needs_login' };
  if (access.icePolicy === 'relay') return { outcome: 'stun_not_used' };
  const stun = stunServers(access.iceServers);
  // Without a STUN server, browsers ask the TURN servers that they reach over UDP.
  const servers = stun.length > 0 ? stun : turnServers(access.iceServers, 'UDP');
  if (servers.length === 0) return { outcome: 'stun_missing' };
  return gather(servers, stun.length > 0 ? 'STUN' : 'TURN');
}

/**
 * @param {RTCIceServer[]} iceServers
 * @param {string} server
 * @returns {Promise<import('./step-runner.js').Result>}
 */
async function gather(iceServers, server) {
  const began = performance.now();
  /** @type {RTCPeerConnection} */
  let pc;
  try {
    pc = new RTCPeerConnection({ iceServers });
  } catch {
    return { outcome: 'ice_url_refused' };
  }
  try {
    return await new Promise((resolve) => {
      /** @type {Set<string>} */
      const silent = new Set();
      setTimeout(() => resolve({ outcome: 'stun_silent', values: { server } }), DEADLINE_MS);
      pc.addEventListener('icecandidateerror', (event) => {
        const { errorCode, url } = /** @type {RTCPeerConnectionIceErrorEvent} */ (event);
        if (errorCode === NO_ANSWER) silent.add(url);
      });
      pc.addEventListener('icecandidate', ({ candidate }) => {
        const ms = Math.round(performance.now() - began);
        if (candidate?.type === 'srflx') resolve({ outcome: 'stun_answered', values: { server, ms } });
        // A browser keeps an address to itself if it is that of the device.
        if (candidate === null) resolve({ outcome: silent.size >= iceServers.length ? 'stun_silent' : 'stun_without_nat', values: { server } });
      });
      pc.createDataChannel('check');
      void pc.setLocalDescription();
    });
  } finally {
    pc.close();
  }
}
