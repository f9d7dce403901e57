// Status: the directory, the relay, the door for other peers, what is shared, and how fast bytes go.

import { post } from '../lib/api.js';
import { fill, foreign, h, say } from '../lib/dom.js';
import { count, plural, rate, shortId, size } from '../lib/format.js';
import { graph } from '../lib/graph.js';
import { act, announce, copy } from '../lib/notices.js';
import { rates, status, watchClosely } from '../lib/session.js';
import { heading } from './parts.js';

export const title = () => 'Status';

export function show(main, _, signal) {
  const picture = graph();
  const [down, up, top] = [h('strong', { class: 'num' }), h('strong', { class: 'num' }), h('span', { class: 'dim num' })];
  const cards = h('div', { class: 'cards' });
  const examined = h('div', { class: 'checks' });
  const examine = h('button', { onclick: () => act(examine, 'Not examined.', async () => {
    const found = await post('/v1/doctor');
    fill(examined, checksOf(found));
    announce(found.healthy ? 'Nothing has failed' : 'Something has failed');
  }) }, 'Examine this peer');
  main.append(
    heading('Status', { after: h('div', { class: 'actions' }, examine, h('a', { class: 'button', href: '#/account' }, 'Account')) }),
    h('section', { class: 'card graph-card', 'aria-label': 'Rates' },
      h('div', { class: 'graph-head' },
        h('p', {}, h('span', { class: 'key down' }), 'In ', down),
        h('p', {}, h('span', { class: 'key up' }), 'Out ', up),
        top),
      picture.element,
      h('p', { class: 'dim graph-foot' }, h('span', {}, '3 minutes ago'), h('span', {}, 'now'))),
    examined,
    cards);
  let drawn = '';
  status.watch((now) => {
    if (!now) return;
    say(down, rate(now.transfers.down_bps));
    say(up, rate(now.transfers.up_bps));
    say(top, `top ${rate(picture.draw(rates))}`);
    // The cards change seldom: what is selected in them should stay selected.
    const { transfers, ...rest } = now;
    const told = JSON.stringify(rest);
    if (told !== drawn) fill(cards, cardsOf(rest));
    drawn = told;
  }, signal);
  watchClosely(signal);
}

const RESULTS = { ok: ['good', 'works'], warning: ['warn', 'look at it'], failed: ['failed', 'does not work'] };

/** What the peer found when it tried everything that it needs: what is bad first. */
function checksOf({ healthy, checks }) {
  const worst = ['failed', 'warning', 'ok'];
  const sorted = [...checks].sort((a, b) => worst.indexOf(a.result) - worst.indexOf(b.result));
  return h('section', { class: 'card' },
    h('h2', {}, 'What this peer found', h('span', { class: `badge ${healthy ? 'good' : 'failed'}` }, healthy ? 'Nothing has failed' : 'Something has failed')),
    h('ul', { class: 'findings' }, sorted.map(({ name, result, found, advice }) => h('li', {},
      h('span', { class: `badge ${RESULTS[result]?.[0] ?? ''}` }, RESULTS[result]?.[1] ?? result),
      h('div', {}, h('p', {}, h('strong', {}, name.replaceAll('_', ' ')), ' ', foreign(found)), advice && h('p', { class: 'dim' }, foreign(advice)))))));
}

function cardsOf({ peer_id: id, username, version, directory, pserver, relay, shared }) {
  return [
    card('Directory', directory.connected ? ['good', 'Connected'] : ['warn', 'Not reached'],
      h('p', {}, h('code', {}, foreign(directory.url))),
      directory.error && h('p', { class: 'warn-text' }, foreign(directory.error)),
      h('p', { class: 'dim' }, directory.connected ? 'It knows that this peer is here.' : 'This peer tries again by itself. Transfers between peers go on.')),
    card('Relay', relay.connected ? ['good', 'Connected'] : ['', relay.off ? 'Off' : 'Not connected'],
      relay.why && h('p', { class: relay.connected ? 'warn-text' : '' }, foreign(relay.why)),
      h('p', { class: 'dim' }, relay.connected ? 'Peers that cannot be dialled are reached through it.' : 'Only peers that can be dialled are reached.')),
    card('Calls from peers', pserver.listen ? ['good', 'Open'] : ['', 'Takes no calls'],
      pserver.listen && h('p', {}, 'listens on ', h('code', {}, pserver.listen)),
      pserver.advertise.length > 0 && h('p', {}, 'others dial ', pserver.advertise.map((one) => [h('code', {}, one), ' '])),
      !pserver.listen && h('p', { class: 'dim' }, 'PSERVER_LISTEN is off: it fetches, and serves by relay alone.')),
    card('Shared', shared.hashing_files > 0 ? ['warn', 'Hashing'] : shared.announced ? ['good', 'Announced'] : ['warn', 'Being announced'],
      h('p', { class: 'num' }, `${plural(shared.files, 'file')}, ${size(shared.bytes)}`),
      shared.hashing_files > 0 && h('p', { class: 'num' }, `${count(shared.hashing_files)} to be hashed, ${size(shared.hashing_bytes)}`)),
    card('This peer', null,
      h('p', {}, foreign(username ?? 'logged out'), h('span', { class: 'dim' }, ` · version ${version}`)),
      h('p', {}, 'peer id ', h('code', { title: id }, shortId(id)), ' ', h('button', { class: 'quiet small', onclick: () => copy(id, 'The peer id is copied.') }, 'Copy'))),
  ];
}

function card(name, mark, ...body) {
  return h('section', { class: 'card' },
    h('h2', {}, name, mark && h('span', { class: `badge ${mark[0]}` }, mark[1])),
    body);
}
