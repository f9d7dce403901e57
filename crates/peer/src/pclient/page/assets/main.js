// Starts the page, and shows one view at a time. `lib` is what views are made with, `views` is one file for each,
// frame.js is what stands around them.

import * as frame from './frame.js';
import { fill, h, mark, plain } from './lib/dom.js';
import { acceptDrops } from './lib/drop.js';
import { listen } from './lib/events.js';
import { announce, toastProblem } from './lib/notices.js';
import { go, redirect, route } from './lib/router.js';
import { look, phase } from './lib/session.js';
import { listenToKeys } from './lib/shortcuts.js';
import * as account from './views/account.js';
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
const PAGES = { account, search, content, transfers, files, offers, peers, peer, status: standing };
/** Which entry of the navigation a view belongs to, where it is not its own. */
const UNDER = { account: 'status', content: 'search', peer: 'peers' };

const main = document.getElementById('main');
const nav = document.getElementById('views');
let shown = new AbortController();

function show() {
  shown.abort();
  shown = new AbortController();
  const open = phase.value === 'ready';
  nav.hidden = !open;
  if (phase.value === 'starting') return fill(main, h('p', { class: 'waiting' }, 'Asking the peer…'));
  if (!open) return enter(phase.value === 'token' ? token : login, {});
  const { view } = route.value;
  if (!Object.hasOwn(PAGES, view)) return redirect('#/search');
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
  // A question of the view before has nothing to stand on.
  for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
  show();
  if (!main.contains(document.activeElement)) main.focus({ preventScroll: true });
  announce(document.title);
}

document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});
frame.draw();
listenToKeys();
acceptDrops((dropped) => {
  if (phase.value !== 'ready') return;
  go('#/files');
  files.share(dropped);
}, (error) => toastProblem(error, 'The drop could not be read.'));

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
route.watch(() => { if (phase.value === 'ready') turned(); });
look();
