// @ts-check
/** The page of one study: what the keys do, and what the reader did. */

import {align, applyWindow, choose, dragWindow, hang, hangEarlier, magnify, preset, tellOf} from './hanging.js';
import {followHeat, toggleHeat} from './heat_map.js';
import {hasWebGL} from './image_view.js';
import {ActionQueue, Refused, ask, freshToken} from './requests.js';
import {sendToPacs, showSent} from './sent.js';
import {countHidden, describe, drawFindings} from './side_panel.js';
import {boxesOf, by, chosenMark, counted, currentImage, currentView, images, isShown, marksOf, reader, showWaiting, state, study, studyId, tell} from './state.js';

const PAIRS_MS = 300;

const queue = new ActionQueue(`${reader} ${studyId}`, {
  expected: (image) => images.get(image)?.number ?? 0,
  saved: (image, number, marks) => {
    const there = images.get(image);
    if (there) Object.assign(there, {number, marks});
    draw();
    findPairs();
  },
  refused: (image, sentence, now) => {
    const there = images.get(image);
    if (there && now) Object.assign(there, now);
    tell(sentence);
    draw();
  },
  waiting: (count, reachable) => {
    by('saved').textContent = count ? `${count} not saved yet` : 'all saved';
    if (!reachable) tell(`The server cannot be reached. ${counted(count, 'change of yours waits', 'changes of yours wait')} in this browser and will be saved when it can be again.`);
    else if (!count && by('banner').dataset.passing === 'yes') tell('');
    by('banner').dataset.passing = reachable ? '' : 'yes';
  },
  ended: sessionEnded,
});
showWaiting(queue);

function sessionEnded() {
  const link = by('log-in-again');
  link.setAttribute('href', `/login?to=${encodeURIComponent(location.pathname)}`);
  const told = /** @type {HTMLDialogElement} */ (by('ended'));
  if (!told.open) told.showModal();
  link.focus();
}

tellOf({
  chosen: draw,
  picked: pick,
  moved: (image, mark, box) => act('move', mark, {box}, image),
  drawn,
  over: light,
  ended: sessionEnded,
});

function draw() {
  state.views.forEach((view, place) => {
    const image = images.get(state.hung[place]);
    if (view && image) view.showBoxes(boxesOf(image), place === state.current ? state.selected : null);
  });
  drawFindings(pick);
  countHidden();
  light(state.hung[state.current], state.selected);
  followHeat();
}

/** @param {string|null} id */
function pick(id) {
  state.selected = id;
  const image = currentImage();
  const box = image && boxesOf(image).find((one) => one.id === id);
  if (box) currentView()?.centreOn(box.box);
  draw();
}

/** @type {ReturnType<typeof setTimeout>|undefined} */
let pairsLater;

/** Ask which boxes of two views are one lesion, once what changes them has come to rest. */
function findPairs() {
  clearTimeout(pairsLater);
  pairsLater = setTimeout(async () => {
    try {
      state.pairs = await ask(`/api/studies/${studyId}/pairs?shown_from=${state.shownFrom}`);
      light(state.hung[state.current], state.selected);
    } catch {
      state.pairs = []; // nothing is lit: whoever reads goes on, and is told by the next action what is wrong
    }
  }, PAIRS_MS);
}

/** Light a box and its partner on the other view; without one, those of the chosen box. @param {number} image @param {string|null} mark */
function light(image, mark) {
  const [on, id] = mark ? [image, mark] : [state.hung[state.current], state.selected];
  const pair = state.pairs.find((boxes) => boxes.some((box) => box.image === on && box.mark === id)) ?? [];
  state.views.forEach((view, place) => view?.light(pair.filter((box) => box.image === state.hung[place]).map((box) => box.mark)));
}

/** @param {string} kind @param {string} mark @param {Partial<import('./requests.js').Action>} [more] @param {number} [image] */
function act(kind, mark, more = {}, image = state.hung[state.current]) {
  if (study.state === 'done') return tell('You have ended this reading: press U to take it up again.');
  tell('');
  queue.add({image, token: freshToken(), kind, mark, ...more});
  return draw();
}

/** @param {number} image @param {number[]} box */
function drawn(image, box) {
  const mark = `d${freshToken()}`;
  mode('draw', false);
  state.selected = mark;
  act('draw', mark, {box, label: study.labels[0]}, image);
}

/** @param {'draw'|'measure'} which @param {boolean} on */
function mode(which, on) {
  for (const [name, tool] of /** @type {const} */ ([['draw', 'drawing'], ['measure', 'measuring']])) {
    const active = name === which && on;
    by(name).setAttribute('aria-pressed', String(active));
    for (const view of state.views) view?.[tool].setActive(active);
  }
  if (!isOn('measure')) for (const view of state.views) view?.clearMeasures();
  for (const element of by('views').children) element.classList.toggle('drawing', on);
}

const isOn = (/** @type {'draw'|'measure'} */ which) => by(which).getAttribute('aria-pressed') === 'true';

/** @type {{mark: string, box: number[], timer: any}|null} */
let nudged = null;

/** Move or resize the chosen box by keys; what is pressed quickly is one action. @param {number} dx @param {number} dy @param {boolean} corner */
function nudge(dx, dy, corner) {
  const [image, mark, view] = [currentImage(), chosenMark(), currentView()];
  if (!image || !mark || !view || !view.editable) return false;
  const from = nudged?.mark === mark.id ? nudged.box : mark.box;
  const step = Math.max(1, Math.round(view.map.getView().getResolution() ?? 1)) * 2;
  const [left, lower, right, upper] = view.toScreen(from);
  const box = view.toFile(corner ? [left, Math.min(lower - dy * step, upper - 3), Math.max(right + dx * step, left + 3), upper]
    : [left + dx * step, lower - dy * step, right + dx * step, upper - dy * step]);
  clearTimeout(nudged?.timer);
  nudged = {mark: mark.id, box, timer: setTimeout(settle, 500)};
  view.showBoxes(boxesOf(image).map((one) => (one.id === mark.id ? {...one, box} : one)), state.selected);
  return true;
}

function settle() {
  if (!nudged) return;
  const {mark, box, timer} = nudged;
  clearTimeout(timer);
  nudged = null;
  act('move', mark, {box});
}

/** @param {number} by_ */
function step(by_) {
  const image = currentImage();
  const ids = image ? boxesOf(image).map((box) => box.id) : [];
  if (!ids.length) return stepView(by_);
  const at = state.selected ? ids.indexOf(state.selected) : -1;
  const next = at < 0 ? (by_ > 0 ? 0 : ids.length - 1) : at + by_;
  return next < 0 || next >= ids.length ? stepView(by_) : pick(ids[next]);
}

/** @param {number} by_ */
function stepView(by_) {
  const places = state.hung.map((id, place) => ({id, place})).filter(({id}) => images.has(id)).map(({place}) => place);
  const at = places.indexOf(state.current);
  choose(places[(at + by_ + places.length) % places.length]);
  magnify(state.magnifying);
  const image = currentImage();
  const ids = image ? boxesOf(image).map((box) => box.id) : [];
  pick(ids.length ? ids[by_ > 0 ? 0 : ids.length - 1] : null);
}

/** @param {string} wanted @param {string} [opinion] of the study as a whole */
async function end(wanted, opinion) {
  settle();
  by('done').setAttribute('disabled', '');
  const slow = setTimeout(() => tell('The study is ended as soon as what you did is saved.'), 1500);
  await queue.drained();
  clearTimeout(slow);
  const known = Object.fromEntries([...images.values()].map((image) => [image.id, image.number]));
  try {
    const answer = await ask(`/api/studies/${studyId}/read`, {method: 'POST', json: {state: wanted, opinion, shown_from: state.shownFrom, known}});
    if (wanted === 'open') location.reload();
    else location.assign(answer.next ? `/studies/${answer.next}` : '/worklist');
  } catch (error) {
    if (error instanceof Refused && error.status === 401) sessionEnded();
    else tell(error instanceof Error ? error.message : String(error));
    by('done').removeAttribute('disabled');
  }
}

/** Take over another reader's box. */
function takeOver() {
  const image = currentImage();
  const box = image && boxesOf(image).find((one) => one.id === state.selected && one.fixed);
  if (!image || !box) return;
  const [, name, id] = box.id.match(/^other (.*) (\S+)$/) ?? [];
  const mark = image.others[name]?.find((one) => one.id === id);
  if (!mark) return;
  const same = marksOf(image).find((one) => one.id === mark.id && one.origin !== 'reader');
  if (same) { // a proposal that both were shown: a second box in its place would be a second lesion
    state.selected = same.id;
    if (String(same.box) === String(mark.box)) act('accept', same.id);
    else act('move', same.id, {box: mark.box});
    act('describe', same.id, {label: mark.label, details: mark.details});
    return;
  }
  const own = `d${freshToken()}`;
  state.selected = own;
  act('draw', own, {box: mark.box, label: mark.label, details: mark.details});
}

/** @param {'beside'|'priors'} wanted */
async function compareWith(wanted) {
  try {
    await hangEarlier(wanted);
  } catch (error) {
    tell(error instanceof Error ? error.message : String(error));
  }
}

/** @param {string} key @param {{shiftKey?: boolean, altKey?: boolean}} [event] @returns {boolean} whether the key does something */
function press(key, event = {}) {
  const view = currentView();
  const mark = chosenMark();
  const [dx, dy] = /** @type {Record<string, number[]>} */ ({ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]})[key] ?? [0, 0];
  if (dx || dy) {
    if (event.altKey) dragWindow(dx * 10, dy * 10);
    else if (isOn('measure') && view?.moveMeasure(dx * 5, dy * 5, Boolean(event.shiftKey))) return true;
    else if (!nudge(dx, dy, Boolean(event.shiftKey))) view?.pan(dx, dy);
    return true;
  }
  switch (key.length === 1 ? key.toLowerCase() : key) {
    case 'a': if (mark) act('accept', mark.id); return true;
    case 'x': if (mark) act(mark.origin === 'reader' ? 'remove' : 'reject', mark.id); return true;
    case 'Delete': case 'Backspace': if (mark) act(mark.origin === 'reader' ? 'remove' : 'reject', mark.id); return true;
    case 'z': act('undo', mark?.id ?? 'p0'); return true;
    case 'd': mode('draw', !isOn('draw')); return true;
    case 'm': mode('measure', !isOn('measure')); return true;
    case 'Enter': enter(); return true;
    case 'Tab': step(event.shiftKey ? -1 : 1); return true;
    case '1': case '2': case '3': case '4': choose(Number(key) - 1); magnify(state.magnifying); return true;
    case 'f': hang(state.hanging === 'four' ? 'one' : 'four'); return true;
    case 'e': compareWith('beside'); return true;
    case 'q': compareWith('priors'); return true;
    case 'g': toggleHeat(); return true;
    case 'l': magnify(!state.magnifying); return true;
    case 'i': state.shift.inverted = !state.shift.inverted; applyWindow(); return true;
    case 'v': preset(view ? (state.shift.curve + 1) % view.display.curves.length : 0); return true;
    case 'h': state.boxesShown = !state.boxesShown; draw(); return true;
    case '+': case '=': view?.zoom(1.4); return true;
    case '-': view?.zoom(1 / 1.4); return true;
    case '0': align(); return true;
    case '9': view?.nativePixels(mark?.box); return true;
    case '[': setThreshold(state.shownFrom - 0.05); return true;
    case ']': setThreshold(state.shownFrom + 0.05); return true;
    case 'k': takeOver(); return true;
    case 'n': end('done'); return true;
    case 'r': end('done', 'recall'); return true;
    case 't': end('done', 'technical recall'); return true;
    case 'p': end('deferred'); return true;
    case 'u': end('open'); return true;
    case 'w': location.assign('/worklist'); return true;
    case '?': /** @type {HTMLDialogElement} */ (by('help')).showModal(); return true;
    case 'Escape': leave(); return true;
    default: return false;
  }
}

function enter() {
  const view = currentView();
  if (isOn('draw') && view) drawn(state.hung[state.current], view.firstBox());
  else if (isOn('measure') && view) view.measureByKey();
  else settle();
}

/** Out of whatever the reader is in. */
function leave() {
  mode('draw', false);
  magnify(false);
  pick(null);
}

/** @param {number} score */
function setThreshold(score) {
  state.shownFrom = Math.round(Math.min(Math.max(score, 0), 1) * 100) / 100;
  /** @type {HTMLInputElement} */ (by('threshold')).value = String(Math.round(state.shownFrom * 100));
  by('shown-from').textContent = `${Math.round(state.shownFrom * 100)} %`;
  if (chosenMark() && !isShown(/** @type {import('./state.js').Mark} */ (chosenMark()))) state.selected = null;
  draw();
  findPairs();
}

function listen() {
  document.addEventListener('keydown', (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (document.querySelector('dialog[open]')) return;
    const typing = target.matches('input:not([type=range]), select, textarea');
    if (typing) {
      // Enter too ends what is typed of a finding; with Shift it is a new line of the comment.
      const ends = event.key === 'Escape' || (event.key === 'Enter' && !event.shiftKey && !event.isComposing && by('details').contains(target));
      if (!ends) return;
      if (event.key === 'Enter') event.preventDefault();
      target.blur();
      keysToTheImages();
      return;
    }
    // Buttons and the slider keep the keys that work them.
    if (target.matches('button, a') && (event.key === 'Enter' || event.key === ' ')) return;
    if (target.matches('input[type=range]') && event.key.startsWith('Arrow')) return;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() !== 'z') return;
    if (press(event.key, event)) event.preventDefault();
  });
  for (const button of document.querySelectorAll('button[data-key]')) {
    button.addEventListener('click', () => press(/** @type {HTMLElement} */ (button).dataset.key ?? ''));
  }
  by('threshold').addEventListener('input', (event) => setThreshold(Number(/** @type {HTMLInputElement} */ (event.target).value) / 100));
  by('window').addEventListener('change', (event) => preset(Number(/** @type {HTMLSelectElement} */ (event.target).value)));
  by('earlier').addEventListener('change', () => {
    const {hanging} = state;
    if (hanging !== 'beside' && hanging !== 'priors') return;
    state.hanging = 'four'; // the same key would close it
    compareWith(hanging);
  });
  by('details').addEventListener('change', () => {
    const fields = Object.fromEntries(new FormData(/** @type {HTMLFormElement} */ (by('details'))).entries());
    const {label, ...details} = /** @type {Record<string, string>} */ (fields);
    if (state.selected) act('describe', state.selected, {label, details: Object.fromEntries(Object.entries(details).filter(([, said]) => said))});
  });
  by('details').addEventListener('submit', (event) => event.preventDefault());
  by('send').addEventListener('click', sendToPacs);
  addEventListener('beforeunload', (event) => {
    settle();
    if (queue.actions.length && !queue.loggedOut) event.preventDefault();
  });
}

/** Have the keys work the chosen view again. */
function keysToTheImages() {
  /** @type {HTMLElement|null|undefined} */ (by('views').children[state.current]?.querySelector('.map'))?.focus();
}

/** @param {number} image @param {number[]} box */
function goTo(image, box) {
  const place = state.hung.indexOf(image);
  if (place >= 0) choose(place);
  currentView()?.centreOn(box);
}

async function load() {
  listen();
  describe(goTo);
  showSent();
  queue.send();
  if (!images.size) return tell('This study has no images here.');
  await hang();
  return findPairs();
}

load();

// For tests and benchmarks: what is on the screen, and nothing that a reader could not do.
Object.assign(window, {mammoscope: {images, marksOf, queue, state, views: () => state.views, hung: () => state.hung, press, setThreshold, hasWebGL}});
