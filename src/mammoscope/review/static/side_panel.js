// @ts-check
/** What stands beside and above the images: the study's facts, the findings of the chosen image, where readers differ. */

import {hasWebGL} from './image_view.js';
import {boxesOf, by, counted, currentImage, currentView, images, isShown, marksOf, reader, state, study, tell} from './state.js';

/** The facts of the study, once. @param {(image: number, box: number[]) => void} go to where readers differ */
export function describe(go) {
  const {patient, patient_name: name, taken_on: on, scanner, reason} = study.study;
  by('patient').textContent = [patient, name].filter(Boolean).join('  ');
  by('facts').textContent = [on, scanner].filter(Boolean).join(' · ');
  document.title = `${patient} · Mammoscope`;
  const mine = study.reads.find((read) => read.reader === reader);
  const others = study.reads.filter((read) => read !== mine).map((read) => `${read.place}: ${[read.reader, read.state, read.opinion].filter(Boolean).join(', ')}`);
  const own = [study.place ? `${study.place} reader` : 'you only look', study.state === 'open' ? '' : study.state, mine?.opinion];
  by('place').textContent = [...own, ...others].filter(Boolean).join(' · ');
  by('again').hidden = study.state === 'open';
  by('send').hidden = !study.sends;
  const viewer = by('viewer');
  viewer.hidden = !study.viewer;
  if (study.viewer) viewer.setAttribute('href', study.viewer);
  for (const [name, words] of Object.entries(study.offered)) by(name).replaceChildren(new Option('', ''), ...words.map((word) => new Option(word, word)));
  by('label').replaceChildren(...study.labels.map((said) => new Option(said, said)));
  by('earlier-line').hidden = !study.earlier.length;
  by('earlier').replaceChildren(...study.earlier.map((one) => new Option(one.taken_on || `study ${one.id}`, String(one.id))));
  const unread = [...images.values()].filter((image) => image.reason).map((image) => `${image.name}: ${image.reason}`);
  if (unread.length || reason) tell(['The model did not read everything.', ...(unread.length ? unread : [reason])].join(' '));
  else if (!hasWebGL) tell('This browser has no WebGL: the server windows the images in 256 greys, more slowly.');
  showDifferences(go);
}

/** @param {(image: number, box: number[]) => void} go */
function showDifferences(go) {
  const done = study.reads.filter((read) => read.state === 'done' && read.opinion && read.place !== 'arbiter');
  const opinions = new Set(done.map((read) => read.opinion)).size > 1 ? done : [];
  by('disagreements').hidden = !study.disagreements.length && !opinions.length;
  by('differences').replaceChildren(...opinions.map((read) => {
    const item = document.createElement('li');
    item.textContent = `${read.reader}: ${read.opinion}`;
    return item;
  }), ...study.disagreements.map((one) => {
    const item = document.createElement('li');
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = `${images.get(one.image)?.name ?? ''}: only ${one.reader}`;
    button.addEventListener('click', () => go(one.image, one.box));
    item.append(button);
    return item;
  }));
}

/** The findings of the chosen image. @param {(id: string) => void} pick */
export function drawFindings(pick) {
  const image = currentImage();
  const marks = image ? marksOf(image).filter(isShown) : [];
  const others = image ? boxesOf(image).filter((box) => box.fixed) : [];
  by('findings').replaceChildren(...marks.slice(0, 300).map((mark) => {
    const said = mark.verdict ?? (mark.origin === 'annotation' ? 'in the data set' : 'proposed');
    return finding(mark.id, mark.verdict ?? '', `${mark.label}, ${said}`, mark.score === null ? '' : `${Math.round(mark.score * 100)} %`, pick);
  }), ...others.slice(0, 100).map((box) => finding(box.id, 'other', `box of ${box.text}`, '', pick)));
  const chosen = marks.find((mark) => mark.id === state.selected);
  by('size').textContent = chosen && currentView() ? currentView()?.sizeOf(chosen.box) ?? '' : '';
  const form = /** @type {HTMLFormElement} */ (by('details'));
  form.hidden = !chosen || chosen.verdict === 'rejected';
  if (chosen && !form.contains(document.activeElement)) {
    for (const field of /** @type {Iterable<HTMLInputElement|HTMLSelectElement>} */ (form.elements)) {
      const said = field.name === 'label' ? chosen.label : chosen.details[field.name] ?? '';
      // A word of older data, which is offered no longer, stays where nobody changes it.
      if (field instanceof HTMLSelectElement && ![...field.options].some((option) => option.value === said)) field.append(new Option(said, said));
      field.value = said;
    }
  }
}

/** @param {string} id @param {string} kind @param {string} text @param {string} score @param {(id: string) => void} pick */
function finding(id, kind, text, score, pick) {
  const item = document.createElement('li');
  const button = document.createElement('button');
  const number = document.createElement('span');
  item.className = kind;
  button.type = 'button';
  button.setAttribute('aria-current', String(id === state.selected));
  button.append(text);
  number.className = 'score';
  number.textContent = score;
  button.append(number);
  button.addEventListener('click', () => pick(id));
  item.append(button);
  return item;
}

/** How many boxes the slider hides. */
export function countHidden() {
  const waiting = state.hung.flatMap((id) => images.get(id) ?? []).flatMap((image) => marksOf(image).filter((mark) => !isShown(mark)));
  by('hidden-count').textContent = waiting.length ? `${counted(waiting.length, 'box below is not shown, and is not judged', 'boxes below are not shown, and are not judged')}` : '';
}
