// @ts-check
/** What the page of a study knows: the study and its images, what hangs, what is chosen, and what waits to be saved. */

import {withWaiting} from './requests.js';

/** @typedef {import('./requests.js').Mark} Mark */
/** @typedef {import('./image_view.js').Display} Display */
/** @typedef {import('./image_view.js').ImageView} ImageView */
/** @typedef {import('./image_view.js').Shown} Shown */
/** @typedef {{id: number, name: string, laterality: string|null, view: string|null, rows: number|null, columns: number|null, reason: string|null,
 *   number: number, marks: Mark[], others: Record<string, Mark[]>}} Image */
/** @typedef {{id: number, patient: string, patient_name: string, taken_on: string, scanner: string, reason: string|null}} StudyFacts */
/** @typedef {{place: string, reader: string, state: string, opinion: string|null}} Read */
/** @typedef {{image: number, reader: string, box: number[]}} Difference */
/** @typedef {{name: string, status: string, at: string|null, reason: string}} Destination */
/** @typedef {{reader: string, at: string, objects: number, waiting: boolean, destinations: Destination[]}} Sent */
/** @typedef {{study: StudyFacts, place: string|null, state: string, reads: Read[], images: Image[], disagreements: Difference[],
 *   earlier: StudyFacts[], labels: string[], offered: Record<string, string[]>, sends: boolean, sent: Sent[], viewer: string|null, next: number|null}} Study */
/** @typedef {'four'|'one'|'beside'|'priors'} Hanging */

const COLOURS = {model: '#ffd400', annotation: '#ffb35c', accepted: '#4fe37a', rejected: '#ff7a6b', other: ['#6cb2ff', '#d58cff', '#9be0ff']};

/** @template {HTMLElement} T @param {string} id @returns {T} */
export const by = (id) => /** @type {T} */ (document.getElementById(id));

export const studyId = Number(by('study').dataset.study);
export const reader = by('study').dataset.reader ?? '';

const given = JSON.parse(by('given').textContent ?? '{}');

/** @type {Study} */
export const study = given;
/** The images of this study, by their number. @type {Map<number, Image>} */
export const images = new Map(study.images.map((image) => [image.id, image]));
/** Those of an earlier study: to be looked at only. @type {Map<number, Image>} */
export const earlierImages = new Map();
/** How images are displayed whose tiles are cut. @type {Map<number, Display>} */
export const displays = new Map(Object.entries(given.displays).map(([id, display]) => [Number(id), display]));

export const state = {
  /** @type {(ImageView|undefined)[]} */
  views: [],
  /** @type {Hanging} */
  hanging: 'four',
  /** Images in the places, 0 where a place is empty. @type {number[]} */
  hung: [],
  current: 0,
  /** @type {string|null} */
  selected: null,
  boxesShown: true,
  shownFrom: 0,
  /** As shares of the range of an image's window, so that one drag changes all views alike. */
  shift: {low: 0, high: 0, inverted: false, curve: 0},
  magnifying: false,
  /** Boxes of two views that are one lesion. @type {{image: number, mark: string}[][]} */
  pairs: [],
};

/** ``1 box``, ``2 boxes``. @param {number} number @param {string} one @param {string} [several] */
export const counted = (number, one, several = `${one}s`) => `${number} ${number === 1 ? one : several}`;

/** @param {string} sentence */
export function tell(sentence) {
  by('banner').textContent = sentence;
  by('banner').hidden = !sentence;
}

/** @param {number} id */
export const imageOf = (id) => images.get(id) ?? earlierImages.get(id);

/** The chosen image, if it is one of this study. */
export const currentImage = () => images.get(state.hung[state.current]);

export const currentView = () => state.views[state.current];

/** @type {{of: (image: number) => import('./requests.js').Action[]}} */
let waiting = {of: () => []};

/** Have what waits to be saved shown as if it were. @param {typeof waiting} queue */
export function showWaiting(queue) {
  waiting = queue;
}

/** @param {Image} image @returns {Mark[]} */
export function marksOf(image) {
  return withWaiting(image.marks, waiting.of(image.id)) ?? image.marks;
}

/** @param {Mark} mark */
export const isShown = (mark) => mark.verdict !== null || mark.score === null || mark.score >= state.shownFrom;

/** The chosen box, if it is one of this reader's. */
export function chosenMark() {
  const image = currentImage();
  return image && marksOf(image).find((mark) => mark.id === state.selected);
}

/** @param {Image} image @returns {Shown[]} */
export function boxesOf(image) {
  if (!state.boxesShown || !images.has(image.id)) return [];
  const own = marksOf(image).filter(isShown).map(shownMark);
  const others = Object.entries(image.others).flatMap(([name, marks], place) => marks
    .filter((mark) => mark.verdict === 'accepted')
    .map((mark) => ({id: `other ${name} ${mark.id}`, box: mark.box, colour: COLOURS.other[place % 3], dashed: true, text: name, fixed: true})));
  return [...others, ...own];
}

/** @param {Mark} mark @returns {Shown} */
function shownMark(mark) {
  const colour = mark.verdict ? COLOURS[/** @type {'accepted'|'rejected'} */ (mark.verdict)] : COLOURS[/** @type {'model'|'annotation'} */ (mark.origin)];
  const score = mark.score === null ? mark.label : `${Math.round(mark.score * 100)} %`;
  return {id: mark.id, box: mark.box, colour, dashed: mark.verdict === 'rejected', text: score, fixed: false};
}
