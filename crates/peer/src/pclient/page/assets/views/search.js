// Search: one row per content, as it is typed.

import { get } from '../lib/api.js';
import { paced } from '../lib/cell.js';
import { h } from '../lib/dom.js';
import { plural } from '../lib/format.js';
import { PagedList } from '../lib/list.js';
import { announce } from '../lib/notices.js';
import { rename, to } from '../lib/router.js';
import { foundRows } from './found.js';
import { empty, heading } from './parts.js';

/** So often at most the directory is asked while somebody types. */
const TYPED_MS = 80;
const TYPES = [['', 'Any type'], ['video/*', 'Video'], ['audio/*', 'Audio'], ['image/*', 'Image'], ['text/*', 'Text'], ['application/*', 'Other']];

export const title = ({ params }) => (params.q ? `${params.q} – Search` : 'Search');

export function show(main, { params, place }, signal) {
  const words = h('input', {
    type: 'search', class: 'wide search', value: params.q ?? '', placeholder: 'A part of a name', 'aria-label': 'Search the network',
    autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false', maxlength: 500, enterkeyhint: 'search',
  });
  const type = h('select', { 'aria-label': 'Type' }, TYPES.map(([value, label]) => h('option', { value }, label)));
  type.value = TYPES.some(([value]) => value === params.type) ? params.type : '';
  const online = h('input', { type: 'checkbox', checked: params.online === 'true' });
  const outcome = h('p', { class: 'outcome dim' });
  const asked = () => ({ q: words.value.trim(), media_type: type.value, online: online.checked ? 'true' : '' });

  const rows = foundRows(signal);
  const list = new PagedList({
    label: 'What was found',
    waiting: 'Searching…',
    signal,
    load: (page, loading) => get('/v1/search', { ...asked(), ...page }, loading),
    // The name is one that fits what was asked: another question may show another.
    key: (item) => `${item.content_id} ${item.name}`,
    row: rows.make,
    empty: () => nothing(asked()),
    loaded(count, isAll) {
      const text = `${isAll ? '' : 'The best '}${plural(count, 'file')}`;
      outcome.textContent = count === 0 ? '' : asked().q ? text : `${text} of the network, most held first`;
      if (asked().q) announce(count === 0 ? 'Nothing found' : text);
    },
  });
  const search = () => {
    const { q, media_type: kind, online: only } = asked();
    rename(to('search', [], { q, type: kind, online: only }));
    document.title = `${title({ params: { q } })} · Trueque`;
    list.reset();
  };
  words.addEventListener('input', paced(TYPED_MS, search, signal));
  type.addEventListener('change', search);
  online.addEventListener('change', search);
  words.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    // A second time it leaves the field, so that the keys mean what they mean elsewhere.
    if (!words.value) return main.focus();
    words.value = '';
    search();
  });

  main.append(
    heading('Search', { unseen: true }),
    h('form', { class: 'bar', role: 'search', onsubmit: (event) => { event.preventDefault(); search(); } },
      words, type, h('label', { class: 'check' }, online, 'Online now')),
    outcome,
    list.element);
  if (matchMedia('(pointer: fine)').matches) words.focus();
  list.open(place);
}

function nothing({ q, media_type: type, online }) {
  if (!q && !type && !online) {
    return empty('search', 'Nothing is shared on this network yet', 'Be the first: drop a file under ', h('a', { href: '#/files' }, 'My files'), '.');
  }
  const wider = [type && 'any type', online && 'peers that are offline'].filter(Boolean).join(' and ');
  return empty('search', 'Nothing found',
    'Parts of words are enough, in any order', wider && `; or look among ${wider}`, '. Files that are for others are not shown to you.');
}
