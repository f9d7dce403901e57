// Starts the page: the frame around the views, and which of them is shown. `lib` is what views are made with, `views`
// is one file for each.

import { fill, h, mark, say } from './lib/dom.js';
import { acceptDrops } from './lib/drop.js';
import * as downloads from './lib/downloads.js';
import { events, listen } from './lib/events.js';
import { plural, rate } from './lib/format.js';
import { icon } from './lib/icons.js';
import { pageOf } from './lib/content.js';
import { announce, problemBlock, toast, toastProblem } from './lib/notices.js';
import { go, route } from './lib/router.js';
import { away, look, phase, status } from './lib/session.js';
import { VIEWS, listenToKeys, showShortcuts } from './lib/shortcuts.js';
import { foreign, plain } from './lib/dom.js';
import * as content from './views/content.js';
import * as files from './views/files.js';
import * as login from './views/login.js';
import * as offers from './views/offers.js';
import * as peer from './views/peer.js';
import * as peers from './views/peers.js';
import * as search from './views/search.js';
import * as standing from './views/status.js';
import * as token from './views/token.js';
import * as transfers from './views/transfers.js';

/** Each has `title(route)`, and `show(main, route, signal)`, which fills the main part until the signal aborts. */
const PAGES = { search, content, transfers, files, offers, peers, peer, status: standing };
/** Which entry of the navigation a view belongs to, where it is not its own. */
const UNDER = { content: 'search', peer: 'peers' };

const main = document.getElementById('main');
const nav = document.getElementById('views');
const facts = document.getElementById('facts');
let shown = new AbortController();

function show() {
  shown.abort();
  shown = new AbortController();
  const open = phase.value === 'ready';
  nav.hidden = !open;
  if (phase.value === 'starting') return fill(main, h('p', { class: 'waiting' }, 'Asking the peer…'));
  if (!open) return enter(phase.value === 'token' ? token : login, {});
  const { view } = route.value;
  if (!PAGES[view]) return go('#/search');
  for (const link of nav.querySelectorAll('a')) mark(link, 'aria-current', link.dataset.view === (UNDER[view] ?? view) && 'page');
  return enter(PAGES[view], route.value);
}

function enter(page, where) {
  const title = page.title(where);
  document.title = title === 'Trueque' ? title : `${plain(title)} · Trueque`;
  fill(main);
  scrollTo(0, 0);
  page.show(main, where, shown.signal);
}

/** Another view, by its link: screen readers hear of it, and the keyboard goes on from its top. */
function turned() {
  show();
  if (document.querySelector('dialog[open]')) return;
  if (!main.contains(document.activeElement)) main.focus({ preventScroll: true });
  announce(document.title);
}

function drawNavigation() {
  fill(nav, VIEWS.map(([view, label]) => h('a', { href: `#/${view}`, 'data-view': view }, icon(view), h('span', {}, label))));
}

// ── Beside the views: how the peer stands ──────────────────────────────────────────────────────────────────────────

function drawFacts() {
  const name = h('strong', {});
  const dot = h('span', { class: 'dot' });
  const link = h('a', { href: '#/status', class: 'fact who' }, dot, name);
  const moving = h('span', { class: 'fact num moving' });
  const help = h('button', { class: 'quiet bare', 'aria-label': 'Keyboard shortcuts', title: 'Keyboard shortcuts (?)', onclick: showShortcuts }, icon('help'));
  fill(facts, moving, link, help);
  status.watch((now) => {
    link.hidden = !now?.username;
    if (!now) return;
    say(name, now.username ?? '');
    mark(dot, 'class', now.directory.connected ? 'dot good' : 'dot warn');
    mark(link, 'title', now.directory.connected ? 'Connected to the directory' : 'The directory cannot be reached');
    const { down_bps: down, up_bps: up } = now.transfers;
    say(moving, [down && `↓ ${rate(down)}`, up && `↑ ${rate(up)}`].filter(Boolean).join('   '));
  });
}

/** One line above all views while something is away. */
function drawBanner() {
  const banner = h('div', { class: 'banner', hidden: true });
  main.before(banner);
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

document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});
drawNavigation();
drawFacts();
drawBanner();
tellEnds();
listenToKeys();
acceptDrops((dropped) => {
  if (phase.value !== 'ready') return;
  go('#/files');
  files.share(dropped);
}, (error) => toastProblem(error, 'The drop could not be read.'));
events.listen(({ name, data }) => {
  const offer = data.offer ?? data;
  if (name === 'offer' && route.value.view !== 'offers' && offer.from) {
    toast(h('p', {}, foreign(offer.from.username), ' offers you ', foreign(offer.name ?? 'a file'), '.'),
      { key: 'offer', action: { label: 'Look', run: () => go('#/offers') } });
  }
});

let listening = null;
phase.watch((now) => {
  show();
  if (now === 'ready' && !listening) {
    listening = new AbortController();
    listen(listening.signal);
  } else if (now !== 'ready') {
    listening?.abort();
    listening = null;
  }
});
route.watch(() => (phase.value === 'ready' ? turned() : undefined));
look();
