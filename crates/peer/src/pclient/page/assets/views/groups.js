// Groups: users under one name, for whom a file may be meant. Who owns a group changes it; who is in it sees it.

import { call, get, post } from '../lib/api.js';
import { ask, namesIn, usernames } from '../lib/dialogs.js';
import { fill, h, mark } from '../lib/dom.js';
import { plural } from '../lib/format.js';
import { icon } from '../lib/icons.js';
import { PagedList } from '../lib/list.js';
import { act, toast } from '../lib/notices.js';
import { status } from '../lib/session.js';
import { button, empty } from './parts.js';

/** Members that are shown before somebody asks for all. */
const SHOWN = 24;

/** The list of groups, and the button that makes one. */
export function groups(signal) {
  const list = new PagedList({
    label: 'Groups',
    signal,
    load: (page, loading) => get('/v1/groups', page, loading),
    key: (group) => group.name,
    row: (group) => groupRow(group, () => list.remove(group.name)),
    empty: () => empty('peers', 'You are in no group', 'A group is some people under one name: share a file with ', h('code', {}, '@name'), ', and later changes of the group hold for it too.'),
  });
  return { list, create: button('peers', 'New group…', () => create(() => list.refresh())) };
}

function create(done) {
  const name = field('name', { required: true, pattern: '[a-z][a-z0-9._\\-]{2,31}', 'aria-describedby': 'group-hint' });
  const members = field('members', { list: 'usernames', placeholder: 'ana, beto' });
  ask({
    title: 'A new group',
    body: [
      h('label', { for: 'group-name' }, 'Name'), name,
      h('p', { class: 'dim', id: 'group-hint' }, '3 to 32 of a–z, 0–9, dot, dash and underscore; a letter first.'),
      h('label', { for: 'group-members' }, 'Who is in it, beside you'), members, usernames(),
    ],
    label: 'Create',
    doing: 'Not created.',
    async work() {
      const made = await post('/v1/groups', { name: name.value.trim(), members: namesIn(members.value) });
      toast(`@${made.name} is there: ${plural(made.members.length, 'member')} beside you.`);
      done();
    },
  });
}

function groupRow(first, gone) {
  let group = first;
  const own = first.owner === status.value?.username;
  const people = h('p', { class: 'chips' });
  const actions = h('div', { class: 'row-actions' });
  const element = h('li', {},
    icon('peers'),
    h('div', { class: 'row-main' },
      h('span', { class: 'row-title' }, `@${first.name}`),
      people),
    actions);
  const at = `/v1/groups/${encodeURIComponent(first.name)}`;
  const change = async (method, username) => {
    await call(method, `${at}/members/${encodeURIComponent(username)}`);
    update(await get(at));
  };
  if (own) {
    fill(actions,
      button('add', `Add somebody to @${first.name}`, () => add(first.name, (username) => change('PUT', username)), { bare: true }),
      button('close', `Delete @${first.name}`, () => remove(group, at, gone), { bare: true }));
  }
  const member = (username) => {
    if (!own) return h('span', { class: 'chip' }, username);
    const out = h('button', { class: 'quiet', 'aria-label': `Take ${username} out of @${first.name}`, onclick: () => act(out, 'Still in it.', () => change('DELETE', username)) }, icon('close'));
    return h('span', { class: 'chip' }, username, out);
  };
  let all = false;
  const update = (now) => {
    group = now;
    const members = now.members.filter((one) => one !== now.owner);
    const some = all ? members : members.slice(0, SHOWN);
    const rest = members.length > some.length && h('button', { class: 'chip', onclick: () => { all = true; update(group); } }, `and ${members.length - some.length} more`);
    const held = people.contains(document.activeElement);
    fill(people, h('span', { class: 'chip owner', title: 'Owns the group' }, own ? `${now.owner} (you)` : now.owner), some.map(member), rest);
    // The button that was pressed has gone with its name.
    if (held) actions.querySelector('button')?.focus();
    mark(element, 'data-group', now.name);
  };
  update(first);
  return { element, update };
}

function add(name, work) {
  const username = field('username', { required: true, list: 'usernames' });
  ask({
    title: `Add somebody to @${name}`,
    body: [h('label', { for: 'group-username' }, 'Username'), username, usernames()],
    label: 'Add',
    doing: 'Not added.',
    work: () => work(username.value.trim()),
  });
}

function remove({ name, members }, at, gone) {
  ask({
    title: `Delete @${name}?`,
    body: h('p', {}, `Its ${plural(members.length, 'member')} will find no more what is shared with @${name} alone.`),
    label: 'Delete',
    bad: true,
    doing: 'Not deleted.',
    async work() {
      await call('DELETE', at);
      gone();
      toast(`@${name} is deleted.`);
    },
  });
}

function field(name, more) {
  return h('input', { name, id: `group-${name}`, class: 'wide', autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false', ...more });
}
