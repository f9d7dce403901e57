// Transfers: what is fetched, and what was. Rows move with the events of the peer.

import * as downloads from '../lib/downloads.js';
import { resync } from '../lib/events.js';
import { h } from '../lib/dom.js';
import { PagedList } from '../lib/list.js';
import { rename, to } from '../lib/router.js';
import { empty, heading, segments } from './parts.js';
import { transferRow } from './transfer.js';

const STATES = [['', 'All'], ['running', 'Running'], ['queued', 'Queued'], ['waiting', 'Waiting'], ['paused', 'Paused'], ['failed', 'Failed'], ['done', 'Done']];

export const title = () => 'Transfers';

export function show(main, { params, place }, signal) {
  let state = STATES.some(([value]) => value === params.state) ? params.state ?? '' : '';
  const list = new PagedList({
    label: 'Transfers',
    signal,
    load: (page, loading) => downloads.page({ state, ...page }, loading),
    key: (download) => download.id,
    row: (download) => transferRow(download, signal),
    newestFirst: true,
    empty: () => (state
      ? empty('transfers', `No ${state} transfers`, 'Others may be: choose All.')
      : empty('transfers', 'Nothing has been fetched yet', h('a', { href: '#/search' }, 'Search'), ' for a part of a name, and fetch what you find. It goes on after a restart.')),
  });
  const fits = (download) => !state || download.state === state;
  downloads.changes.listen((changes) => {
    for (const [id, download] of changes) {
      if (download && fits(download)) list.put(download);
      else list.remove(id);
    }
  }, signal);
  resync.listen(() => list.refresh(), signal);

  const choose = (value) => {
    state = value;
    rename(to('transfers', [], { state }));
    list.reset();
  };
  main.append(heading('Transfers', { after: segments('Which', STATES, state, choose) }), list.element);
  list.open(place);
}
