// Questions that stand before everything else: the browser's own `<dialog>` keeps the keyboard inside and Escape
// closing.

import { get } from './api.js';
import { fill, h, mark } from './dom.js';
import { act, problemBlock } from './notices.js';
import { status } from './session.js';

/** Names that are offered to be pressed; others are typed. */
const MOST = 24;

/**
 * Shows a form in a dialog; `keep` is the word for leaving all as it is. `work(form)` does what it asks; the dialog closes when that went well, and else says why:
 * a message in the corner could not be reached from inside it.
 */
export function ask({ title, body, label, keep = 'Cancel', bad = false, doing = '', work }) {
  const submit = h('button', { class: bad ? 'primary bad' : 'primary', type: 'submit' }, label);
  const cancel = h('button', { type: 'button', onclick: () => dialog.close() }, keep);
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
    name: 'users', class: 'wide', value: users.join(', '), list: 'usernames', placeholder: 'ana, @lab', autocomplete: 'off',
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
    suggestions(names, () => { only.checked = true; }),
    usernames(),
    h('p', { class: 'dim', id: 'audience-hint' }, 'Usernames, and groups as @name, separated by commas. Nobody else finds it or fetches it; you always can.'));
}

/** The names in a field: separated by commas, spaces or semicolons. */
export function namesIn(text) {
  return text.split(/[\s,;]+/).filter(Boolean);
}

/** Groups and users to press in the place of typing them: what is in the field is pressed. */
function suggestions(field, changed) {
  const element = h('p', { class: 'chips', hidden: true });
  const draw = () => {
    const named = namesIn(field.value);
    for (const chip of element.children) mark(chip, 'aria-pressed', String(named.includes(chip.textContent)));
  };
  const toggle = (name) => {
    const named = namesIn(field.value);
    field.value = (named.includes(name) ? named.filter((one) => one !== name) : [...named, name]).join(', ');
    changed();
    draw();
  };
  field.addEventListener('input', draw);
  const own = status.value?.username;
  Promise.all([listed('/v1/groups'), listed('/v1/peers')]).then(([groups, peers]) => {
    const names = [...groups.map((group) => `@${group.name}`), ...new Set(peers.map((peer) => peer.username).filter((name) => name !== own))];
    element.hidden = names.length === 0;
    fill(element, names.slice(0, MOST).map((name) => h('button', { type: 'button', class: 'chip', onclick: () => toggle(name) }, name)));
    draw();
  });
  return element;
}

/** The first of a list; none where it cannot be had: a name can always be typed. */
async function listed(path) {
  return get(path, { limit: 200 }).then(({ items }) => items, () => []);
}

/** The audience as the API takes it. */
export function audienceOf(form) {
  if (form.elements.audience.value === 'network') return 'network';
  return namesIn(form.elements.users.value);
}

/** Suggestions for a field of usernames, from the peers that the directory knows. */
export function usernames() {
  const list = h('datalist', { id: 'usernames' });
  listed('/v1/peers').then((peers) => list.append(...[...new Set(peers.map((peer) => peer.username))].map((name) => h('option', { value: name }))));
  return list;
}
