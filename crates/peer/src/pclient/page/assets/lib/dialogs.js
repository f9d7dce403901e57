// Questions that stand before everything else: the browser's own `<dialog>` keeps the keyboard inside and Escape
// closing.

import { get } from './api.js';
import { fill, h } from './dom.js';
import { act, problemBlock } from './notices.js';

/**
 * Shows a form in a dialog. `work(form)` does what it asks; the dialog closes when that went well, and else says why:
 * a message in the corner could not be reached from inside it.
 */
export function ask({ title, body, label, bad = false, doing = '', work }) {
  const submit = h('button', { class: bad ? 'primary bad' : 'primary', type: 'submit' }, label);
  const cancel = h('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel');
  const failure = h('div', {});
  const form = h('form', {
    class: 'dialog-form',
    async onsubmit(event) {
      event.preventDefault();
      fill(failure);
      const failed = (problem) => fill(failure, problemBlock(problem, { doing }));
      if (await act(submit, doing, () => work(form), failed)) dialog.close();
    },
  }, h('h2', { id: 'dialog-title' }, title), body, failure, h('div', { class: 'dialog-buttons' }, cancel, submit));
  const dialog = h('dialog', { 'aria-labelledby': 'dialog-title', onclose: () => dialog.remove() }, form);
  document.body.append(dialog);
  dialog.showModal();
}

/** Fields to choose who may have a file; `audienceOf` reads them. */
export function audienceFields(audience) {
  const users = Array.isArray(audience) ? audience : [];
  const names = h('input', {
    name: 'users', class: 'wide', value: users.join(', '), list: 'usernames', placeholder: 'ana, beto', autocomplete: 'off',
    autocapitalize: 'none', spellcheck: 'false', 'aria-label': 'Their usernames', 'aria-describedby': 'audience-hint',
    oninput: () => { only.checked = true; },
  });
  const everybody = h('input', { type: 'radio', name: 'audience', value: 'network', checked: audience === 'network' });
  const only = h('input', { type: 'radio', name: 'audience', value: 'users', checked: audience !== 'network' });
  return h('fieldset', { class: 'choices' },
    h('legend', { class: 'unseen' }, 'Who may find and fetch it'),
    h('label', {}, everybody, 'Everybody on the network'),
    h('label', {}, only, 'Only these people'),
    names,
    usernames(),
    h('p', { class: 'dim', id: 'audience-hint' }, 'Usernames, separated by commas. Nobody else finds it or fetches it; you always can.'));
}

/** The audience as the API takes it. */
export function audienceOf(form) {
  if (form.elements.audience.value === 'network') return 'network';
  return form.elements.users.value.split(/[\s,;]+/).filter(Boolean);
}

/** Suggestions for a field of usernames, from the peers that the directory knows. */
export function usernames() {
  const list = h('datalist', { id: 'usernames' });
  get('/v1/peers', { limit: 200 }).then(
    ({ items }) => list.append(...[...new Set(items.map((peer) => peer.username))].map((name) => h('option', { value: name }))),
    () => { /* Suggestions only: without them the name is typed. */ },
  );
  return list;
}
