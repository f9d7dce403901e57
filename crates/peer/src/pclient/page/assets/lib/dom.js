// Building the document. Everything that is shown goes through `h`, which makes text of strings and never markup: a
// file may be called `<img src=x onerror=alert(1)>.txt`.

/** Properties that are set as such; everything else is an attribute. */
const PROPERTIES = new Set(['value', 'checked', 'disabled', 'hidden', 'open', 'readOnly', 'multiple', 'indeterminate']);

/**
 * An element: `h('button', { class: 'quiet', onclick: save }, 'Save')`. Attributes that are null or false are left out;
 * children may be nodes, texts, lists of them, null or false.
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  set(element, attributes);
  element.append(...nodes(children));
  return element;
}

/** The same for a part of a drawing. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  set(element, attributes);
  element.append(...nodes(children));
  return element;
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) element[name] = value;
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? '' : value);
  }
}

function nodes(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false && child !== '');
}

/** Puts other children in the place of those that are there. */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
  return element;
}

/** Sets a text only where it differs: rows are told of a change several times a second. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
  return element;
}

/** Sets or removes an attribute, only where it differs. */
export function mark(element, name, value) {
  if (value === null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
  return element;
}

// Control characters, marks that reorder or hide text, line separators. Joiners stay: words in some scripts need them.
const ODD = /[\p{Cc}\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\u{e0000}-\u{e007f}]/gu;

/** A text of a stranger, isolated, with what is invisible in it written out. */
export function foreign(text, attributes = {}) {
  const parts = [];
  let end = 0;
  for (const odd of text.matchAll(ODD)) {
    const code = odd[0].codePointAt(0).toString(16).toUpperCase().padStart(4, '0');
    parts.push(text.slice(end, odd.index), h('span', { class: 'odd' }, `U+${code}`));
    end = odd.index + odd[0].length;
  }
  return h('bdi', attributes, parts, text.slice(end));
}

/** The same as plain text, for titles and labels. */
export function plain(text) {
  return text.replace(ODD, (odd) => `[U+${odd.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}]`);
}

/** A file's name: its folders step back behind the last part. */
export function fileName(name) {
  const cut = name.lastIndexOf('/') + 1;
  return h('span', { class: 'name', title: plain(name) },
    cut > 0 && h('span', { class: 'folder' }, foreign(name.slice(0, cut))),
    foreign(name.slice(cut)));
}
