// @ts-check
/** What hangs where: four views, one, the same view of an earlier study beside, or all of it in a row below. */

import {ImageView, fitting, windowOf} from './image_view.js';
import {Refused, Unreachable, ask} from './requests.js';
import {boxesOf, by, currentView, displays, earlierImages, imageOf, images, state, study, tell} from './state.js';

/** @typedef {import('./state.js').Image} Image */
/** @typedef {import('./image_view.js').Display} Display */
/** @typedef {{chosen: () => void, picked: (mark: string|null) => void, moved: (image: number, mark: string, box: number[]) => void,
 *   drawn: (image: number, box: number[]) => void, over: (image: number, mark: string|null) => void, ended: () => void}} Told */

const HANGING = ['R CC', 'L CC', 'R MLO', 'L MLO'];

/** @type {Told} */
let told;

/** One hanging after another: a key pressed again while images come waits for its turn. */
let turn = Promise.resolve();

/** Say who is told what a reader does on a view. @param {Told} whom */
export function tellOf(whom) {
  told = whom;
}

/** @param {import('./state.js').Hanging} [wanted] */
export function hang(wanted) {
  turn = turn.then(() => hangNow(wanted ?? state.hanging));
  return turn;
}

/** @param {'beside'|'priors'} wanted */
export async function hangEarlier(wanted) {
  if (state.hanging === wanted) return hang('four');
  if (!study.earlier.length) return tell('There is no earlier study of this patient here.');
  const chosen = /** @type {HTMLSelectElement} */ (by('earlier')).value;
  const earlier = await ask(`/api/studies/${chosen || study.earlier[0].id}`);
  const on = earlier.study.taken_on || 'earlier';
  earlierImages.clear();
  for (const image of earlier.images) earlierImages.set(image.id, {...image, name: `${image.name} ${on}`});
  if (wanted === 'beside' && !besides()) {
    const now = images.get(state.hung[state.current]);
    return tell(`The earlier study has no ${now ? now.name : 'such view'}.`);
  }
  return hang(wanted);
}

/** All views at one scale, each as large as fits all. */
export function align() {
  const there = state.views.flatMap((view) => view ?? []);
  const resolution = Math.max(...there.map((view) => view.fittingResolution()));
  for (const view of there) view.fit(resolution);
}

/** @param {number} place */
export function choose(place) {
  if (!state.hung[place]) return;
  if (place !== state.current) state.selected = null;
  state.current = place;
  [...by('views').children].forEach((element, at) => element.classList.toggle('chosen', at === place));
  showWindows();
  told.chosen();
}

/** @param {boolean} on */
export function magnify(on) {
  state.magnifying = on;
  by('magnify').setAttribute('aria-pressed', String(on));
  state.views.forEach((view, place) => view?.magnify(on && place === state.current));
}

/** @param {Display} display */
export function windowFor(display) {
  const {shift} = state;
  const curve = Math.min(shift.curve, display.curves.length - 1);
  const {low, high} = windowOf(display, curve);
  const range = high - low;
  return {low: low + shift.low * range, high: Math.max(high + shift.high * range, low + shift.low * range + 1), inverted: shift.inverted, curve};
}

export function applyWindow() {
  for (const view of state.views) view?.setWindow(windowFor(view.display));
  showWindows();
}

/** @param {number} curve */
export function preset(curve) {
  state.shift = {low: 0, high: 0, inverted: state.shift.inverted, curve};
  applyWindow();
}

/** The file's windows of the chosen image, to choose from. */
function showWindows() {
  const view = currentView();
  const list = /** @type {HTMLSelectElement} */ (by('window'));
  if (!view) return;
  list.replaceChildren(...view.display.curves.map(({name}, place) => new Option(name, String(place))));
  list.value = String(view.window.curve);
}

/** @param {number} dx @param {number} dy */
export function dragWindow(dx, dy) {
  // 500 pixels of the screen are one whole range: to the right wider, up brighter.
  const {shift} = state;
  const [wider, level] = [dx / 500, dy / 500];
  if (shift.high + wider / 2 - (shift.low - wider / 2) > -0.999) {
    shift.low += level - wider / 2;
    shift.high += level + wider / 2;
  }
  applyWindow();
}

/** @param {import('./state.js').Hanging} wanted */
async function hangNow(wanted) {
  for (const view of state.views) view?.dispose();
  state.views = [];
  const before = state.hung[state.current];
  state.hanging = wanted;
  state.hung = placesOf(wanted, images.has(before) ? before : 0);
  state.current = Math.max(0, state.hung.indexOf(before));
  if (!state.hung[state.current]) state.current = Math.max(0, state.hung.findIndex(Boolean));
  const box = by('views');
  const kept = new Map([...document.querySelectorAll('img.preview')].map((image) => [Number(/** @type {HTMLElement} */ (image).dataset.image), image]));
  box.className = `views ${{8: 'priors', 4: 'four', 2: 'two', 1: 'one'}[state.hung.length]}`;
  box.replaceChildren(...state.hung.map((id, place) => placeFor(id, place, kept.get(id))));
  await Promise.all(state.hung.map((id, place) => (id ? show(id, place) : null)));
  align();
  choose(state.current);
  magnify(state.magnifying);
  document.body.dataset.ready = 'yes';
}

/** @param {import('./state.js').Hanging} wanted @param {number} before the image that was chosen */
function placesOf(wanted, before) {
  const four = fourOf([...images.values()]);
  const all = [...images.keys()];
  if (wanted === 'one') return [before || all[0]];
  if (wanted === 'beside') return [before || all[0], besides(before || all[0])];
  if (wanted === 'priors') return [...four, ...fourOf([...earlierImages.values()])];
  return four.filter(Boolean).length > 1 ? four : all.slice(0, 1);
}

/** The four views of a study; where it has none of them, its first images. @param {Image[]} all @returns {number[]} */
function fourOf(all) {
  const four = HANGING.map((view) => all.find((image) => `${image.laterality} ${image.view}` === view)?.id ?? 0);
  return four.some(Boolean) ? four : HANGING.map((_, place) => all[place]?.id ?? 0);
}

/** The earlier image of the same view; 0 where there is none. @param {number} [id] */
function besides(id = state.hung[state.current]) {
  const now = images.get(id);
  return [...earlierImages.values()].find((one) => now && one.laterality === now.laterality && one.view === now.view)?.id ?? 0;
}

/** @param {number} id @param {number} place @param {Element} [preview] that is there already */
function placeFor(id, place, preview) {
  const element = document.createElement('div');
  const map = document.createElement('div');
  const name = document.createElement('span');
  const image = imageOf(id);
  element.className = `view ${(image?.laterality ?? (place % 2 ? 'L' : 'R')) === 'L' ? 'right' : 'left'}`;
  element.dataset.image = String(id || '');
  map.className = 'map';
  map.tabIndex = id ? 0 : -1;
  map.setAttribute('role', 'application');
  map.setAttribute('aria-label', image ? `Mammogram ${image.name}` : 'no image of this view');
  map.addEventListener('focus', () => choose(place));
  name.className = 'name';
  name.textContent = image ? image.name : `no ${HANGING[place % 4]}`;
  element.append(...(id && displays.has(id) ? [preview ?? previewOf(id)] : []), map, name);
  return element;
}

/** @param {number} id */
function previewOf(id) {
  const picture = document.createElement('img');
  picture.className = 'preview';
  picture.alt = '';
  picture.dataset.image = String(id);
  picture.src = `/api/images/${id}/preview`;
  return picture;
}

/** @param {number} id @param {number} place */
async function show(id, place) {
  const image = /** @type {Image} */ (imageOf(id));
  const element = /** @type {HTMLElement} */ (by('views').children[place]);
  const map = /** @type {HTMLElement} */ (element.querySelector('.map'));
  try {
    let display = displays.get(id);
    if (!display) {
      element.dataset.waiting = 'The image is being prepared.';
      display = /** @type {Display} */ (await patiently(`/api/images/${id}`));
      displays.set(id, display);
      delete element.dataset.waiting;
    }
    const view = new ImageView(map, image, display, {
      chosen: () => choose(place),
      picked: (mark) => { choose(place); told.picked(mark); },
      moved: (mark, box) => told.moved(id, mark, box),
      drawn: (box) => told.drawn(id, box),
      windowed: (dx, dy) => dragWindow(dx, dy),
      value: (text) => { by('value').textContent = text; },
      over: (mark) => told.over(id, mark),
      lost: (status, sentence) => (status === 401 ? told.ended() : tell(sentence)),
    }, commonScale(display, map));
    view.watchClicks();
    view.editable = images.has(id);
    view.map.once('rendercomplete', () => element.querySelector('.preview')?.remove());
    view.setWindow(windowFor(display));
    state.views[place] = view;
    view.showBoxes(boxesOf(image), null);
  } catch (error) {
    delete element.dataset.waiting;
    const said = document.createElement('p');
    said.className = 'trouble warning';
    said.textContent = error instanceof Error ? error.message : String(error);
    element.append(said);
    if (error instanceof Refused && error.status === 401) told.ended();
    else if (!(error instanceof Refused || error instanceof Unreachable)) throw error;
  }
}

/** The scale at which all that hangs fits, before all of it is there: no view loads tiles of another scale first.
 * @param {Display} display @param {HTMLElement} element */
function commonScale(display, element) {
  const {clientWidth: width, clientHeight: height} = element;
  const sizes = state.hung.flatMap((id) => imageOf(id) ?? []).flatMap(({rows, columns}) => (rows && columns ? {rows, columns} : []));
  return Math.max(...[display, ...sizes].map((size) => fitting(size, width, height)));
}

/** Asked again when the server is in trouble that may pass, as a decoder is that does not start in time. @param {string} url */
async function patiently(url) {
  for (let left = 3; ; left -= 1) {
    try {
      return await ask(url);
    } catch (error) {
      if (!(error instanceof Unreachable) || !left) throw error;
      await new Promise((done) => setTimeout(done, 2000));
    }
  }
}
