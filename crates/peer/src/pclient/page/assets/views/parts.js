// Pieces that several views are made of.

import { foreign, h } from '../lib/dom.js';
import { plural } from '../lib/format.js';
import { icon } from '../lib/icons.js';

/** The heading of a view; where the view speaks for itself, for screen readers alone. */
export function heading(text, { unseen = false, after = null } = {}) {
  return h('div', { class: unseen ? 'unseen' : 'heading' }, h('h1', {}, text), after);
}

/** What stands in the place of an empty list: what there would be, and what to do. */
export function empty(name, title, ...advice) {
  return h('div', { class: 'empty' }, icon(name), h('h2', {}, title), h('p', { class: 'dim' }, advice));
}

/** A button with an icon; the label is shown, or said. What is `wide` has no room in the rows of a phone. */
export function button(name, label, onclick, { primary = false, bare = false, wide = false } = {}) {
  const kind = primary ? 'primary' : 'quiet';
  if (bare) return h('button', { class: `${kind} bare${wide ? ' wide-only' : ''}`, 'aria-label': label, title: label, onclick }, icon(name));
  return h('button', { class: kind, onclick }, icon(name), h('span', { class: 'label' }, label));
}

const PATHS = {
  direct: ['direct', 'direct', 'A connection to this peer'],
  reversed: ['reversed', 'direct', 'A connection that this peer opened to us, because we cannot reach it'],
  relayed: ['by relay', 'relayed', 'Sealed messages over the broker, because no connection can be made'],
  offline: ['offline', 'offline', 'It cannot be reached now'],
};

/** The way to a peer, in a word; and why there is no better one, where that is known. */
export function pathBadge(path, why = null) {
  const [word, look, what] = PATHS[path] ?? [path, 'offline', ''];
  return h('span', { class: 'path' }, h('span', { class: `badge ${look}`, title: what }, word), why && h('span', { class: 'why' }, foreign(why)));
}

/** "3 holders · 2 online · 1 by relay". */
export function holdersText({ holders, online, relayed = 0 }) {
  return [plural(holders, 'holder'), online > 0 ? `${online} online` : 'none online', relayed > 0 && `${relayed} by relay`].filter(Boolean).join(' · ');
}

/** One of a few, side by side: pairs of a value and its label. */
export function segments(legend, choices, chosen, choose) {
  const choice = ([value, label]) => h('label', {},
    h('input', { type: 'radio', name: legend, value, checked: value === chosen, onchange: () => choose(value) }), label);
  return h('fieldset', { class: 'segments' }, h('legend', { class: 'unseen' }, legend), choices.map(choice));
}

/** A list of facts: pairs of a term and what it is. */
export function factsOf(pairs) {
  return h('dl', { class: 'facts' }, pairs.filter(Boolean).map(([term, ...what]) => h('div', {}, h('dt', {}, term), h('dd', {}, what))));
}

/** A username, as a link to what its owner's peer shares. */
export function peerLink({ peer_id: id, username }) {
  return h('a', { href: `#/peer/${id}?name=${encodeURIComponent(username)}` }, foreign(username));
}

/** A table that becomes cards on a narrow screen. */
export function table(caption, columns, rows) {
  const cells = (row) => row.map((cell, at) => h(at === 0 ? 'th' : 'td', { scope: at === 0 ? 'row' : null, 'data-label': columns[at] }, cell));
  return h('table', { class: 'table' },
    h('caption', { class: 'unseen' }, caption),
    h('thead', {}, h('tr', {}, columns.map((column) => h('th', { scope: 'col' }, column)))),
    h('tbody', {}, rows.map((row) => h('tr', {}, cells(row)))));
}
