// The login at the directory. The account is created at the first login where that is open.

import { fill, foreign, h, say } from '../lib/dom.js';
import { act, problemBlock } from '../lib/notices.js';
import { logIn, status } from '../lib/session.js';

export const title = () => 'Log in';

export function show(main, _, signal) {
  const username = h('input', {
    id: 'username', name: 'username', required: true, minlength: 3, maxlength: 32, pattern: '[a-z][a-z0-9._\\-]*', autocomplete: 'username',
    autocapitalize: 'none', spellcheck: 'false', class: 'wide', 'aria-describedby': 'username-hint',
  });
  const password = h('input', {
    id: 'password', name: 'password', type: 'password', required: true, minlength: 8, autocomplete: 'current-password', class: 'wide',
    'aria-describedby': 'password-hint',
  });
  const invite = h('input', { id: 'invite', name: 'invite', autocomplete: 'off', spellcheck: 'false', class: 'wide', 'aria-describedby': 'invite-hint' });
  const button = h('button', { class: 'primary' }, 'Log in');
  const failure = h('div', {});
  const where = h('code', {});
  const why = h('p', { class: 'warn-text' });
  main.append(h('form', {
    class: 'gate',
    onsubmit(event) {
      event.preventDefault();
      fill(failure);
      const failed = (problem) => fill(failure, problemBlock(problem, { doing: 'Not logged in.' }));
      act(button, 'Not logged in.', () => logIn(username.value, password.value, invite.value.trim()), failed);
    },
  },
  h('h1', {}, 'Log in'),
  h('p', { class: 'dim' }, 'At the directory ', where, '. If the name is free, and anybody may join or you have an invite, this creates the account.'),
  why,
  h('label', { for: 'username' }, 'Username'),
  username,
  h('p', { class: 'dim hint', id: 'username-hint' }, '3 to 32 of a–z, 0–9, dot, dash and underscore; a letter first.'),
  h('label', { for: 'password' }, 'Password'),
  password,
  h('p', { class: 'dim hint', id: 'password-hint' }, 'At least 8 characters.'),
  h('label', { for: 'invite' }, 'Invite'),
  invite,
  h('p', { class: 'dim hint', id: 'invite-hint' }, 'Only for a new account where one is needed. An admin of the directory gives it.'),
  failure,
  button));
  status.watch((now) => {
    say(where, now?.directory.url ?? '');
    why.replaceChildren(...(now?.directory.error ? [foreign(now.directory.error)] : []));
    why.hidden = !now?.directory.error;
  }, signal);
  username.focus();
}
