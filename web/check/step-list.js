/** Draws the steps with their verdicts, and the advice. */
import { cloneTemplate, find, setText } from '../call/dom.js';
import { adviceOf, namesOf } from './check-report.js';
import { OUTCOMES } from './check-outcomes.js';
import { text } from './check-texts.js';

/** @typedef {import('./check-outcomes.js').StepId} StepId */

/** @type {Map<StepId, Element>} */
const rows = new Map();

/** Draws all steps as they stand before a run. @param {StepId[]} ids */
export function drawSteps(ids) {
  for (const id of ids) {
    const row = rows.get(id) ?? cloneTemplate('step');
    rows.set(id, row);
    row.id = `step-${id}`;
    setText(find('.step-name', row), text(`step.${id}`));
    setText(find('.says', row), text(`about.${id}`));
    showState(row, 'waiting');
  }
  showLevel(0);
  find('#steps').replaceChildren(...rows.values());
}

/** @param {StepId} id @param {import('./step-runner.js').Result | null} result null: it runs */
export function drawStep(id, result) {
  const row = /** @type {Element} */ (rows.get(id));
  if (!result) return showState(row, 'running');
  setText(find('.says', row), text(`says.${result.outcome}`, result.values));
  return showState(row, OUTCOMES[result.outcome]);
}

/** The step of the microphone shows its level. @param {number} level 0 to 1 */
export function showLevel(level) {
  const meter = /** @type {HTMLMeterElement} */ (find('meter', rows.get('microphone')));
  meter.value = level;
}

/** @param {import('./check-report.js').Results} results @param {string} empty the text without advice */
export function drawAdvice(results, empty) {
  const entries = adviceOf(results).map(({ steps, user, operator }) => {
    const entry = cloneTemplate('advice-entry');
    setText(find('h3', entry), namesOf(steps));
    setText(find('.user', entry), user);
    setText(find('.operator', entry), operator);
    return entry;
  });
  setText(find('#advice-empty'), entries.length > 0 ? '' : empty);
  find('#advice-list').replaceChildren(...entries);
}

/** @param {Element} row @param {import('./check-outcomes.js').Verdict | 'waiting' | 'running'} state */
function showState(row, state) {
  row.setAttribute('data-state', state);
  find('use', row).setAttribute('href', `#i-${state}`);
  setText(find('.verdict', row), text(`verdict.${state}`));
}
