/**
 * The check page: tests this browser on this network against this server. Without guests it needs a
 * token, as `#token=TOKEN`: a fragment never leaves the browser, and the page removes it at once.
 */
import { find, setText } from '../call/dom.js';
import { reportText } from './check-report.js';
import { STEPS } from './check-steps.js';
import { PAGE_TEXTS, STEP_TEXTS, VERDICT_NAMES, OUTCOMES, progressText, summaryText } from './check-texts.js';
import { drawAdvice, drawStep, drawSteps, labelAdvice, showLevel } from './step-list.js';
import { countVerdicts, runSteps } from './step-runner.js';

/** The server of this page, which a proxy may serve under a path prefix. */
const url = new URL('.', location.href);

const ORDER = STEPS.map(({ id }) => id);

/** @type {string | null} */
let token = null;
let report = '';
let isRunning = false;

function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get('token');
  if (given === null) return;
  token = given.trim();
  /** @type {HTMLElement} */ (find('#token-note')).hidden = false;
  const clean = () => history.replaceState(null, '', location.pathname + location.search);
  // A change during the load would count as another navigation.
  if (document.readyState === 'complete') clean();
  else addEventListener('load', clean, { once: true });
}

async function run() {
  if (isRunning) return;
  setRunning(true);
  /** @type {Map<import('./check-texts.js').StepId, import('./step-runner.js').Result>} */
  const ended = new Map();
  /** @type {import('./step-runner.js').Context} */
  const context = { url, token, onLevel: showLevel, access: null, socket: null, devices: null };
  // In the order of the page, whichever step ends first.
  const results = () => new Map([...ended].sort(([one], [other]) => ORDER.indexOf(one) - ORDER.indexOf(other)));
  drawSteps(ORDER);
  await runSteps(STEPS, context, (id, result) => {
    drawStep(id, result);
    if (!result) return;
    ended.set(id, result);
    setText(find('#status'), `${STEP_TEXTS[id].name}: ${VERDICT_NAMES[OUTCOMES[result.outcome].verdict]}. ${progressText(ended.size, STEPS.length)}`);
    drawAdvice(results(), PAGE_TEXTS.adviceLater);
  });
  const summary = summaryText(countVerdicts(ended.values()));
  drawAdvice(results(), PAGE_TEXTS.nothingToDo);
  report = reportText(results(), summary, navigator.userAgent, new Date());
  setText(find('#report'), report);
  setText(find('#status'), summary);
  setRunning(false);
}

/** @param {boolean} running */
function setRunning(running) {
  isRunning = running;
  document.body.setAttribute('data-check', running ? 'running' : 'ended');
  // A disabled button would lose the focus.
  find('#start').setAttribute('aria-disabled', String(running));
  if (running) report = '';
  find('#copy').setAttribute('aria-disabled', String(running));
  if (running) setText(find('#status'), PAGE_TEXTS.running);
  if (running) setText(find('#report'), PAGE_TEXTS.noReport);
}

async function copyReport() {
  if (report === '') return setText(find('#status'), isRunning ? PAGE_TEXTS.running : PAGE_TEXTS.noReport);
  try {
    await navigator.clipboard.writeText(report);
    setText(find('#status'), PAGE_TEXTS.copied);
  } catch {
    setText(find('#status'), PAGE_TEXTS.notCopied);
    /** @type {HTMLDetailsElement} */ (find('#report-details')).open = true;
    getSelection()?.selectAllChildren(find('#report'));
  }
}

function start() {
  labelAdvice();
  drawSteps(ORDER);
  find('#start').addEventListener('click', () => void run());
  find('#copy').addEventListener('click', () => void copyReport());
  takeToken();
  addEventListener('hashchange', takeToken);
  document.documentElement.setAttribute('data-started', '');
}

start();
