// A list that grows page by page as it is scrolled, and whose rows change in place. It never asks for more than is
// looked at; rows out of sight cost no layout (`content-visibility`, in lists.css).

import { isAbort } from './api.js';
import { fill, h, mark } from './dom.js';
import { problemBlock, waiting } from './notices.js';

/** More rows than this help nobody: the list says how to narrow it. */
const MOST = 2_000;
/** Two screens of rows: a page costs what it has, and the next one is read before it is reached. */
const PAGE = 30;
const LARGEST_PAGE = 200;

export class PagedList {
  #options;
  #rows = new Map();
  #cursor = null;
  #loading = null;
  #ended = false;
  /** Asked to refresh while a page was on its way. */
  #stale = false;
  /** Rows that came while what takes the place of all was on its way: it may know nothing of them. */
  #fresh = new Set();
  #near;
  #items = h('ul', { class: 'rows' });
  #foot = h('div', { class: 'list-foot' });
  #more = h('button', { hidden: true, onclick: () => this.more() }, 'Show more');

  /**
   * `load(query, signal)` answers `{ items, next_cursor }`; `key(item)` names a row; `row(item)` makes
   * `{ element, update(item) }`; `empty()` makes what is shown in the place of no rows; `newestFirst` puts rows that
   * come later above the others, by key; `loaded(count, isAll)` is told after each page.
   */
  constructor(options) {
    this.#options = options;
    mark(this.#items, 'aria-label', options.label);
    this.element = h('div', { class: 'list' }, this.#items, this.#foot, this.#more);
    this.#near = new IntersectionObserver((entries) => {
      if (entries.at(-1).isIntersecting) this.more();
    }, { rootMargin: '400px' });
    options.signal.addEventListener('abort', () => this.#near.disconnect(), { once: true });
  }

  get size() {
    return this.#rows.size;
  }

  /** Shows the list; where it was left before, as far as it was read then. `place` remembers it from here on. */
  async open(place) {
    const remember = () => Object.assign(place, { rows: this.#rows.size, row: scrollY > 0 ? this.#keyInTheMiddle() : null });
    this.#options.signal.addEventListener('abort', remember, { once: true });
    if (!place.rows) return this.reset();
    await this.#reread(place.rows);
    return this.#rows.get(place.row)?.element.scrollIntoView({ block: 'center' });
  }

  /** Starts anew. What is there stays until the first page has come, and rows that are in it too stay for good. */
  async reset() {
    this.#loading?.abort();
    this.#loading = null;
    this.#fresh.clear();
    await this.#read({ limit: PAGE }, (page) => this.#replace(page.items));
  }

  /** The next page. */
  async more() {
    if (this.#loading || this.#ended) return;
    await this.#read({ limit: PAGE, cursor: this.#cursor }, (page) => this.#add(page.items));
  }

  /** Reads again what is shown: the same rows, as they are now, in the order that they have now. */
  async refresh() {
    this.#stale = this.#loading !== null;
    if (!this.#stale) await this.#reread(Math.max(this.#rows.size, PAGE));
  }

  async #reread(wanted) {
    const seen = [];
    let cursor = null;
    this.#fresh.clear();
    do {
      const page = await this.#page({ limit: Math.min(LARGEST_PAGE, wanted - seen.length), cursor });
      if (!page) return;
      seen.push(...page.items);
      cursor = page.next_cursor;
    } while (cursor && seen.length < wanted);
    this.#cursor = cursor;
    this.#ended = !cursor;
    this.#replace(seen);
    this.#settle();
    if (this.#stale) await this.refresh();
  }

  /** Changes the row of an item; one that is newer than all rows comes on top; others are not shown yet. */
  put(item) {
    const key = this.#options.key(item);
    const row = this.#rows.get(key);
    if (row) return row.update(item);
    const first = this.#rows.keys().next();
    if (!this.#options.newestFirst || (!first.done && key < first.value)) return undefined;
    const fresh = this.#options.row(item);
    if (this.#loading) this.#fresh.add(key);
    this.#rows = new Map([[key, fresh], ...this.#rows]);
    this.#items.prepend(fresh.element);
    if (this.#rows.size > MOST) {
      this.#drop([...this.#rows.keys()].at(-1));
      this.#ended = false;
    }
    return this.#settle();
  }

  remove(key) {
    if (!this.#rows.has(key)) return;
    this.#drop(key);
    this.#settle();
  }

  /** By row and not by pixel: how high rows out of sight are is only guessed. */
  #keyInTheMiddle() {
    const { left } = this.#items.getBoundingClientRect();
    const row = document.elementFromPoint(left + 1, innerHeight / 2)?.closest('.rows > li');
    return [...this.#rows].find(([, { element }]) => element === row)?.[0];
  }

  /** These rows and no others, but for those that came meanwhile. */
  #replace(items) {
    const keys = new Set(items.map(this.#options.key));
    const [newest] = keys;
    for (const key of this.#fresh) if (newest === undefined || key > newest) keys.add(key);
    this.#fresh.clear();
    for (const key of [...this.#rows.keys()]) if (!keys.has(key)) this.#drop(key);
    this.#add(items);
  }

  #drop(key) {
    const { element } = this.#rows.get(key);
    // Whoever stands on it moves to a neighbour, not to the top of the page.
    if (element.contains(document.activeElement)) {
      (element.nextElementSibling ?? element.previousElementSibling)?.querySelector('a, button')?.focus();
    }
    element.remove();
    this.#rows.delete(key);
    this.#fresh.delete(key);
  }

  /** Rows for these items, in this order, after those that are there. */
  #add(items) {
    for (const item of items) {
      const key = this.#options.key(item);
      const old = this.#rows.get(key);
      const row = old ?? this.#options.row(item);
      old?.update(item);
      this.#rows.delete(key);
      this.#rows.set(key, row);
    }
    // Only what stands in the wrong place is moved: a row that is moved loses the focus.
    let here = this.#items.firstElementChild;
    for (const { element } of this.#rows.values()) {
      if (element === here) here = here.nextElementSibling;
      else this.#items.insertBefore(element, here);
    }
  }

  async #read(query, done) {
    const page = await this.#page(query);
    if (!page) return;
    this.#cursor = page.next_cursor;
    this.#ended = !page.next_cursor;
    done(page);
    this.#settle();
    if (this.#stale) await this.refresh();
  }

  /** One page, or null where nobody waits for it or it did not come; then the foot says why. */
  async #page(query) {
    const loading = new AbortController();
    this.#loading = loading;
    const signal = AbortSignal.any([loading.signal, this.#options.signal]);
    const stopWaiting = waiting(this.#foot, this.#options.waiting ?? 'Reading…', signal);
    mark(this.#items, 'aria-busy', 'true');
    try {
      return await this.#options.load(query, signal);
    } catch (problem) {
      if (!isAbort(problem)) {
        this.#more.hidden = true;
        fill(this.#foot, this.#options.failed?.(problem) ?? problemBlock(problem, { retry: () => this.reset() }));
      }
      return null;
    } finally {
      stopWaiting();
      if (this.#loading === loading) {
        this.#loading = null;
        mark(this.#items, 'aria-busy', null);
      }
    }
  }

  #settle() {
    const full = this.#rows.size >= MOST && !this.#ended;
    this.#more.hidden = this.#ended || full;
    // Watched anew, it tells where it is: still near, and the next page is read at once.
    this.#near.disconnect();
    if (!this.#more.hidden) this.#near.observe(this.#more);
    if (this.#rows.size === 0) fill(this.#foot, this.#options.empty());
    else if (full) fill(this.#foot, h('p', { class: 'dim' }, `These are the first ${MOST}. Narrow the list to see others.`));
    else fill(this.#foot);
    this.#options.loaded?.(this.#rows.size, this.#ended);
  }
}
