// The icons: strokes on a field of 24 by 24, drawn in the colour of the text around them.

import { svg } from './dom.js';

const STROKES = {
  search: 'M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13Zm4.7-1.800L20 20',
  transfers: 'M7 4v15m0 0-3.5-3.5M7 19l3.5-3.5M17 20V5m0 0-3.5 3.5M17 5l3.5 3.5',
  files: 'M3.5 18.5v-13h6l2 2.5h9v10.5Z',
  offers: 'M4 13v6.5h16V13M4 13l3-8.5h10l3 8.5M4 13h4.5l1 2.5h5l1-2.5H20',
  peers: 'M9 11.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM2.5 20c.5-4 3-6 6.5-6s6 2 6.5 6M15.5 4.800a3.5 3.5 0 0 1 0 6.400M17.5 14.5c2.3.6 3.7 2.5 4 5.5',
  status: 'M3 13h4l2.5-7 4.5 12 2.5-6.5 1 1.5H21',
  fetch: 'M12 4v11m0 0-4.5-4.5M12 15l4.5-4.5M4.5 19.5h15',
  upload: 'M12 16V5m0 0L7.5 9.5M12 5l4.5 4.5M4.5 19.5h15',
  play: 'M8 5v14l11-7Z',
  watch: 'M12 20.5a8.5 8.5 0 1 0 0-17 8.5 8.5 0 0 0 0 17ZM10 8.5v7l5.500-3.5Z',
  show: 'M2.5 12C5 7.5 8.300 5.5 12 5.5s7 2 9.5 6.5c-2.5 4.5-5.800 6.5-9.5 6.5S5 16.5 2.5 12ZM12 14.800a2.800 2.800 0 1 0 0-5.600 2.800 2.800 0 0 0 0 5.600Z',
  open: 'M13.5 4H20v6.5M20 4l-9 9M17.5 13.5V20H4V6.5h6.5',
  pause: 'M8.5 5v14m7-14v14',
  add: 'M12 5v14M5 12h14',
  close: 'm6 6 12 12M18 6 6 18',
  link: 'M10 14a4 4 0 0 0 5.7 0l3-3a4 4 0 0 0-5.7-5.700l-1 1M14 10a4 4 0 0 0-5.7 0l-3 3a4 4 0 0 0 5.7 5.700l1-1',
  more: 'm6 9 6 6 6-6',
  send: 'M4 12 20 4l-5 16-3.5-6.5Zm7.5 1.5L20 4',
  check: 'm5 12.5 4.5 4.5L19 7',
  warn: 'M12 4 2.5 20h19ZM12 10v4.5m0 2.5v.5',
  lock: 'M6 11h12v9H6Zm2.5 0V8a3.5 3.5 0 0 1 7 0v3',
  globe: 'M12 20.5a8.5 8.5 0 1 0 0-17 8.5 8.5 0 0 0 0 17Zm0 0c2.5-2 3.5-5 3.5-8.5S14.5 5.5 12 3.5c-2.5 2-3.5 5-3.5 8.5s1 6.5 3.5 8.5ZM3.5 12h17',
  folder: 'M3.5 18.5v-13h6l2 2.5h9v10.5Z',
  back: 'M19 12H5m0 0 5.5-5.5M5 12l5.5 5.5',
  help: 'M12 20.5a8.5 8.5 0 1 0 0-17 8.5 8.5 0 0 0 0 17Zm-2.5-10.700c.2-3.3 5-3.1 5 .1 0 2-2.5 2-2.5 3.900m0 2.700v.4',
  video: 'M3.5 5.5h17v13h-17Zm6.5 3.5v6l5-3Z',
  audio: 'M9 17.5V6l10-2v11.5M9 17.5a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0Zm10-2a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0Z',
  image: 'M3.5 5h17v14h-17Zm0 11 5-5 4.5 4.5 2.5-2.5 5 5M15.5 9.5h.1',
  text: 'M6 3.5h8l4 4v13H6Zm8 0v4h4M9 12h6m-6 4h6',
  archive: 'M4 4.5h16v4H4Zm1.5 4v11h13v-11M10 12.5h4',
  file: 'M6 3.5h8l4 4v13H6Zm8 0v4h4',
};

/** An icon. It says nothing to a screen reader: the text or the label beside it does. */
export function icon(name) {
  return svg('svg', { class: 'icon', viewBox: '0 0 24 24', 'aria-hidden': 'true' }, svg('path', { d: STROKES[name] }));
}
