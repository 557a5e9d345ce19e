// @ts-check
/** Lets the previews of the images be painted before the scripts that replace them by tiles take the processor. */

let begun = false;

function begin() {
  if (begun) return;
  begun = true;
  import('./study.js');
}

requestAnimationFrame(() => setTimeout(begin));
setTimeout(begin, 200); // a page that is not on the screen has no frames
