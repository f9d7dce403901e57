// My files: what this peer shares, and what is on its way there.

import { call, get, post } from '../lib/api.js';
import { paced, throttle } from '../lib/cell.js';
import { copyLink, pageOf } from '../lib/content.js';
import { ask, audienceFields, audienceOf, usernames } from '../lib/dialogs.js';
import { fileName, fill, foreign, h, mark, plain, say } from '../lib/dom.js';
import { MOST, chosen } from '../lib/drop.js';
import { events, resync } from '../lib/events.js';
import { count, kindOf, plural, size } from '../lib/format.js';
import { icon } from '../lib/icons.js';
import { PagedList } from '../lib/list.js';
import { act, announce, toast, toastProblem } from '../lib/notices.js';
import { rename, to } from '../lib/router.js';
import { status } from '../lib/session.js';
import * as uploads from '../lib/uploads.js';
import { playLink } from './found.js';
import { button, empty, heading } from './parts.js';
import { hashingPanel } from './hashing.js';
import { uploadsPanel } from './uploads.js';

/** A file of a large folder comes every few milliseconds: the list is read again this often at most, a long one less. */
const REFRESH_MS = 1_000;
const REFRESH_LONG_MS = 5_000;
const LONG = 200;
const TYPED_MS = 80;
/** Whom the next files are for: chosen once, kept while the page is open. Until then nobody's rights are touched: what is
 * shared for a few already stays theirs, anything else is everybody's. */
let audience = null;

export const title = () => 'My files';

/** Shares files that were dropped or chosen. */
export function share(files) {
  if (files.length > 0) uploads.add(files, audience, tellWhom);
  if (files.length >= MOST) {
    toast(`These are ${count(MOST)} files, and more are not taken at once. A folder of this machine is shared faster by its path.`, { bad: true });
  }
}

/** Says whom a file is for where that was not chosen just now. */
function tellWhom({ name, audience: found }) {
  if (audience || found === 'network') return;
  const whom = found.length === 0 ? 'you alone' : `${audienceText(found)} only`;
  toast(h('p', {}, foreign(name), ` is for ${whom}: so is its folder, or so was the same content before.`), { key: `for ${found}` });
}

export function show(main, { params, place }, signal) {
  const filter = h('input', { type: 'search', value: params.q ?? '', placeholder: 'Filter by name', 'aria-label': 'Filter my files', autocomplete: 'off', spellcheck: 'false' });
  const list = new PagedList({
    label: 'My files',
    signal,
    load: (page, loading) => get('/v1/files', { q: filter.value, ...page }, loading),
    key: keyOf,
    row: (file) => fileRow(file, () => list.remove(keyOf(file))),
    empty: () => (filter.value
      ? empty('files', 'No file of yours is called so', 'A part of the name is enough.')
      : empty('files', 'You share nothing yet', 'Drop files above, or put them into a shared folder of this peer: they are found by themselves.')),
  });
  filter.addEventListener('input', paced(TYPED_MS, () => {
    rename(to('files', [], { q: filter.value }));
    list.reset();
  }, signal));
  const refresh = throttle(() => (list.size > LONG ? REFRESH_LONG_MS : REFRESH_MS), () => list.refresh(), signal);
  events.listen(({ name, data }) => {
    if (name !== 'file') return;
    if (data.kind === 'refused') toast(h('p', {}, foreign(data.path), ` cannot be shared: ${data.detail}.`), { bad: true, key: data.path });
    else if (data.kind !== 'hashing') refresh();
  }, signal);
  resync.listen(refresh, signal);

  const totals = h('p', { class: 'dim num' });
  status.watch((now) => { if (now) say(totals, totalsText(now.shared)); }, signal);
  main.append(
    heading('My files', { after: totals }),
    dropZone(),
    uploadsPanel(signal),
    hashingPanel(signal),
    h('div', { class: 'bar' }, filter, button('folder', 'Share a path of this machine…', sharePath)),
    list.element);
  list.open(place);
}

function keyOf({ content_id: id, name }) {
  return `${id} ${name}`;
}

function totalsText({ files, bytes, hashing_files: hashing, announced }) {
  const waits = hashing === 0 && !announced;
  return `${plural(files, 'file')}, ${size(bytes)}${waits ? ' · telling the directory…' : ''}`;
}

function dropZone() {
  const files = h('input', { type: 'file', multiple: true, hidden: true, id: 'choose-files', onchange: take });
  const folder = h('input', { type: 'file', webkitdirectory: true, hidden: true, id: 'choose-folder', onchange: take });
  function take({ target }) {
    share(chosen(target));
    target.value = '';
  }
  const whom = h('button', { class: 'quiet', onclick: () => chooseAudience('For whom are the next files?', audience ?? 'network', (chosenOne) => {
    audience = chosenOne;
    drawWhom();
  }) });
  const drawWhom = () => fill(whom, icon(Array.isArray(audience) ? 'lock' : 'globe'), audienceText(audience ?? 'network'), icon('more'));
  drawWhom();
  return h('section', { class: 'drop', 'aria-label': 'Share files' },
    icon('upload'),
    h('p', {}, h('strong', {}, 'Drop files or folders here'), h('span', { class: 'dim' }, ' They are copied into the shared folder of this peer.')),
    h('div', { class: 'actions' },
      h('button', { class: 'primary', onclick: () => files.click() }, 'Choose files'),
      h('button', { onclick: () => folder.click() }, 'Choose a folder'),
      whom),
    files, folder);
}

function fileRow(first, gone) {
  let file = first;
  const whom = h('button', { class: 'quiet small', onclick: () => chooseAudience('Who may have it?', file.audience, async (chosenOne) => {
    update(await call('PATCH', `/v1/files/${file.content_id}`, { json: { audience: chosenOne } }));
  }) });
  const name = plain(first.name);
  const stop = button('close', `Stop sharing ${name}`, () => unshare(file, stop, gone), { bare: true });
  const element = h('li', {},
    icon(kindOf(file.media_type, file.name)),
    h('div', { class: 'row-main' },
      h('a', { class: 'row-title', href: pageOf(file) }, fileName(file.name)),
      h('p', { class: 'row-facts num' },
        h('span', { class: 'size' }, size(file.size)),
        h('span', { class: 'type wide-only' }, file.media_type ?? 'unknown type'),
        whom)),
    h('div', { class: 'row-actions' },
      playLink(file),
      button('send', `Send ${name} to somebody`, () => send(file), { bare: true }),
      button('link', `Copy the link of ${name}`, () => copyLink(file.content_id), { bare: true, wide: true }),
      stop));
  const update = (now) => {
    file = now;
    mark(element, 'title', plain(file.path));
    fill(whom, icon(file.audience === 'network' ? 'globe' : 'lock'), audienceText(file.audience));
    mark(whom, 'aria-label', `For ${audienceText(file.audience)}; change who may have ${name}`);
  };
  update(first);
  return { element, update };
}

function audienceText(now) {
  if (now === 'network') return 'Everybody';
  if (now.length === 0) return 'Only you';
  return now.length <= 2 ? now.join(', ') : `${now[0]} and ${now.length - 1} others`;
}

function chooseAudience(question, now, work) {
  ask({ title: question, body: audienceFields(now), label: 'Save', doing: 'Not changed.', work: async (form) => work(audienceOf(form)) });
}

/** Stops at once, and can be taken back: no question before. */
async function unshare(file, pressed, gone) {
  const done = await act(pressed, 'Still shared.', () => call('DELETE', `/v1/files/${file.content_id}`));
  if (!done) return;
  gone();
  announce(`${plain(file.name)} is no longer shared`);
  toast(h('p', {}, foreign(file.name), ' is no longer shared. The file stays where it is.'), {
    action: {
      label: 'Undo',
      // The row comes back with the event that tells of it.
      run: () => post('/v1/files', { path: file.path, audience: file.audience }).catch((problem) => toastProblem(problem, 'Not shared again.')),
    },
  });
}

function send(file) {
  const field = h('input', { name: 'to', class: 'wide', required: true, list: 'usernames', autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false', id: 'send-to' });
  ask({
    title: 'Send to somebody',
    body: [h('p', {}, 'They see ', foreign(file.name), ' among their offers, and choose whether to fetch it. If their peer is off, the offer waits.'),
      h('label', { for: 'send-to' }, 'Username'), field, usernames()],
    label: 'Send',
    doing: 'Not sent.',
    async work(form) {
      const to = form.elements.to.value.trim();
      await post('/v1/offers', { content_id: file.content_id, to });
      toast(h('p', {}, foreign(file.name), ` is offered to ${to}.`));
    },
  });
}

function sharePath() {
  const field = h('input', { name: 'path', class: 'wide', required: true, autocomplete: 'off', spellcheck: 'false', id: 'share-path', placeholder: '/srv/share/papers' });
  ask({
    title: 'Share a path of this machine',
    body: [h('p', { class: 'dim' }, 'A file or folder that lies inside a shared folder of this peer. Nothing is copied.'), h('label', { for: 'share-path' }, 'Path'), field],
    label: 'Share',
    doing: 'Not shared.',
    async work(form) {
      const answer = await post('/v1/files', { path: form.elements.path.value, ...(audience && { audience }) });
      toast(answer.files === undefined ? h('p', {}, foreign(answer.name), ' is shared.') : `${plural(answer.files, 'file')} to hash.`);
      if (answer.files === undefined) tellWhom(answer);
    },
  });
}
