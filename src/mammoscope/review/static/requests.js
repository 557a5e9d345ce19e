// @ts-check
/** Requests to the server, and a queue of a reader's actions that neither a lost connection nor an ended session loses. */

/** @typedef {{id: string, origin: string, box: number[], label: string, score: number|null, verdict: string|null, moved: boolean, details: Record<string, string>}} Mark */
/** @typedef {{image: number, token: string, kind: string, mark: string, box?: number[], label?: string, details?: Record<string, string>}} Action */

const RETRY_MS = 2000;

/** What the server refused, with its sentence. */
export class Refused extends Error {
  /** @param {number} status @param {string} sentence @param {any} body */
  constructor(status, sentence, body) {
    super(sentence);
    this.status = status;
    this.body = body;
  }
}

/** The server cannot be reached, or is in trouble that may pass. */
export class Unreachable extends Error {}

const formToken = () => /** @type {HTMLMetaElement} */ (document.querySelector('meta[name="form-token"]')).content;

/**
 * @param {string} url
 * @param {{method?: string, json?: unknown, signal?: AbortSignal}} [how]
 * @returns {Promise<any>}
 */
export async function ask(url, how = {}) {
  /** @type {Response} */
  let response;
  try {
    response = await fetch(url, {
      method: how.method ?? 'GET',
      headers: how.json === undefined ? {'X-Form-Token': formToken()} : {'Content-Type': 'application/json', 'X-Form-Token': formToken()},
      body: how.json === undefined ? undefined : JSON.stringify(how.json),
      signal: how.signal,
      credentials: 'same-origin',
    });
  } catch (error) {
    if (how.signal?.aborted) throw error;
    throw new Unreachable('The server cannot be reached.');
  }
  if (response.ok) return response.json();
  const body = await response.json().catch(() => ({}));
  if (response.status >= 500) throw new Unreachable(body.detail ?? 'The server is in trouble.');
  throw new Refused(response.status, body.detail ?? `The server answered ${response.status}.`, body);
}

/** 32 hexadecimal digits that nobody had before. */
export function freshToken() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * Sends actions one after another, in order, and again until the server has them. What waits is kept in the browser's
 * storage, for this reader and study.
 */
export class ActionQueue {
  /**
   * @param {string} name of reader and study
   * @param {{saved: (image: number, number: number, marks: Mark[]) => void, refused: (image: number, sentence: string, now: any) => void,
   *   waiting: (count: number, reachable: boolean) => void, ended: () => void, expected: (image: number) => number}} told
   */
  constructor(name, told) {
    this.key = `mammoscope-actions ${name}`;
    this.told = told;
    /** @type {Action[]} */
    this.actions = JSON.parse(localStorage.getItem(this.key) ?? '[]');
    this.sending = false;
    this.loggedOut = false;
    addEventListener('online', () => this.send());
  }

  /** @param {Action} action */
  add(action) {
    this.actions.push(action);
    this.keep();
    this.send();
  }

  /** @param {number} image @returns {Action[]} */
  of(image) {
    return this.actions.filter((action) => action.image === image);
  }

  /** Resolves when nothing waits any longer. */
  async drained() {
    while (this.actions.length) await new Promise((done) => setTimeout(done, 30));
  }

  keep() {
    if (this.actions.length) localStorage.setItem(this.key, JSON.stringify(this.actions));
    else localStorage.removeItem(this.key);
    this.told.waiting(this.actions.length, true);
  }

  async send() {
    if (this.sending || this.loggedOut) return;
    this.sending = true;
    while (this.actions.length) {
      const {image, ...action} = this.actions[0];
      try {
        const answer = await ask(`/api/images/${image}/actions`, {
          method: 'POST',
          json: {...action, expected: this.told.expected(image)},
        });
        this.actions.shift();
        this.keep();
        this.told.saved(image, answer.number, answer.marks);
      } catch (error) {
        if (error instanceof Unreachable) {
          this.told.waiting(this.actions.length, false);
          await new Promise((done) => setTimeout(done, RETRY_MS));
        } else if (error instanceof Refused && error.status === 401) {
          this.loggedOut = true;
          this.told.ended();
          break;
        } else if (error instanceof Refused) {
          // What was done after it on the same image was done to boxes that are no longer so.
          const lost = this.of(image).length;
          this.actions = this.actions.filter((one) => one.image !== image);
          this.keep();
          const more = lost > 1 ? ` ${lost} changes of yours on this image were not saved.` : ' This change was not saved.';
          this.told.refused(image, error.message + more, error.body.now);
        } else throw error;
      }
    }
    this.sending = false;
  }
}

/**
 * The boxes of an image with what waits to be saved; `null` where only the server can tell (an undo of what it has).
 * @param {Mark[]} marks @param {Action[]} actions @returns {Mark[]|null}
 */
export function withWaiting(marks, actions) {
  /** @type {Action[]} */
  const counting = [];
  for (const action of actions) {
    if (action.kind !== 'undo') counting.push(action);
    else if (!counting.pop()) return null;
  }
  const now = new Map(marks.map((mark) => [mark.id, mark]));
  for (const {kind, mark: id, box, label, details} of counting) {
    const old = now.get(id);
    if (kind === 'draw') {
      now.set(id, {id, origin: 'reader', box: box ?? [], label: label ?? '', score: null, verdict: 'accepted', moved: false, details: details ?? {}});
    } else if (old && kind === 'remove') now.delete(id);
    else if (old && kind === 'move') now.set(id, {...old, box: box ?? old.box, moved: true, verdict: 'accepted'});
    else if (old && kind === 'describe') now.set(id, {...old, label: label ?? old.label, details: details ?? {}, verdict: 'accepted'});
    else if (old) now.set(id, {...old, verdict: {accept: 'accepted', reject: 'rejected'}[kind] ?? null});
  }
  return [...now.values()];
}
