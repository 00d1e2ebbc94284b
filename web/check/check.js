/**
 * The check page: tests this browser on this network against this server. Without guests it needs a
 * token, as `#token=TOKEN`: a fragment never leaves the browser, and the page removes it at once.
 */
import { find, setText } from '../call/dom.js';
import { reportText } from './check-report.js';
import { STEPS } from './check-steps.js';
import { OUTCOMES } from './check-outcomes.js';
import { summaryText, text } from './check-texts.js';
import { drawAdvice, drawStep, drawSteps, showLevel } from './step-list.js';
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
  /** @type {Map<import('./check-outcomes.js').StepId, import('./step-runner.js').Result>} */
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
    setText(find('#status'), `${text(`step.${id}`)}: ${text(`verdict.${OUTCOMES[result.outcome]}`)}. ${text('page.progress', { ended: ended.size, count: STEPS.length })}`);
    drawAdvice(results(), text('page.advice_later'));
  });
  const summary = summaryText(countVerdicts(ended.values()));
  drawAdvice(results(), text('page.nothing_to_do'));
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
  if (running) setText(find('#status'), text('page.running'));
  if (running) setText(find('#report'), text('page.no_report'));
}

async function copyReport() {
  if (report === '') return setText(find('#status'), isRunning ? text('page.running') : text('page.no_report'));
  try {
    await navigator.clipboard.writeText(report);
    setText(find('#status'), text('page.copied'));
  } catch {
    setText(find('#status'), text('page.not_copied'));
    /** @type {HTMLDetailsElement} */ (find('#report-details')).open = true;
    getSelection()?.selectAllChildren(find('#report'));
  }
}

function start() {
  drawSteps(ORDER);
  find('#start').addEventListener('click', () => void run());
  find('#copy').addEventListener('click', () => void copyReport());
  takeToken();
  addEventListener('hashchange', takeToken);
  document.documentElement.setAttribute('data-started', '');
}

start();
