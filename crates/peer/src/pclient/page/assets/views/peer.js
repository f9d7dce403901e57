// One peer: what it shares with us.

import { get, isAbort } from '../lib/api.js';
import { fill, foreign, h } from '../lib/dom.js';
import { ago, plural, shortId } from '../lib/format.js';
import { PagedList } from '../lib/list.js';
import { copy, problemBlock } from '../lib/notices.js';
import { foundRows } from './found.js';
import { empty, factsOf, heading, pathBadge } from './parts.js';

export const title = ({ params, path }) => params.name ?? `Peer ${shortId(path[0] ?? '')}`;

export function show(main, { path: [id = ''], params, place }, signal) {
  if (!/^[0-9a-f]{32}$/.test(id)) {
    main.append(empty('peers', 'This address names no peer', 'A peer id has 32 hexadecimal digits.'));
    return;
  }
  const facts = h('div', {});
  const rows = foundRows(signal);
  const list = new PagedList({
    label: 'What it shares',
    signal,
    load: (page, loading) => get(`/v1/peers/${id}/files`, page, loading),
    key: (file) => `${file.content_id} ${file.name}`,
    row: rows.make,
    empty: () => empty('files', 'It shares nothing with you', 'What is meant for others is not shown.'),
  });
  const whose = h('span', {}, foreign(params.name ?? shortId(id)));
  main.append(heading(whose), facts, h('h2', {}, 'What it shares with you'), list.element);
  get(`/v1/peers/${id}`, {}, signal).then((peer) => {
    // An address may name another.
    fill(whose, foreign(peer.username));
    fill(facts, factsOf([
      ['Path', pathBadge(peer.path, peer.why), ` ${peer.online ? '' : `last seen ${ago(peer.last_seen)}`}`],
      ['Shares', plural(peer.files, 'file')],
      ['Addresses', peer.endpoints.length > 0 ? peer.endpoints.map((endpoint) => h('code', {}, endpoint, ' ')) : 'none: it takes no calls'],
      ['Version', peer.version],
      ['Peer id', h('code', { title: id }, shortId(id)), ' ', h('button', { class: 'quiet small', onclick: () => copy(id, 'The peer id is copied.') }, 'Copy')],
    ]));
  }, (problem) => { if (!isAbort(problem)) fill(facts, problemBlock(problem)); });
  list.open(place);
}
