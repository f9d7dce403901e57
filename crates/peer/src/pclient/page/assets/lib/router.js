// Which view is shown: what stands behind `#/` in the address, so that Back, bookmarks and new tabs work.
//
// `#/content/ab12?name=a.txt` is the view `content`, with the path `['ab12']` and the parameters `name`.

import { Cell } from './cell.js';

/** `{ view, path, params }`. */
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
  return { view, path, params: Object.fromEntries(new URLSearchParams(query)) };
}

function decoded(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

window.addEventListener('hashchange', () => route.set(read()));
