/**
 * The steps of the check, in the order of the page. A step names those that must end before it. The
 * steps for ICE run one after the other, so that a check holds few places of a TURN server at a time.
 */
import { checkAccess } from './access-step.js';
import { checkClock } from './clock-step.js';
import { checkCamera, checkMicrophone } from './device-steps.js';
import { checkResume, checkUpgrade } from './signaling-steps.js';
import { checkStun } from './stun-step.js';
import { checkTurn } from './turn-steps.js';

/** @type {import('./step-runner.js').Step[]} */
export const STEPS = [
  { id: 'access', needs: [], run: checkAccess },
  { id: 'upgrade', needs: ['access'], run: checkUpgrade },
  { id: 'resume', needs: ['upgrade'], run: checkResume },
  { id: 'clock', needs: [], run: checkClock },
  { id: 'stun', needs: ['access'], run: checkStun },
  { id: 'turn-udp', needs: ['stun'], run: (context) => checkTurn('UDP', context) },
  { id: 'turn-tcp', needs: ['turn-udp'], run: (context) => checkTurn('TCP', context) },
  { id: 'turn-tls', needs: ['turn-tcp'], run: (context) => checkTurn('TLS', context) },
  { id: 'camera', needs: [], run: checkCamera },
  { id: 'microphone', needs: [], run: checkMicrophone },
];
