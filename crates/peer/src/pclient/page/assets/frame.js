// What stands around the views: the navigation, how the peer stands, what is away, and what has happened meanwhile.

import { get } from './lib/api.js';
import { throttle } from './lib/cell.js';
import { pageOf } from './lib/content.js';
import { fill, foreign, h, mark, plain, say } from './lib/dom.js';
import * as downloads from './lib/downloads.js';
import { events, resync } from './lib/events.js';
import { plural, rate } from './lib/format.js';
import { icon } from './lib/icons.js';
import { announce, problemBlock, toast } from './lib/notices.js';
import { go, route } from './lib/router.js';
import { away, look, phase, status } from './lib/session.js';
import { VIEWS, showShortcuts } from './lib/shortcuts.js';

/** Offers that wait for an answer are counted so far, and so often at most. */
const MOST_OFFERS = 99;
const OFFERS_MS = 500;

/** Bytes per second that are more than the end of something. */
const WORTH_SAYING = 1 << 10;

export function draw() {
  drawNavigation();
  drawFacts();
  drawBanner();
  tellEnds();
  tellOffers();
}

function drawNavigation() {
  const open = h('span', { class: 'open', hidden: true });
  const link = ([view, label]) => h('a', { href: `#/${view}`, 'data-view': view }, icon(view), h('span', {}, label), view === 'offers' && open);
  fill(document.getElementById('views'), VIEWS.map(link));
  const look = throttle(() => OFFERS_MS, async () => {
    if (phase.value !== 'ready') return;
    const { items, next_cursor: more } = await get('/v1/offers', { state: 'offered', limit: MOST_OFFERS }).catch(() => ({ items: [] }));
    open.hidden = items.length === 0;
    fill(open, `${items.length}${more ? '+' : ''}`, h('span', { class: 'unseen' }, ' to be answered'));
  });
  phase.watch(look);
  resync.listen(look);
  events.listen(({ name }) => { if (name === 'offer') look(); });
}

function drawFacts() {
  const name = h('strong', {});
  const dot = h('span', { class: 'dot' });
  const link = h('a', { href: '#/status', class: 'fact who' }, dot, name);
  const moving = h('span', { class: 'fact num moving' });
  const help = h('button', { class: 'quiet bare', 'aria-label': 'Keyboard shortcuts', title: 'Keyboard shortcuts (?)', onclick: showShortcuts }, icon('help'));
  fill(document.getElementById('facts'), moving, link, help);
  status.watch((now) => {
    link.hidden = !now?.username;
    if (!now) return;
    say(name, now.username ?? '');
    mark(dot, 'class', now.directory.connected ? 'dot good' : 'dot warn');
    mark(link, 'title', now.directory.connected ? 'Connected to the directory' : 'The directory cannot be reached');
    const { down_bps: down, up_bps: up } = now.transfers;
    say(moving, [down >= WORTH_SAYING && `↓ ${rate(down)}`, up >= WORTH_SAYING && `↑ ${rate(up)}`].filter(Boolean).join('   '));
  });
}

/** One line above all views while something is away. */
function drawBanner() {
  const banner = h('div', { class: 'banner', hidden: true });
  document.getElementById('main').before(banner);
  let said = '';
  const tell = () => {
    const directory = status.value?.directory;
    const lost = directory && !directory.connected && phase.value === 'ready';
    const now = away.value?.message ?? (lost ? `${directory.url} ${directory.error ?? ''}` : '');
    banner.hidden = !now;
    if (now === said) return;
    said = now;
    if (away.value) fill(banner, problemBlock(away.value, { retry: look }));
    else if (lost) {
      fill(banner, h('div', { class: 'problem', role: 'alert' }, icon('warn'),
        h('p', {}, h('strong', {}, 'The directory cannot be reached. '), foreign(`${directory.url}: ${directory.error ?? 'no answer'}`), '. ',
          'Transfers that run go on; searching comes back by itself.')));
    }
  };
  away.watch(tell);
  status.watch(tell);
}

/** Tells when a download has ended, unless the list of them is looked at. */
function tellEnds() {
  const active = new Set();
  downloads.changes.listen((changes) => {
    const ended = [];
    for (const [id, download] of changes) {
      if (download && downloads.isActive(download)) active.add(id);
      else if (active.delete(id) && download && download.state !== 'paused') ended.push(download);
    }
    const failed = ended.filter((download) => download.state === 'failed');
    for (const download of failed.slice(0, 2)) {
      toast(h('p', {}, foreign(download.name), ` could not be fetched: ${download.error?.detail ?? 'see its row'}.`), { bad: true });
    }
    const done = ended.filter((download) => download.state === 'done');
    if (done.length === 0) return;
    const [first] = done;
    const text = done.length === 1 ? [foreign(first.name), ' is here.'] : `${plural(done.length, 'file')} are here.`;
    if (route.value.view === 'transfers') announce(done.length === 1 ? `${plain(first.name)} is here.` : text);
    else toast(h('p', {}, text), { key: 'here', action: { label: 'Open', run: () => go(done.length === 1 ? pageOf(first) : '#/transfers') } });
  });
}

function tellOffers() {
  events.listen(({ name, data }) => {
    if (name !== 'offer' || data.state !== 'offered' || route.value.view === 'offers') return;
    toast(h('p', {}, foreign(data.from.username), ' offers you ', foreign(data.name), '.'),
      { key: 'offer', action: { label: 'Look', run: () => go('#/offers') } });
  });
}
