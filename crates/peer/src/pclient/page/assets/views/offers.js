// Offers: what others want this peer to have, and what it offered to them. Nothing is fetched before somebody accepts.

import { get, post } from '../lib/api.js';
import { pageOf } from '../lib/content.js';
import { fileName, fill, foreign, h, plain, say } from '../lib/dom.js';
import * as downloads from '../lib/downloads.js';
import { events, resync } from '../lib/events.js';
import { ago, kindOf, size } from '../lib/format.js';
import { icon } from '../lib/icons.js';
import { PagedList } from '../lib/list.js';
import { act, toast } from '../lib/notices.js';
import { rename, to } from '../lib/router.js';
import { drawFetch } from './found.js';
import { button, empty, heading, peerLink, segments } from './parts.js';

const DIRECTIONS = [['received', 'For you'], ['sent', 'From you']];

/** What a state means for whoever looks; an offer that waits for an answer says it by its buttons. */
const STATES = {
  waiting: 'waits until their peer is on',
  offered: '',
  delivered: 'they see it',
  accepted: 'accepted',
  declined: 'declined',
  expired: 'no longer to be had',
};

export const title = () => 'Offers';

export function show(main, { params, place }, signal) {
  let direction = params.direction === 'sent' ? 'sent' : 'received';
  const rows = new Map();
  const list = new PagedList({
    label: 'Offers',
    signal,
    load: (page, loading) => get('/v1/offers', { direction, ...page }, loading),
    key: (offer) => offer.id,
    row(offer) {
      const row = offerRow(offer);
      rows.set(offer.content_id, row);
      return row;
    },
    empty: () => (direction === 'received'
      ? empty('offers', 'Nobody has offered you anything', 'Others offer a file with the arrow beside it under My files, or with “peer send”.')
      : empty('offers', 'You have offered nothing', 'The arrow beside a file under ', h('a', { href: '#/files' }, 'My files'), ' offers it to somebody.')),
    // A peer of an earlier version knows no such path.
    failed: (problem) => (problem.status === 404
      ? empty('offers', 'Not available in this version', 'This peer cannot take offers yet. Search for the file instead.')
      : null),
  });
  events.listen(({ name }) => { if (name === 'offer') list.refresh(); }, signal);
  downloads.changes.listen((changes) => {
    for (const download of changes.values()) rows.get(download?.content_id)?.moved(download);
  }, signal);
  resync.listen(() => list.refresh(), signal);
  const choose = (value) => {
    direction = value;
    rename(to('offers', [], { direction }));
    list.reset();
  };
  main.append(heading('Offers', { after: segments('Which', DIRECTIONS, direction, choose) }), list.element);
  list.open(place);
}

function offerRow(first) {
  let offer = first;
  const received = offer.direction !== 'sent';
  const item = { ...offer, media_type: null };
  const said = h('span', {});
  const actions = h('div', { class: 'row-actions' });
  const other = received ? offer.from : offer.to;
  const element = h('li', {},
    icon(kindOf(null, offer.name)),
    h('div', { class: 'row-main' },
      h('a', { class: 'row-title', href: pageOf(item) }, fileName(offer.name)),
      h('p', { class: 'row-facts num' },
        h('span', { class: 'size' }, size(offer.size)),
        h('span', {}, received ? 'from ' : 'to ', other.peer_id ? peerLink(other) : foreign(other.username)),
        h('span', {}, ago(offer.offered_at)),
        said)),
    actions);
  const answer = (verb, pressed) => act(pressed, 'Not answered.', async () => {
    update(await post(`/v1/offers/${encodeURIComponent(offer.id)}/${verb}`));
    toast(h('p', {}, fileName(offer.name), verb === 'accept' ? ' is being fetched.' : ' is declined.'), { key: 'offer' });
  });
  const drawActions = () => {
    if (!received) return fill(actions);
    if (offer.state === 'accepted') {
      const known = downloads.ofContent(offer.content_id);
      fill(actions, h('span', { class: 'get' }));
      return drawFetch(actions.firstElementChild, item, known);
    }
    if (offer.state !== 'offered') return fill(actions);
    const accept = button('fetch', 'Accept', () => answer('accept', accept), { primary: true });
    const decline = button('close', `Decline ${plain(offer.name)}`, () => answer('decline', decline), { bare: true });
    accept.setAttribute('aria-label', `Accept ${plain(offer.name)}`);
    return fill(actions, accept, decline);
  };
  const update = (now) => {
    const changed = now === first || now.state !== offer.state;
    offer = now;
    say(said, [STATES[offer.state] ?? offer.state, offer.why].filter(Boolean).join(': '));
    if (changed) drawActions();
  };
  update(first);
  return {
    element,
    update,
    moved(download) {
      if (received && offer.state === 'accepted') drawFetch(actions.firstElementChild, item, download);
    },
  };
}
