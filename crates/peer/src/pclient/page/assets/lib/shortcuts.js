// The keyboard: one key for what is done often. They can be turned off, because speech input and slipping fingers
// press single keys too.

import { h } from './dom.js';
import { go } from './router.js';

const OFF = 'trueque.shortcuts-off';

/** The views, in the order of the navigation and of the number keys. */
export const VIEWS = [
  ['search', 'Search'],
  ['transfers', 'Transfers'],
  ['files', 'My files'],
  ['offers', 'Offers'],
  ['peers', 'Peers'],
  ['status', 'Status'],
];

const LIST = [
  ['/', 'Search'],
  ['1 … 6', 'Go to a view, from the top'],
  ['j  k', 'Next, previous row'],
  ['Enter', 'Open the row'],
  ['Esc', 'Close; empty the search, then leave it'],
  ['?', 'This list'],
];

export function listenToKeys() {
  addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (localStorage.getItem(OFF) || isTyping(event.target) || document.querySelector('dialog[open]')) return;
    if (pressed(event.key)) event.preventDefault();
  });
}

/** Whether the key is one of ours. */
function pressed(key) {
  if (key === '?') showShortcuts();
  else if (key === '/') focusSearch();
  else if (key === 'j' || key === 'k') step(key === 'j' ? 1 : -1);
  else if (/^[1-6]$/.test(key)) go(`#/${VIEWS[key - 1][0]}`);
  else return false;
  return true;
}

function isTyping(target) {
  return target.closest?.('input:not([type=checkbox], [type=radio]), select, textarea, video, audio, [contenteditable]');
}

function focusSearch() {
  const field = document.querySelector('main input[type=search]');
  if (field) field.select();
  else go('#/search');
  field?.focus();
}

/** Moves among the rows of the view. */
function step(by) {
  const rows = [...document.querySelectorAll('main .rows > li')];
  const here = rows.findIndex((row) => row.contains(document.activeElement));
  const next = rows[here === -1 ? (by > 0 ? 0 : rows.length - 1) : here + by];
  next?.querySelector('a, button')?.focus();
  next?.scrollIntoView({ block: 'nearest' });
}

export function showShortcuts() {
  const off = h('input', {
    type: 'checkbox', checked: !localStorage.getItem(OFF),
    onchange: ({ target }) => (target.checked ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, 'yes')),
  });
  const dialog = h('dialog', { 'aria-labelledby': 'shortcuts-title', onclose: () => dialog.remove() },
    h('h2', { id: 'shortcuts-title' }, 'Keyboard'),
    h('dl', { class: 'keys' }, LIST.map(([keys, what]) => [
      h('dt', {}, keys.split('  ').map((key) => h('kbd', {}, key))),
      h('dd', {}, what),
    ])),
    h('label', { class: 'check' }, off, 'Use these keys'),
    h('form', { method: 'dialog', class: 'dialog-buttons' }, h('button', { class: 'primary' }, 'Close')));
  document.body.append(dialog);
  dialog.showModal();
}
