// One transfer: a row that moves, and opens to show where the pieces come from and which are here.

import { copyLink, pageOf } from '../lib/content.js';
import { ask } from '../lib/dialogs.js';
import { fileName, fill, foreign, h, mark, plain, say } from '../lib/dom.js';
import * as downloads from '../lib/downloads.js';
import { duration, percent, percentText, rate, shortId, size } from '../lib/format.js';
import { icon } from '../lib/icons.js';
import { act, advice, copy } from '../lib/notices.js';
import { go } from '../lib/router.js';
import { strip } from '../lib/strip.js';
import { playLink } from './found.js';
import { button, factsOf, pathBadge, peerLink, table } from './parts.js';

const MARKS = { done: 'check', failed: 'warn', paused: 'pause', waiting: 'peers' };
/** Rows that are open, so that they are again when the list is read anew. */
const opened = new Set();

export function transferRow(first, signal) {
  let item = first;
  let details = null;
  const sign = h('span', { class: 'state-mark' });
  const title = h('a', { class: 'row-title' });
  const bar = h('progress', { max: 100 });
  const words = Array.from({ length: 5 }, () => h('span', {}));
  const actions = h('span', { class: 'get' });
  const more = button('more', 'Details', () => toggle(), { bare: true });
  const place = h('div', { class: 'details', hidden: true });
  const element = h('li', { class: 'transfer' }, sign,
    h('div', { class: 'row-main' }, title, bar, h('p', { class: 'row-facts num' }, words)),
    h('div', { class: 'row-actions' }, actions, more),
    place);

  const update = (now) => {
    const was = item;
    item = now;
    if (now === first || was.state !== now.state || was.name !== now.name) drawState();
    mark(element, 'data-state', item.state);
    bar.hidden = item.state === 'done' || item.state === 'failed';
    if (item.size === null) bar.removeAttribute('value');
    else bar.value = percent(item.verified_bytes, item.size);
    const parts = standing(item);
    words.forEach((word, at) => say(word, parts[at] || ''));
    if (details) details.update(item);
  };
  const drawState = () => {
    const name = plain(item.name);
    fill(sign, icon(MARKS[item.state] ?? 'fetch'));
    fill(title, fileName(item.name));
    title.href = pageOf(item);
    mark(bar, 'aria-label', `Progress of ${name}`);
    mark(more, 'aria-label', `Details of ${name}`);
    const held = actions.contains(document.activeElement);
    fill(actions, item.state !== 'done' && playLink(item), actionsOf(item).map(([kind, label, work]) => {
      const one = button(kind, `${label} ${name}`, () => work(one), { bare: true, wide: kind === 'link' });
      one.dataset.action = label.toLowerCase();
      return one;
    }));
    // The button that was pressed has made room for another.
    if (held) actions.querySelector('button')?.focus();
  };
  const toggle = () => {
    const open = place.hidden;
    place.hidden = !open;
    mark(more, 'aria-expanded', String(open));
    if (open) opened.add(item.id);
    else opened.delete(item.id);
    details?.close();
    details = open ? detailsOf(item, signal) : null;
    fill(place, details?.element);
    details?.update(item);
  };
  mark(more, 'aria-expanded', 'false');
  update(first);
  if (opened.has(first.id)) toggle();
  return { element, update };
}

/** What can be done, as far as it makes sense now: icon, word, work. */
function actionsOf(item) {
  const { id, state, content_id: content } = item;
  const stop = ['close', 'Cancel', (pressed) => cancel(id, pressed)];
  const start = (label) => ['play', label, (pressed) => act(pressed, 'Not resumed.', () => downloads.resume(id))];
  if (state === 'done') return [['open', 'Open', () => go(pageOf(item, { show: 'yes' }))], ['link', 'Copy the link of', () => copyLink(content)], ['close', 'Take off the list:', (pressed) => act(pressed, 'Still there.', () => downloads.remove(id))]];
  if (state === 'failed') return [start('Try again:'), stop];
  if (state === 'paused') return [start('Resume'), stop];
  if (state === 'finishing') return [];
  return [['pause', 'Pause', (pressed) => act(pressed, 'Not paused.', () => downloads.pause(id))], stop];
}

function cancel(id, pressed) {
  const now = downloads.byId(id);
  if (!now?.verified_bytes) return act(pressed, 'Not cancelled.', () => downloads.remove(id));
  return ask({
    title: 'Cancel this transfer?',
    body: h('p', {}, `${size(now.verified_bytes)} of `, foreign(now.name), ' are here, and will be deleted. Pausing keeps them.'),
    label: 'Cancel and delete',
    keep: 'Keep it',
    bad: true,
    doing: 'Not cancelled.',
    work: () => downloads.remove(id),
  });
}

/** Where it stands, in a few parts. */
function standing({ state, size: whole, verified_bytes: verified, rate_bps: bps, eta_seconds: eta, sources, error, note }) {
  const part = whole === null ? 'size not known yet' : `${size(verified)} of ${size(whole)}`;
  const from = sources.filter((source) => source.rate_bps > 0 || state === 'done');
  const names = from.slice(0, 3).map((source) => source.username).join(', ') + (from.length > 3 ? ` and ${from.length - 3} more` : '');
  return {
    queued: () => [part, 'waits for its turn'],
    waiting: () => [part, note ? `waiting: ${note}` : 'waits for a holder to come online'],
    running: () => [part, percentText(verified, whole), bps > 0 && rate(bps), eta !== null && `${duration(eta)} left`, names && `from ${names}`],
    paused: () => [part, 'paused'],
    finishing: () => [part, 'being put in its place'],
    done: () => [size(whole), names && `from ${names}`],
    failed: () => [part, `failed: ${error?.detail ?? 'no reason is known'}`, advice({ code: error?.code })],
  }[state]?.() ?? [part, state];
}

function detailsOf(item, signal) {
  const closed = new AbortController();
  const pieces = strip(item.id, AbortSignal.any([closed.signal, signal]));
  const sources = sourcesTable();
  const facts = h('div', {});
  let [state, path] = [item.state, undefined];
  return {
    element: h('div', { class: 'details-body' }, pieces.element, sources.element, facts),
    close: () => closed.abort(),
    update(now) {
      // Between two looks of the strip the state may have ended.
      if (now.state !== state) pieces.look();
      state = now.state;
      sources.update(now);
      if (now.path === path) return;
      path = now.path;
      fill(facts, factsOf([
        path && ['On this machine', h('code', {}, foreign(path)), copyButton(path, 'The path')],
        ['Content id', h('code', { title: now.content_id }, shortId(now.content_id)), copyButton(now.content_id, 'The content id')],
      ]));
    },
  };
}

function copyButton(text, what) {
  return h('button', { class: 'quiet small', 'aria-label': `Copy: ${what.toLowerCase()}`, onclick: () => copy(text, `${what} is copied.`) }, 'Copy');
}

/** Where the pieces come from. The numbers change in place: the keyboard may stand on a link of it. */
function sourcesTable() {
  const element = h('div', {});
  let shown = null;
  let cells = [];
  return {
    element,
    update({ sources, state }) {
      const now = sources.map((source) => `${source.peer_id} ${source.path} ${source.why}`).join() || `none ${state === 'done'}`;
      if (now !== shown) {
        shown = now;
        cells = sources.map(() => [h('span', {}), h('span', {})]);
        const row = (source, at) => [peerLink(source), pathBadge(source.path, source.why), ...cells[at]];
        fill(element, sources.length > 0
          ? table('Sources', ['From', 'Path', 'Verified', 'Rate'], sources.map(row))
          : h('p', { class: 'dim' }, state === 'done' ? 'It was on this machine already.' : 'No source yet.'));
      }
      sources.forEach((source, at) => {
        say(cells[at][0], size(source.bytes));
        say(cells[at][1], source.rate_bps > 0 ? rate(source.rate_bps) : '');
      });
    },
  };
}
