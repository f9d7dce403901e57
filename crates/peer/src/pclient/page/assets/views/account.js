// The account: where it is logged in, each of which can be ended, and its password.

import { call, get, isAbort } from '../lib/api.js';
import { ask } from '../lib/dialogs.js';
import { fill, h } from '../lib/dom.js';
import { ago, shortId } from '../lib/format.js';
import { icon } from '../lib/icons.js';
import { act, problemBlock, toast, waiting } from '../lib/notices.js';
import { logOut, status } from '../lib/session.js';
import { button, heading } from './parts.js';

const LEAST = 8;

export const title = () => 'Account';

export function show(main, _, signal) {
  const sessions = h('div', {});
  const out = h('button', { onclick: () => act(out, 'Not logged out.', logOut) }, 'Log out');
  main.append(
    heading(`Account ${status.value.username}`, { after: h('div', { class: 'actions' }, h('button', { onclick: changePassword }, 'Change the password…'), out) }),
    h('p', { class: 'dim' }, 'Where it is logged in. A session that is ended is not trusted by anybody any more, until somebody logs in there again.'),
    sessions);
  draw(sessions, signal);
}

async function draw(place, signal) {
  const stop = waiting(place, 'Reading…', signal);
  try {
    const { items } = await get('/v1/sessions', { limit: 200 }, signal);
    fill(place, h('ul', { class: 'rows', 'aria-label': 'Sessions' }, items.map((session) => sessionRow(session, () => draw(place, signal)))));
  } catch (problem) {
    if (!isAbort(problem)) fill(place, problemBlock(problem, { retry: () => draw(place, signal) }));
  } finally {
    stop();
  }
}

function sessionRow(session, again) {
  const { peer_id: id, current, endpoints, version, created, online, last_seen: seen } = session;
  const end = current ? null : button('close', `End the session of ${endpoints[0] ?? shortId(id)}`, () => confirm(session, again), { bare: true });
  return h('li', {},
    icon('status'),
    h('div', { class: 'row-main' },
      h('span', { class: 'row-title' }, current ? 'This peer' : endpoints[0] ?? 'A peer that takes no calls'),
      h('p', { class: 'row-facts num' },
        h('span', { class: 'held' }, h('span', { class: online ? 'dot good' : 'dot' }), online ? 'online' : `last seen ${ago(seen)}`),
        h('span', {}, `logged in ${ago(created)}`),
        h('span', { class: 'wide-only' }, `version ${version}`),
        h('code', { title: id }, shortId(id)))),
    h('div', { class: 'row-actions' }, end));
}

function confirm({ peer_id: id, endpoints }, again) {
  ask({
    title: 'End this session?',
    body: h('p', {}, `The peer ${endpoints[0] ?? shortId(id)} is then offline, and nobody answers it before somebody logs in there again.`),
    label: 'End it',
    bad: true,
    doing: 'Not ended.',
    async work() {
      await call('DELETE', `/v1/sessions/${id}`);
      toast('The session is ended.');
      again();
    },
  });
}

function changePassword() {
  const password = (id, label, autocomplete, more = {}) => [
    h('label', { for: id }, label),
    h('input', { id, name: id, type: 'password', required: true, autocomplete, class: 'wide', ...more }),
  ];
  ask({
    title: 'Change the password',
    body: [
      password('password-now', 'The password until now', 'current-password'),
      password('password-new', `The new one, at least ${LEAST} characters`, 'new-password', { minlength: LEAST }),
      password('password-again', 'The new one again', 'new-password', { minlength: LEAST }),
    ],
    label: 'Change',
    doing: 'Not changed.',
    async work({ elements }) {
      const next = elements['password-new'].value;
      if (next !== elements['password-again'].value) throw new Error('the two new ones differ');
      const username = encodeURIComponent(status.value.username);
      await call('PUT', `/v1/accounts/${username}/password`, { json: { current: elements['password-now'].value, new: next } });
      toast('The password is changed.');
    },
  });
}
