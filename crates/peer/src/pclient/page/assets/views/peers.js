// Peers: who is on the network, and how each is reached; and the groups that one is in.

import { get } from '../lib/api.js';
import { throttle } from '../lib/cell.js';
import { fill, foreign, h, say } from '../lib/dom.js';
import { events, resync } from '../lib/events.js';
import { ago, plural, shortId } from '../lib/format.js';
import { icon } from '../lib/icons.js';
import { PagedList } from '../lib/list.js';
import { redirect, to } from '../lib/router.js';
import { status } from '../lib/session.js';
import { groups } from './groups.js';
import { empty, heading, pathBadge, segments } from './parts.js';

/** Who comes and goes is not told by events: the list is read again this often while it is seen. */
const REFRESH_MS = 10_000;

const KINDS = [['peers', 'Peers'], ['groups', 'Groups']];

export const title = ({ params }) => (params.show === 'groups' ? 'Groups' : 'Peers');

export function show(main, { params, place }, signal) {
  const kind = params.show === 'groups' ? 'groups' : 'peers';
  const choose = (value) => redirect(to('peers', [], { show: value === 'groups' ? value : '' }));
  const which = segments('Which', KINDS, kind, choose);
  if (kind === 'groups') {
    const { list, create } = groups(signal);
    main.append(heading('Groups', { after: h('div', { class: 'actions' }, create, which) }), list.element);
    return void list.open(place);
  }
  return void showPeers(main, place, which, signal);
}

function showPeers(main, place, which, signal) {
  const list = new PagedList({
    label: 'Peers',
    signal,
    load: (page, loading) => get('/v1/peers', page, loading),
    key: (peer) => peer.peer_id,
    row: peerRow,
    empty: () => empty('peers', 'Nobody is here yet', 'Others join with the address of this directory: ', h('code', {}, status.value?.directory.url ?? ''), '.'),
  });
  const refresh = throttle(() => 1_000, () => list.refresh(), signal);
  events.listen(({ name }) => { if (name === 'peer') refresh(); }, signal);
  resync.listen(refresh, signal);
  const timer = setInterval(() => { if (document.visibilityState === 'visible') refresh(); }, REFRESH_MS);
  signal.addEventListener('abort', () => clearInterval(timer), { once: true });
  main.append(heading('Peers', { after: which }), list.element);
  list.open(place);
}

function peerRow(first) {
  const facts = h('p', { class: 'row-facts num' });
  const path = h('span', {});
  const why = h('span', { class: 'why' });
  const files = h('span', {});
  const seen = h('span', {});
  const dot = h('span', { class: 'dot' });
  const own = first.peer_id === status.value?.peer_id;
  facts.append(h('span', { class: 'held' }, dot, seen), files, h('span', { class: 'wide-only' }, `version ${first.version}`), h('code', { class: 'wide-only', title: first.peer_id }, shortId(first.peer_id)));
  let told = null;
  const element = h('li', {},
    icon('peers'),
    h('div', { class: 'row-main' },
      h('a', { class: 'row-title', href: `#/peer/${first.peer_id}?name=${encodeURIComponent(first.username)}` }, foreign(first.username), own && ' (this peer)'),
      facts, why),
    h('div', { class: 'row-actions' }, path));
  const update = (peer) => {
    path.replaceChildren(own ? '' : pathBadge(peer.path));
    if (told !== (peer.why ?? '')) fill(why, foreign(told = peer.why ?? ''));
    why.hidden = own || !told;
    say(files, plural(peer.files, 'file'));
    dot.className = peer.online ? 'dot good' : 'dot';
    say(seen, peer.online ? 'online' : `last seen ${ago(peer.last_seen)}`);
  };
  update(first);
  return { element, update };
}
