// @ts-check
/** What was sent of this study to the PACS, by whom, and when each destination took it: it stays on the page. */

import {Refused, ask} from './requests.js';
import {by, counted, study, studyId, tell} from './state.js';

/** @typedef {import('./state.js').Sent} Sent */

const ASK_AGAIN_MS = 3000;

/** @type {ReturnType<typeof setTimeout>|undefined} */
let later;

/** Send what the readers came to. */
export async function sendToPacs() {
  const button = /** @type {HTMLButtonElement} */ (by('send'));
  button.disabled = true;
  try {
    const answer = await ask(`/api/studies/${studyId}/send`, {method: 'POST', json: {}});
    by('sent-says').textContent = answer.said;
    tell('');
    await lookAgain();
  } catch (error) {
    tell(error instanceof Error ? error.message : String(error));
  } finally {
    button.disabled = false;
  }
}

/** @param {Sent[]} [sent] the last one first */
export function showSent(sent = study.sent) {
  by('sent').hidden = !sent.length;
  by('sent-list').replaceChildren(...sent.map(item));
  clearTimeout(later);
  if (sent.some((one) => one.waiting)) later = setTimeout(lookAgain, ASK_AGAIN_MS);
}

async function lookAgain() {
  try {
    showSent(await ask(`/api/studies/${studyId}/sent`));
  } catch (error) {
    // Nothing is lost while the server cannot be reached: what was sent stands where it stood.
    if (!(error instanceof Refused)) later = setTimeout(lookAgain, ASK_AGAIN_MS);
  }
}

/** @param {Sent} sent */
function item({at, reader, objects, destinations}) {
  const element = document.createElement('li');
  const places = document.createElement('ul');
  element.append(`${moment(at)} by ${reader}: ${counted(objects, 'object')}`);
  places.append(...destinations.map(({name, status, at: when, reason}) => {
    const place = document.createElement('li');
    const words = {sent: 'accepted', parked: 'FAILED', withheld: 'kept here (shadow mode)', pending: 'waits'}[status] ?? status;
    place.className = `destination ${status}`;
    place.textContent = `${name}: ${words}${when && status !== 'pending' ? ` ${moment(when)}` : ''}${reason && status !== 'sent' ? ` (${reason})` : ''}`;
    return place;
  }));
  if (!destinations.length) places.append('no destination takes it');
  element.append(places);
  return element;
}

/** Date and time here. @param {string} at in UTC, as ISO 8601 has it */
function moment(at) {
  const then = new Date(at);
  const two = (/** @type {number} */ number) => String(number).padStart(2, '0');
  return `${then.getFullYear()}-${two(then.getMonth() + 1)}-${two(then.getDate())} ${two(then.getHours())}:${two(then.getMinutes())}`;
}
