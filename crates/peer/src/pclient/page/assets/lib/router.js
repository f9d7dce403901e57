// Which view is shown: what stands behind `#/` in the address, so that Back, bookmarks and new tabs work.
//
// `#/content/ab12?name=a.txt` is the view `content`, with the path `['ab12']` and the parameters `name`.

import { Cell } from './cell.js';

/** Places in the history that are remembered: more than anybody goes back. */
const KEPT = 100;
const places = new Map();

/**
 * `{ view, path, params, place }`. `place` is what a list remembers of itself in this step of the history, so that Back
 * leads to the row that one left.
 */
export const route = new Cell(read());

/** The address of a view. */
export function to(view, path = [], params = {}) {
  const segments = [view, ...path].map(encodeURIComponent).join('/');
  const said = Object.entries(params).filter(([, value]) => value !== undefined && value !== null && value !== '');
  const query = new URLSearchParams(said).toString();
  return `#/${segments}${query ? `?${query}` : ''}`;
}

export function go(address) {
  location.hash = address;
}

/** Changes the address of the view that is shown, without showing it anew and without a step in the history. */
export function rename(address) {
  history.replaceState(history.state, '', address);
}

/** Shows another view in the place of this one: Back does not lead here again. */
export function redirect(address) {
  rename(address);
  route.set(read());
}

function read() {
  const [segments, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [view, ...path] = segments.split('/').map(decoded);
  return { view, path, params: Object.fromEntries(new URLSearchParams(query)), place: placeOf(history.state?.step) };
}

function placeOf(known) {
  const step = known ?? crypto.getRandomValues(new Uint32Array(1))[0];
  if (known === undefined) history.replaceState({ step }, '');
  const place = places.get(step) ?? {};
  places.set(step, place);
  if (places.size > KEPT) places.delete(places.keys().next().value);
  return place;
}

function decoded(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

history.scrollRestoration = 'manual';
window.addEventListener('hashchange', () => route.set(read()));
