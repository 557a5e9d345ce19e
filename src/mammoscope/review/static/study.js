// @ts-check
/** The page of one study: what hangs where, what the keys do, and what the reader did. */

import {ImageView, hasWebGL, windowOf} from './image_view.js';
import {ActionQueue, Refused, Unreachable, ask, freshToken, withWaiting} from './requests.js';

/** @typedef {import('./requests.js').Mark} Mark */
/** @typedef {import('./image_view.js').Display} Display */
/** @typedef {{id: number, name: string, laterality: string|null, view: string|null, rows: number|null, columns: number|null, reason: string|null,
 *   number: number, marks: Mark[], others: Record<string, Mark[]>}} Image */

const HANGING = ['RCC', 'LCC', 'RMLO', 'LMLO'];
const COLOURS = {model: '#ffd400', annotation: '#ffb35c', accepted: '#4fe37a', rejected: '#ff7a6b', other: ['#6cb2ff', '#d58cff', '#9be0ff']};

/** @template {HTMLElement} T @param {string} id @returns {T} */
const by = (id) => /** @type {T} */ (document.getElementById(id));
const root = by('study');
const studyId = Number(root.dataset.study);
const reader = root.dataset.reader ?? '';

/** @type {any} */
let study = null;
/** @type {Map<number, Image>} */
const images = new Map();
/** @type {Map<number, Display>} */
const displays = new Map();
/** @type {ImageView[]} */
let views = [];
/** @type {'four'|'one'|'two'} */
let hanging = 'four';
/** @type {number[]} */
let hung = [];
let current = 0;
/** @type {string|null} */
let selected = null;
let boxesShown = true;
let shownFrom = 0;
/** As shares of the range of an image's window, so that one drag changes all views alike. */
let shift = {low: 0, high: 0, inverted: false, curve: 0};

const queue = new ActionQueue(`${reader} ${studyId}`, {
  expected: (image) => images.get(image)?.number ?? 0,
  saved: (image, number, marks) => {
    const there = images.get(image);
    if (there) Object.assign(there, {number, marks});
    draw();
  },
  refused: (image, sentence, now) => {
    const there = images.get(image);
    if (there && now) Object.assign(there, now);
    tell(sentence);
    draw();
  },
  waiting: (count, reachable) => {
    by('saved').textContent = count ? `${count} not saved yet` : 'all saved';
    if (!reachable) tell(`The server cannot be reached. ${count} of your changes wait in this browser and are saved when it can be again.`);
    else if (!count && by('banner').dataset.passing === 'yes') tell('');
    by('banner').dataset.passing = reachable ? '' : 'yes';
  },
  ended: () => {
    const link = by('log-in-again');
    link.setAttribute('href', `/login?to=${encodeURIComponent(location.pathname)}`);
    /** @type {HTMLDialogElement} */ (by('ended')).showModal();
    link.focus();
  },
});

/** @param {string} sentence */
function tell(sentence) {
  by('banner').textContent = sentence;
  by('banner').hidden = !sentence;
}

/** @param {Image} image @returns {Mark[]} */
function marksOf(image) {
  return withWaiting(image.marks, queue.of(image.id)) ?? image.marks;
}

/** @param {Mark} mark */
const isShown = (mark) => mark.verdict !== null || mark.score === null || mark.score >= shownFrom;

/** @param {Mark} mark */
function shownMark(mark) {
  const colour = mark.verdict ? COLOURS[/** @type {'accepted'|'rejected'} */ (mark.verdict)] : COLOURS[/** @type {'model'|'annotation'} */ (mark.origin)];
  const score = mark.score === null ? mark.label : `${Math.round(mark.score * 100)} %`;
  return {id: mark.id, box: mark.box, colour, dashed: mark.verdict === 'rejected', text: score, fixed: false};
}

/** @param {Image} image */
function boxesOf(image) {
  if (!boxesShown) return [];
  const own = marksOf(image).filter(isShown).map(shownMark);
  const others = Object.entries(image.others).flatMap(([name, marks], place) => marks
    .filter((mark) => mark.verdict === 'accepted')
    .map((mark) => ({id: `other ${name} ${mark.id}`, box: mark.box, colour: COLOURS.other[place % 3], dashed: true, text: name, fixed: true})));
  return [...others, ...own];
}

const hungImages = () => hung.map((id) => /** @type {Image} */ (images.get(id)));

function draw() {
  const now = images.get(hung[current]);
  views.forEach((view, place) => {
    const image = images.get(hung[place]);
    if (view && image && images.has(image.id)) view.showBoxes(boxesOf(image), place === current ? selected : null);
  });
  drawFindings(now);
  const waiting = hungImages().flatMap((image) => (image ? marksOf(image).filter((mark) => !isShown(mark)) : []));
  by('hidden-count').textContent = waiting.length ? `${waiting.length} boxes below are not shown, and are not judged` : '';
}

/** @param {Image|undefined} image */
function drawFindings(image) {
  const list = by('findings');
  const marks = image ? marksOf(image).filter(isShown) : [];
  const others = image ? boxesOf(image).filter((box) => box.fixed) : [];
  list.replaceChildren(...marks.slice(0, 300).map((mark) => {
    const said = mark.verdict ?? (mark.origin === 'annotation' ? 'in the data set' : 'proposed');
    return finding(mark.id, mark.verdict ?? '', `${mark.label}, ${said}`, mark.score === null ? '' : `${Math.round(mark.score * 100)} %`);
  }), ...others.slice(0, 100).map((box) => finding(box.id, 'other', `box of ${box.text}`, '')));
  const chosen = marks.find((mark) => mark.id === selected);
  const form = /** @type {HTMLFormElement} */ (by('details'));
  form.hidden = !chosen || chosen.verdict === 'rejected';
  if (chosen && !form.contains(document.activeElement)) {
    for (const field of /** @type {Iterable<HTMLInputElement>} */ (form.elements)) field.value = field.name === 'label' ? chosen.label : chosen.details[field.name] ?? '';
  }
}

/** @param {string} id @param {string} kind @param {string} text @param {string} score */
function finding(id, kind, text, score) {
  const item = document.createElement('li');
  const button = document.createElement('button');
  const number = document.createElement('span');
  item.className = kind;
  button.type = 'button';
  button.setAttribute('aria-current', String(id === selected));
  button.append(text);
  number.className = 'score';
  number.textContent = score;
  button.append(number);
  button.addEventListener('click', () => pick(id));
  item.append(button);
  return item;
}

/** @param {string|null} id */
function pick(id) {
  selected = id;
  const image = images.get(hung[current]);
  const box = image && boxesOf(image).find((one) => one.id === id);
  if (box) views[current]?.centreOn(box.box);
  draw();
}

/** @param {string} kind @param {string} mark @param {Partial<import('./requests.js').Action>} [more] @param {number} [image] */
function act(kind, mark, more = {}, image = hung[current]) {
  if (!study || study.state === 'done') return tell('You have ended this reading: press U to take it up again.');
  tell('');
  queue.add({image, token: freshToken(), kind, mark, ...more});
  return draw();
}

/** What hangs: each of the four views once, the latest of its kind; others behind it. */
function order() {
  const all = [...images.values()];
  const four = HANGING.map((view) => all.find((image) => `${image.laterality ?? ''}${image.view ?? ''}` === view));
  const rest = all.filter((image) => !four.includes(image));
  return {four: four.map((image, place) => image ?? (four.some(Boolean) ? undefined : rest[place])), all};
}

/** One hanging after another: a key pressed again while images come waits for its turn. */
let turn = Promise.resolve();

function hang() {
  turn = turn.then(hangNow);
  return turn;
}

async function hangNow() {
  for (const view of views) view?.dispose();
  views = [];
  const {four, all} = order();
  const wanted = four.filter(Boolean).length <= 1 && hanging === 'four' ? all.slice(0, 1) : four;
  const before = hung[current];
  if (hanging === 'four') hung = wanted.map((image) => image?.id ?? 0);
  else if (hanging === 'one') hung = [before ?? all[0].id];
  current = Math.max(0, hung.indexOf(before));
  if (!hung[current]) current = Math.max(0, hung.findIndex(Boolean));
  const box = by('views');
  box.className = `views ${hung.length > 2 ? 'four' : hung.length === 2 ? 'two' : 'one'}`;
  box.replaceChildren(...hung.map((id, place) => place_for(id, place)));
  await Promise.all(hung.map((id, place) => (id ? show(id, place) : null)));
  align();
  choose(current);
  document.body.dataset.ready = 'yes';
}

/** @param {number} id @param {number} place */
function place_for(id, place) {
  const element = document.createElement('div');
  const map = document.createElement('div');
  const name = document.createElement('span');
  const image = images.get(id);
  element.className = `view ${place % 2 ? 'right' : 'left'}`;
  element.dataset.image = String(id || '');
  map.className = 'map';
  map.tabIndex = id ? 0 : -1;
  map.setAttribute('role', 'application');
  map.setAttribute('aria-label', image ? `Mammogram ${image.name}` : 'no image of this view');
  map.addEventListener('focus', () => choose(place));
  name.className = 'name';
  name.textContent = image ? image.name : `no ${HANGING[place] ?? 'image'}`;
  element.append(map, name);
  return element;
}

/** @param {number} id @param {number} place */
async function show(id, place) {
  const image = /** @type {Image} */ (images.get(id));
  const element = /** @type {HTMLElement} */ (by('views').children[place]);
  try {
    const display = displays.get(id) ?? await patiently(`/api/images/${id}`);
    displays.set(id, display);
    const view = new ImageView(/** @type {HTMLElement} */ (element.firstElementChild), image, display, {
      chosen: () => choose(place),
      picked: (mark) => { choose(place); pick(mark); },
      moved: (mark, box) => act('move', mark, {box}, id),
      drawn: (box) => drawn(id, box),
      windowed: (dx, dy) => dragWindow(dx, dy),
      value: (text) => { by('value').textContent = text; },
    });
    view.watchClicks();
    views[place] = view;
    view.setWindow(windowFor(display));
  } catch (error) {
    const told = document.createElement('p');
    told.className = 'trouble warning';
    told.textContent = error instanceof Error ? error.message : String(error);
    element.append(told);
    if (error instanceof Refused && error.status === 401) queue.told.ended();
    else if (!(error instanceof Refused || error instanceof Unreachable)) throw error;
  }
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

/** All views at one scale, each as large as fits all. */
function align() {
  const there = views.filter(Boolean);
  const resolution = Math.max(...there.map((view) => view.fittingResolution()));
  for (const view of there) view.fit(resolution);
}

/** @param {Display} display */
function windowFor(display) {
  const curve = Math.min(shift.curve, display.curves.length - 1);
  const {low, high} = windowOf(display, curve);
  const range = high - low;
  return {low: low + shift.low * range, high: Math.max(high + shift.high * range, low + shift.low * range + 1), inverted: shift.inverted, curve};
}

function applyWindow() {
  for (const view of views) view?.setWindow(windowFor(view.display));
}

/** @param {number} dx @param {number} dy */
function dragWindow(dx, dy) {
  // 500 pixels of the screen are one whole range: to the right wider, up brighter.
  const [wider, level] = [dx / 500, dy / 500];
  if (shift.high + wider / 2 - (shift.low - wider / 2) > -0.999) {
    shift.low += level - wider / 2;
    shift.high += level + wider / 2;
  }
  applyWindow();
}

/** @param {number} place */
function choose(place) {
  if (!hung[place]) return;
  if (place !== current) selected = null;
  current = place;
  [...by('views').children].forEach((element, at) => element.classList.toggle('chosen', at === place));
  draw();
}

/** @param {number} image @param {number[]} box */
function drawn(image, box) {
  const mark = `d${freshToken()}`;
  mode('draw', false);
  selected = mark;
  act('draw', mark, {box, label: study.labels[0]}, image);
}

/** @param {'draw'|'measure'} which @param {boolean} on */
function mode(which, on) {
  for (const [name, tool] of /** @type {const} */ ([['draw', 'drawing'], ['measure', 'measuring']])) {
    const active = name === which && on;
    by(name).setAttribute('aria-pressed', String(active));
    for (const view of views) view?.[tool].setActive(active);
  }
  for (const element of by('views').children) element.classList.toggle('drawing', on);
}

const isOn = (/** @type {'draw'|'measure'} */ which) => by(which).getAttribute('aria-pressed') === 'true';

/** @type {{mark: string, box: number[], timer: any}|null} */
let nudged = null;

/** Move or resize the chosen box by keys; what is pressed quickly is one action. @param {number} dx @param {number} dy @param {boolean} corner */
function nudge(dx, dy, corner) {
  const image = images.get(hung[current]);
  const mark = image && marksOf(image).find((one) => one.id === selected);
  const view = views[current];
  if (!image || !mark || !view || !view.editable) return false;
  const from = nudged?.mark === mark.id ? nudged.box : mark.box;
  const step = Math.max(1, Math.round(view.map.getView().getResolution() ?? 1)) * 2;
  const [left, lower, right, upper] = view.toScreen(from);
  const box = view.toFile(corner ? [left, Math.min(lower - dy * step, upper - 3), Math.max(right + dx * step, left + 3), upper]
    : [left + dx * step, lower - dy * step, right + dx * step, upper - dy * step]);
  clearTimeout(nudged?.timer);
  nudged = {mark: mark.id, box, timer: setTimeout(settle, 500)};
  view.showBoxes(boxesOf(image).map((one) => (one.id === mark.id ? {...one, box} : one)), selected);
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
  const image = images.get(hung[current]);
  const ids = image ? boxesOf(image).map((box) => box.id) : [];
  if (!ids.length) return stepView(by_);
  const at = selected ? ids.indexOf(selected) : -1;
  const next = at < 0 ? (by_ > 0 ? 0 : ids.length - 1) : at + by_;
  return next < 0 || next >= ids.length ? stepView(by_) : pick(ids[next]);
}

/** @param {number} by_ */
function stepView(by_) {
  const places = hung.map((id, place) => ({id, place})).filter(({id}) => id).map(({place}) => place);
  const at = places.indexOf(current);
  choose(places[(at + by_ + places.length) % places.length]);
  const image = images.get(hung[current]);
  const ids = image ? boxesOf(image).map((box) => box.id) : [];
  pick(ids.length ? ids[by_ > 0 ? 0 : ids.length - 1] : null);
}

/** @param {string} state */
async function end(state) {
  settle();
  if (!study) return;
  by('done').setAttribute('disabled', '');
  const slow = setTimeout(() => tell('The study is ended as soon as what you did is saved.'), 1500);
  await queue.drained();
  clearTimeout(slow);
  const known = Object.fromEntries([...images.values()].map((image) => [image.id, image.number]));
  try {
    const answer = await ask(`/api/studies/${studyId}/read`, {method: 'POST', json: {state, shown_from: shownFrom, known}});
    if (state === 'open') location.reload();
    else location.assign(answer.next ? `/studies/${answer.next}` : '/worklist');
  } catch (error) {
    if (error instanceof Refused && error.status === 401) queue.told.ended();
    else tell(error instanceof Error ? error.message : String(error));
    by('done').removeAttribute('disabled');
  }
}

async function beside() {
  if (hanging === 'two') {
    hanging = 'four';
    current = 0;
    return hang();
  }
  const now = images.get(hung[current]);
  if (!study.earlier.length || !now) return tell('There is no earlier study of this patient here.');
  const earlier = await ask(`/api/studies/${study.earlier[0].id}`);
  const same = earlier.images.find((/** @type {Image} */ one) => one.laterality === now.laterality && one.view === now.view);
  if (!same) return tell(`The earlier study has no ${now.name}.`);
  hanging = 'two';
  const shown = {...same, name: `${same.name} ${earlier.study.taken_on || 'earlier'}`};
  hung = [now.id, shown.id];
  current = 0;
  earlierImages.set(shown.id, shown);
  images.set(shown.id, shown);
  await hang();
  images.delete(shown.id);
  if (views[1]) views[1].editable = false;
  return draw();
}

/** @type {Map<number, Image>} */
const earlierImages = new Map();

async function sendToPacs() {
  try {
    const answer = await ask(`/api/studies/${studyId}/send`, {method: 'POST', json: {}});
    tell(answer.said);
  } catch (error) {
    tell(error instanceof Error ? error.message : String(error));
  }
}

/** Take over another reader's box. */
function takeOver() {
  const image = images.get(hung[current]);
  const box = image && boxesOf(image).find((one) => one.id === selected && one.fixed);
  if (!image || !box) return;
  const [, name, id] = box.id.match(/^other (.*) (\S+)$/) ?? [];
  const mark = image.others[name]?.find((one) => one.id === id);
  if (!mark) return;
  const own = `d${freshToken()}`;
  selected = own;
  act('draw', own, {box: mark.box, label: mark.label, details: mark.details});
}

/** @param {string} key @param {{shiftKey?: boolean, altKey?: boolean}} [event] @returns {boolean} whether the key does something */
function press(key, event = {}) {
  const view = views[current];
  const mark = images.has(hung[current]) ? marksOf(/** @type {Image} */ (images.get(hung[current]))).find((one) => one.id === selected) : undefined;
  const [dx, dy] = /** @type {Record<string, number[]>} */ ({ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]})[key] ?? [0, 0];
  if (dx || dy) {
    if (event.altKey) dragWindow(dx * 10, dy * 10);
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
    case 'Enter': if (isOn('draw') && view) drawn(hung[current], view.middleBox()); else settle(); return true;
    case 'Tab': step(event.shiftKey ? -1 : 1); return true;
    case '1': case '2': case '3': case '4': choose(Number(key) - 1); return true;
    case 'f': hanging = hanging === 'four' ? 'one' : 'four'; hang(); return true;
    case 'e': beside(); return true;
    case 'i': shift.inverted = !shift.inverted; applyWindow(); return true;
    case 'v': shift = {low: 0, high: 0, inverted: shift.inverted, curve: view ? (shift.curve + 1) % view.display.curves.length : 0}; applyWindow(); return true;
    case 'h': boxesShown = !boxesShown; draw(); return true;
    case '+': case '=': view?.zoom(1.4); return true;
    case '-': view?.zoom(1 / 1.4); return true;
    case '0': align(); return true;
    case '9': view?.nativePixels(); return true;
    case '[': setThreshold(shownFrom - 0.05); return true;
    case ']': setThreshold(shownFrom + 0.05); return true;
    case 't': takeOver(); return true;
    case 'n': end('done'); return true;
    case 'p': end('deferred'); return true;
    case 'u': end('open'); return true;
    case 'w': location.assign('/worklist'); return true;
    case '?': /** @type {HTMLDialogElement} */ (by('help')).showModal(); return true;
    case 'Escape': mode('draw', false); pick(null); return true;
    default: return false;
  }
}

/** @param {number} score */
function setThreshold(score) {
  shownFrom = Math.round(Math.min(Math.max(score, 0), 1) * 100) / 100;
  /** @type {HTMLInputElement} */ (by('threshold')).value = String(Math.round(shownFrom * 100));
  by('shown-from').textContent = `${Math.round(shownFrom * 100)} %`;
  draw();
}

function listen() {
  document.addEventListener('keydown', (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (document.querySelector('dialog[open]')) return;
    const typing = target.matches('input:not([type=range]), select, textarea');
    if (typing) {
      if (event.key === 'Escape') target.blur();
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
  by('details').addEventListener('change', () => {
    const given = Object.fromEntries(new FormData(/** @type {HTMLFormElement} */ (by('details'))).entries());
    const {label, ...details} = /** @type {Record<string, string>} */ (given);
    if (selected) act('describe', selected, {label, details: Object.fromEntries(Object.entries(details).filter(([, said]) => said))});
  });
  by('details').addEventListener('submit', (event) => event.preventDefault());
  by('send').addEventListener('click', sendToPacs);
  addEventListener('beforeunload', (event) => {
    settle();
    if (queue.actions.length && !queue.loggedOut) event.preventDefault();
  });
}

function describe() {
  const {patient, patient_name: name, taken_on: on, scanner, reason} = study.study;
  by('patient').textContent = [patient, name].filter(Boolean).join('  ');
  by('facts').textContent = [on, scanner].filter(Boolean).join(' · ');
  document.title = `${patient} · Mammoscope`;
  const others = study.reads.filter((/** @type {any} */ read) => read.reader !== reader).map((/** @type {any} */ read) => `${read.place}: ${read.reader}, ${read.state}`);
  by('place').textContent = [study.place ? `${study.place} reader` : 'you only look', study.state === 'open' ? '' : study.state, ...others].filter(Boolean).join(' · ');
  by('again').hidden = study.state === 'open';
  by('send').hidden = !study.sends;
  const viewer = by('viewer');
  viewer.hidden = !study.viewer;
  if (study.viewer) viewer.setAttribute('href', study.viewer);
  by('label').replaceChildren(...study.labels.map((/** @type {string} */ said) => new Option(said, said)));
  const unread = [...images.values()].filter((image) => image.reason).map((image) => `${image.name}: ${image.reason}`);
  if (unread.length || reason) tell(['The model did not read everything.', ...(unread.length ? unread : [reason])].join(' '));
  else if (!hasWebGL) tell('This browser has no WebGL: the server windows the images in 256 greys, more slowly.');
  by('disagreements').hidden = !study.disagreements.length;
  by('differences').replaceChildren(...study.disagreements.map((/** @type {any} */ one) => {
    const item = document.createElement('li');
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = `${images.get(one.image)?.name ?? ''}: only ${one.reader}`;
    button.addEventListener('click', () => {
      const place = hung.indexOf(one.image);
      if (place >= 0) choose(place);
      views[current]?.centreOn(one.box);
    });
    item.append(button);
    return item;
  }));
}

async function load() {
  listen();
  try {
    study = await ask(`/api/studies/${studyId}`);
  } catch (error) {
    if (error instanceof Refused && error.status === 401) return queue.told.ended();
    return tell(error instanceof Error ? error.message : String(error));
  }
  for (const image of study.images) images.set(image.id, image);
  describe();
  queue.send();
  if (!images.size) return tell('This study has no images here.');
  return hang();
}

load();

// For tests and benchmarks: what is on the screen, and nothing that a reader could not do.
Object.assign(window, {mammoscope: {images, marksOf, queue, views: () => views, hung: () => hung, press, setThreshold, hasWebGL}});
