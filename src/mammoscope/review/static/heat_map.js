// @ts-check
/** Why the model sees the chosen box: a heat map over the image, made by the server while the reader goes on.
 *
 * Once asked for, the map of a box stays on: it is shown whenever the box is chosen, in whatever hanging, until it is taken away.
 */

import {Refused, ask} from './requests.js';
import {by, chosenMark, currentView, state, studyId, tell} from './state.js';

/** @typedef {import('./image_view.js').ImageView} ImageView */
/** @typedef {{state: string, done: number, total: number, says: string, picture: string, extent: number[]}} Answer */

const ASK_AGAIN_MS = 1000;
const KEY = `mammoscope-heat ${studyId}`;

/** The boxes whose maps are on, for as long as this window has the study. @type {Set<string>} */
const on = new Set(JSON.parse(sessionStorage.getItem(KEY) ?? '[]'));

/** Maps that are done. @type {Map<string, Answer>} */
const done = new Map();

/** What is shown, or awaited, and where. @type {{name: string, view: ImageView|undefined}} */
let shown = {name: '', view: undefined};

/** Show the map of the chosen box from now on, or take it away again. */
export function toggleHeat() {
  const name = nameOfChosen();
  if (!name) return tell('Choose a box first: a heat map is of one box.');
  if (!on.delete(name)) on.add(name);
  sessionStorage.setItem(KEY, JSON.stringify([...on]));
  return followHeat();
}

/** Show the map of the box that is chosen now, if it is on, and no other. */
export async function followHeat() {
  const [name, view] = [nameOfChosen(), currentView()];
  const wanted = on.has(name);
  by('heat').setAttribute('aria-pressed', String(wanted));
  if (!wanted || !view) return hide();
  if (shown.name === name && shown.view === view) return undefined;
  hide();
  shown = {name, view};
  while (shown.name === name && shown.view === view) {
    const answer = done.get(name) ?? await asked(name);
    if (shown.name !== name || shown.view !== view || !answer) return undefined;
    say(answer);
    if (answer.state === 'done') {
      done.set(name, answer);
      return view.showHeat(answer);
    }
    if (answer.state === 'failed') return undefined;
    await new Promise((later) => setTimeout(later, ASK_AGAIN_MS));
  }
  return undefined;
}

/** A box by its image, its name and its place: of one that is moved it is another map. */
function nameOfChosen() {
  const [mark, view] = [chosenMark(), currentView()];
  return mark && view ? [view.image.id, mark.id, mark.label, ...mark.box].join(' ') : '';
}

function hide() {
  shown = {name: '', view: undefined};
  by('heat-says').textContent = '';
  for (const view of state.views) view?.showHeat(null);
}

/** @param {string} name @returns {Promise<Answer|null>} */
async function asked(name) {
  const [image, mark] = name.split(' ');
  try {
    return await ask(`/api/images/${image}/heat-map`, {method: 'POST', json: {mark}});
  } catch (error) {
    if (shown.name === name && (error instanceof Refused || error instanceof Error)) by('heat-says').textContent = error.message;
    on.delete(name);
    by('heat').setAttribute('aria-pressed', 'false');
    return null;
  }
}

/** @param {Answer} answer */
function say({state: stage, done: hidden, total, says}) {
  const progress = stage === 'waiting' ? 'The heat map waits for another one.' : `Heat map: ${hidden} of ${total} parts hidden.`;
  by('heat-says').textContent = stage === 'done' || stage === 'failed' ? says : progress;
}
