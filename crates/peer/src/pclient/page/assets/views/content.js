// One content: who holds it and how they are reached, what can be done with it, and the file itself where the browser
// can show it, also while it is still arriving.

import { authorization, get, isAbort, problemOf } from '../lib/api.js';
import { bytesAt, copyLink, showable } from '../lib/content.js';
import { fileName, fill, h, plain, say } from '../lib/dom.js';
import * as downloads from '../lib/downloads.js';
import { resync } from '../lib/events.js';
import { ago, kindOf, percentText, piecesOf, plural, shortId, size } from '../lib/format.js';
import { icon } from '../lib/icons.js';
import { copy, problemBlock, toastProblem, waiting } from '../lib/notices.js';
import { status } from '../lib/session.js';
import { drawFetch, isHere } from './found.js';
import { button, empty, factsOf, pathBadge, peerLink, table } from './parts.js';

/** How much of a text is shown. */
const TEXT_BYTES = 64 << 10;

export const title = ({ params, path }) => params.name ?? `Content ${shortId(path[0] ?? '')}`;

export function show(main, { path: [id = ''], params }, signal) {
  if (!/^[0-9a-f]{64}$/.test(id)) {
    main.append(empty('file', 'This address names no content', 'A content id has 64 hexadecimal digits.'));
    return;
  }
  const bytes = Number(params.size);
  const item = { content_id: id, name: params.name ?? id, size: params.size && bytes >= 0 ? bytes : null, media_type: params.type ?? null };
  const stage = h('div', { class: 'stage', hidden: true });
  const fetchPlace = h('span', { class: 'get' });
  const kind = showable(item);
  const showButton = kind && button(['text', 'image'].includes(kind) ? 'show' : 'watch', { text: 'Show the beginning', image: 'Show' }[kind] ?? 'Play', () => present(stage, item, kind, signal));
  const save = h('a', { class: 'button quiet', download: '', hidden: true }, icon('fetch'), 'Save a copy');
  bytesAt(id).then((where) => {
    save.href = where;
    save.hidden = false;
  }, (problem) => toastProblem(problem));
  const holders = h('div', {});
  const here = h('p', { class: 'dim' });

  main.append(
    h('div', { class: 'heading content-heading' }, icon(kindOf(item.media_type, item.name)), h('h1', {}, fileName(item.name))),
    factsOf([
      item.size !== null && ['Size', h('span', { class: 'num' }, size(item.size))],
      item.media_type && ['Type', item.media_type],
      ['Content id', h('code', { title: id }, shortId(id)), ' ', h('button', { class: 'quiet small', onclick: () => copy(id, 'The content id is copied; b3sum prints the same for the file.') }, 'Copy')],
    ]),
    h('div', { class: 'actions' }, fetchPlace, showButton, save, button('link', 'Copy link', () => copyLink(id))),
    here, stage,
    h('h2', {}, 'Who has it'), holders);

  let own = false;
  const drawn = (download) => {
    drawFetch(fetchPlace, item, download, { primary: true, own });
    here.hidden = download?.state !== 'done' || !download.path;
    if (!here.hidden) fill(here, 'It lies at ', h('code', {}, plain(download.path)));
  };
  drawn(downloads.ofContent(id));
  downloads.changes.listen((changes) => {
    for (const download of changes.values()) if (download?.content_id === id) drawn(download);
  }, signal);
  const read = () => drawHolders(holders, id, item, signal, (all) => {
    own = isHere(item, all);
    if (own) drawn(downloads.ofContent(id));
  });
  resync.listen(read, signal);
  read();
  if (params.show && kind) present(stage, item, kind, signal);
}

async function drawHolders(place, id, item, signal, found) {
  const stop = waiting(place, 'Asking who has it…', signal);
  try {
    const { items } = await get(`/v1/files/${id}/holders`, {}, signal);
    found(items);
    const all = item.size === null ? null : piecesOf(item.size);
    const part = (held) => (all === null ? plural(held, 'piece') : held < all ? `${percentText(held, all)} of it` : 'all of it');
    const own = status.value?.peer_id;
    const way = (holder) => (holder.peer_id === own ? h('span', { class: 'badge' }, 'this peer') : pathBadge(holder.path, holder.why));
    const row = (holder) => [peerLink(holder), way(holder), part(holder.pieces_held), holder.online ? 'now' : ago(holder.last_seen)];
    items.sort((a, b) => b.online - a.online || a.username.localeCompare(b.username));
    fill(place, items.length > 0
      ? table(plural(items.length, 'holder'), ['Peer', 'Path', 'Has', 'Last seen'], items.map(row))
      : h('p', { class: 'dim' }, 'Nobody whom you may ask.'));
  } catch (problem) {
    if (isAbort(problem)) return;
    fill(place, problem.status === 404
      ? h('p', { class: 'dim' }, 'Nobody on the network has it now, or it is not for you. A download of it waits for a holder.')
      : problemBlock(problem, { retry: () => drawHolders(place, id, item, signal, found) }));
  } finally {
    stop();
  }
}

/** Puts the file itself on the stage. */
async function present(stage, item, kind, signal) {
  stage.hidden = false;
  const words = h('p', { class: 'dim', role: 'status' }, 'Waiting for the first bytes…');
  try {
    if (kind === 'text') fill(stage, words, await beginning(item, words, signal));
    else fill(stage, await player(item, kind, words, signal), words);
    stage.scrollIntoView({ block: 'nearest' });
  } catch (problem) {
    if (!isAbort(problem)) fill(stage, problemBlock(problem, { retry: () => present(stage, item, kind, signal) }));
  }
}

async function player(item, kind, words, signal) {
  const where = await bytesAt(item.content_id);
  const name = plain(item.name);
  const failed = () => say(words, 'The browser cannot show this. Fetch it and open it with another program, or give a player the link.');
  if (kind === 'image') {
    return h('img', { src: where, alt: name, onerror: failed, onload: () => say(words, '') });
  }
  const arriving = () => say(words, 'Waiting for bytes from its holders…');
  const media = h(kind, {
    src: where, controls: true, preload: 'auto', 'aria-label': name, playsinline: true,
    onerror: failed, onwaiting: arriving, onplaying: () => say(words, ''), oncanplay: () => say(words, ''),
  });
  // A player that is out of sight still reads: it lets go when the view does.
  signal.addEventListener('abort', () => {
    media.removeAttribute('src');
    media.load();
  }, { once: true });
  media.play().catch(() => { /* The browser wants a click first: the controls are there. */ });
  return media;
}

async function beginning(item, words, signal) {
  const where = `/v1/content/${item.content_id}`;
  const response = await fetch(where, { headers: { ...authorization(), Range: `bytes=0-${TEXT_BYTES - 1}` }, signal });
  if (response.status === 416) return h('p', { class: 'dim' }, 'The file is empty.');
  if (!response.ok) throw await problemOf(response);
  const bytes = await response.arrayBuffer();
  say(words, bytes.byteLength === TEXT_BYTES ? `The first ${size(TEXT_BYTES)}:` : '');
  return h('pre', { tabindex: '0', 'aria-label': `The beginning of ${plain(item.name)}` }, new TextDecoder().decode(bytes));
}
