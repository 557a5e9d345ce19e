// @ts-check
/** Why the model sees the chosen box: a heat map over the image, made by the server while the reader goes on. */

import {Refused, ask} from './requests.js';
import {by, chosenMark, currentView, state, tell} from './state.js';

const ASK_AGAIN_MS = 1000;

/** Which box the map is of; null while none is shown or awaited. @type {string|null} */
let wanted = null;

/** Show the map of the chosen box, or take it away again. */
export async function toggleHeat() {
  const mark = chosenMark();
  const view = currentView();
  const name = mark && view ? `${view.image.id} ${mark.id}` : null;
  if (!name || name === wanted || !mark || !view) {
    if (!name && !wanted) tell('Choose a box first: a heat map is of one box.');
    return endHeat();
  }
  endHeat();
  wanted = name;
  by('heat').setAttribute('aria-pressed', 'true');
  while (wanted === name) {
    const answer = await asked(view.image.id, mark.id);
    if (wanted !== name || !answer) return;
    say(answer);
    if (answer.state === 'done') {
      if (state.views.includes(view)) view.showHeat(answer);
      return;
    }
    if (answer.state === 'failed') return;
    await new Promise((done) => setTimeout(done, ASK_AGAIN_MS));
  }
}

/** Take the map away; the server goes on and keeps it. */
export function endHeat() {
  wanted = null;
  by('heat').setAttribute('aria-pressed', 'false');
  by('heat-says').textContent = '';
  for (const view of state.views) view?.showHeat(null);
}

/** @param {number} image @param {string} mark */
async function asked(image, mark) {
  try {
    return await ask(`/api/images/${image}/heat-map`, {method: 'POST', json: {mark}});
  } catch (error) {
    endHeat();
    if (error instanceof Refused || error instanceof Error) by('heat-says').textContent = error.message;
    return null;
  }
}

/** @param {{state: string, done: number, total: number, says: string}} answer */
function say({state: stage, done, total, says}) {
  const progress = stage === 'waiting' ? 'The heat map waits for another one.' : `Heat map: ${done} of ${total} parts hidden.`;
  by('heat-says').textContent = stage === 'done' || stage === 'failed' ? says : progress;
}
