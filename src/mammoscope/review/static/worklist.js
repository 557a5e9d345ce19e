// @ts-check
/** The worklist's keys, and its news. */

const rows = () => /** @type {HTMLAnchorElement[]} */ ([...document.querySelectorAll('#rows tbody th a')]);
const search = /** @type {HTMLInputElement} */ (document.querySelector('#search'));

document.addEventListener('keydown', (event) => {
  const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
  if (event.key === 'Escape' && typing) /** @type {HTMLElement} */ (event.target).blur();
  if (event.ctrlKey || event.altKey || event.metaKey || (typing && !(event.target === search && event.key === 'ArrowDown'))) return;
  const links = rows();
  const at = links.indexOf(/** @type {HTMLAnchorElement} */ (document.activeElement));
  if (event.key === '/') search.focus();
  else if (event.key === 'ArrowDown' || event.key === 'j') links[Math.min(at + 1, links.length - 1)]?.focus();
  else if (event.key === 'ArrowUp' || event.key === 'k') links[Math.max(at - 1, 0)]?.focus();
  else if (event.key === 'n' || event.key === 'N') location.assign('/next');
  else return;
  event.preventDefault();
});

const news = new EventSource('/api/events');
let first = true;
news.addEventListener('worklist', () => {
  if (!first && !document.querySelector('#rows a:focus')) {
    document.querySelector('#filters')?.dispatchEvent(new Event('submit', {cancelable: true, bubbles: true}));
  }
  first = false;
});
