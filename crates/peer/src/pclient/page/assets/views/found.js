// Rows of contents that others hold: what a search found, and what a peer shares.

import { get } from '../lib/api.js';
import { copyLink, pageOf, showable } from '../lib/content.js';
import { fileName, fill, h, plain, say } from '../lib/dom.js';
import * as downloads from '../lib/downloads.js';
import { kindOf, percent, percentText, piecesOf, size } from '../lib/format.js';
import { icon } from '../lib/icons.js';
import { act, toast } from '../lib/notices.js';
import { status } from '../lib/session.js';
import { button, holdersText } from './parts.js';

/** How many answers about holders are waited for at once. */
const ASKED_AT_ONCE = 2;

/** Makes the rows of one list, and keeps them true until the signal aborts. */
export function foundRows(signal) {
  const rows = new Map();
  const holders = holdersOfRows(signal);
  downloads.readNewest();
  downloads.changes.listen((changes) => {
    for (const download of changes.values()) {
      const row = rows.get(download?.content_id);
      row?.moved(download);
      // The list has been read anew since.
      if (row && !row.element.isConnected) rows.delete(row.id);
    }
  }, signal);
  return {
    make(item) {
      const row = foundRow(item);
      rows.set(item.content_id, row);
      if (item.online > 0) holders.ask(row);
      return row;
    },
  };
}

function foundRow(first) {
  let item = first;
  let [relayed, own] = [0, false];
  const kind = kindOf(item.media_type, item.name);
  const holders = h('span', {});
  const dot = h('span', { class: 'dot' });
  const facts = h('p', { class: 'row-facts num' },
    h('span', { class: 'size' }, size(item.size)),
    h('span', { class: 'type wide-only' }, item.media_type ?? 'unknown type'),
    item.holders !== undefined && h('span', { class: 'held' }, dot, holders));
  const get = h('span', { class: 'get' });
  const element = h('li', {},
    icon(kind),
    h('div', { class: 'row-main' },
      h('a', { class: 'row-title', href: pageOf(item) }, fileName(item.name)),
      facts),
    h('div', { class: 'row-actions' },
      playLink(item),
      get,
      button('link', `Copy the link of ${plain(item.name)}`, () => copyLink(item.content_id), { bare: true, wide: true })));
  const update = (now) => {
    item = now;
    if (item.holders === undefined) return;
    say(holders, holdersText({ ...item, relayed }));
    dot.className = item.complete ? 'dot good' : item.online > 0 ? 'dot warn' : 'dot';
    holders.title = item.complete ? '' : item.online > 0 ? 'Nobody who is online has all of it' : 'It waits until a holder comes online';
  };
  const moved = (download) => drawFetch(get, item, download, { own });
  update(item);
  moved(downloads.ofContent(item.content_id));
  return {
    element,
    update,
    moved,
    get id() { return item.content_id; },
    heldBy(all) {
      relayed = all.filter((holder) => holder.path === 'relayed').length;
      own = isHere(item, all);
      update(item);
      if (own) moved(downloads.ofContent(item.content_id));
    },
  };
}

/** A link to where the browser plays or shows it, also while it arrives; null where it cannot. */
export function playLink(item) {
  const kind = showable(item);
  if (kind === null || kind === 'text') return null;
  const label = kind === 'image' ? 'Show' : 'Play';
  return h('a', { class: 'button quiet bare', href: pageOf(item, { show: 'yes' }), 'aria-label': `${label} ${plain(item.name)}`, title: `${label} it now` }, icon(kind === 'image' ? 'show' : 'watch'));
}

/** Whether this peer is among the holders, with all of it. */
export function isHere({ size: whole }, holders) {
  const mine = holders.find((holder) => holder.peer_id === status.value?.peer_id);
  return mine !== undefined && whole !== null && mine.pieces_held >= piecesOf(whole);
}

/** Where a content can be fetched: the button, or how far it is; `own` where it is here without a download. */
export function drawFetch(place, item, download, { primary = false, own = false } = {}) {
  const state = download?.state ?? 'none';
  if (download && downloads.isActive(download) && place.dataset.state === 'active') {
    const [bar, words] = place.firstElementChild.children;
    bar.value = percent(download.verified_bytes, download.size ?? 0);
    say(words, fetchWords(download));
    return;
  }
  place.dataset.state = download && downloads.isActive(download) ? 'active' : state;
  if (place.dataset.state === 'active') {
    const bar = h('progress', { max: 100, value: percent(download.verified_bytes, download.size ?? 0), 'aria-label': `Progress of ${plain(item.name)}` });
    fill(place, h('a', { class: 'fetching', href: '#/transfers' }, bar, h('span', { class: 'num' }, fetchWords(download))));
  } else if (state === 'done' || (own && state === 'none')) {
    fill(place, h('a', { class: 'here', href: pageOf({ ...item, name: download?.name ?? item.name }) }, icon('check'), 'Here'));
  } else if (state === 'paused') {
    fill(place, h('a', { class: 'fetching', href: '#/transfers' }, h('span', { class: 'num' }, `Paused at ${percentText(download.verified_bytes, download.size)}`)));
  } else {
    const label = state === 'failed' ? 'Fetch again' : 'Fetch';
    const fetchIt = button('fetch', label, () => act(fetchIt, 'Not fetched.', async () => {
      const started = state === 'failed' ? await downloads.resume(download.id) : await downloads.start(item);
      if (started?.state === 'done') toast('It is here already.', { key: 'here' });
    }), { primary });
    fetchIt.setAttribute('aria-label', `${label} ${plain(item.name)}`);
    fill(place, fetchIt);
  }
}

function fetchWords({ state, verified_bytes: verified, size: whole }) {
  return state === 'running' ? percentText(verified, whole) : { queued: 'Queued', waiting: 'Waiting', finishing: 'Finishing' }[state];
}

/** Finds out, for rows on the screen, who holds them: this peer itself, and how many are reached by the relay alone. */
function holdersOfRows(signal) {
  const rowOf = new WeakMap();
  const queue = [];
  let asking = 0;
  const next = async () => {
    if (asking >= ASKED_AT_ONCE || signal.aborted) return;
    let row = queue.pop();
    // Somebody has typed on since.
    while (row && !row.element.isConnected) row = queue.pop();
    if (!row) return;
    asking += 1;
    try {
      const { items } = await get(`/v1/files/${row.id}/holders`, {}, signal);
      row.heldBy(items);
    } catch {
      // A detail of the row; the row itself says what is known without it.
    }
    asking -= 1;
    next();
  };
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      queue.push(rowOf.get(target));
      next();
    }
  });
  signal.addEventListener('abort', () => seen.disconnect(), { once: true });
  return {
    ask(row) {
      rowOf.set(row.element, row);
      seen.observe(row.element);
    },
  };
}
