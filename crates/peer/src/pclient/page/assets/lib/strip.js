// The strip that shows which pieces of a file are here: one column of the picture for one or many pieces, the fuller
// the darker.

import { get, isAbort } from './api.js';
import { h, mark, say } from './dom.js';
import { count } from './format.js';

const EVERY_MS = 1_000;
const HEIGHT = 14;

/** A strip for a download that reads its pieces while it is on the screen. */
export function strip(id, signal) {
  const canvas = h('canvas', { class: 'strip', role: 'img', height: HEIGHT, width: 600, 'aria-label': 'Pieces' });
  const words = h('p', { class: 'dim num' });
  let timer;
  const look = async () => {
    clearTimeout(timer);
    try {
      const pieces = await get(`/v1/downloads/${id}/pieces`, {}, signal);
      draw(canvas, pieces);
      const text = pieces.count === 0 ? 'The pieces are not known yet' : `${count(pieces.held)} of ${count(pieces.count)} pieces are here`;
      say(words, text);
      mark(canvas, 'aria-label', text);
      if (pieces.held < pieces.count && !signal.aborted) timer = setTimeout(look, EVERY_MS);
    } catch (problem) {
      if (!isAbort(problem)) say(words, problem.message);
    }
  };
  const seen = new IntersectionObserver((entries) => (entries.at(-1).isIntersecting ? look() : clearTimeout(timer)));
  seen.observe(canvas);
  signal.addEventListener('abort', () => {
    clearTimeout(timer);
    seen.disconnect();
  }, { once: true });
  return { element: h('div', { class: 'pieces' }, canvas, words), look };
}

function draw(canvas, { count: pieces, bitmap }) {
  const width = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
  if (canvas.width !== width) canvas.width = width;
  const context = canvas.getContext('2d');
  const style = getComputedStyle(canvas);
  context.clearRect(0, 0, width, HEIGHT);
  context.fillStyle = style.color;
  const bytes = Uint8Array.from(atob(bitmap), (char) => char.charCodeAt(0));
  const has = (piece) => (bytes[piece >> 3] >> (piece & 7)) & 1;
  for (let x = 0; x < width; x += 1) {
    const from = Math.floor((x / width) * pieces);
    const end = Math.max(from + 1, Math.floor(((x + 1) / width) * pieces));
    let held = 0;
    for (let piece = from; piece < end && piece < pieces; piece += 1) held += has(piece);
    if (held === 0) continue;
    context.globalAlpha = 0.35 + 0.65 * (held / (end - from));
    context.fillRect(x, 0, 1, HEIGHT);
  }
  context.globalAlpha = 1;
}
