// Asks for the token of pclient, once for this tab.

import { fill, h } from '../lib/dom.js';
import { act, problemBlock } from '../lib/notices.js';
import { useToken } from '../lib/session.js';

export const title = () => 'Token';

export function show(main) {
  const field = h('input', { type: 'password', id: 'token', required: true, autocomplete: 'current-password', class: 'wide' });
  const failure = h('div', {});
  const button = h('button', { class: 'primary' }, 'Open');
  main.append(h('form', {
    class: 'gate',
    onsubmit(event) {
      event.preventDefault();
      fill(failure);
      const failed = (problem) => {
        if (problem.status === 401) problem.message = 'it is another one than the peer’s';
        fill(failure, problemBlock(problem, { doing: 'The token is not accepted.' }));
      };
      act(button, 'The token is not accepted.', () => useToken(field.value.trim()), failed);
    },
  },
  h('h1', {}, 'This peer wants its token'),
  h('p', { class: 'dim' }, 'It is what ', h('code', {}, 'PCLIENT_TOKEN'), ' is set to where the peer runs. It is kept until this tab is closed.'),
  h('label', { for: 'token' }, 'Token'),
  field,
  failure,
  button));
  field.focus();
}
