// What the page tells beside its views: short messages, things to hear, and problems with what to do about them.

import { isAbort } from './api.js';
import { fill, h, say } from './dom.js';
import { resync } from './events.js';
import { icon } from './icons.js';

const SHOWN_MS = 6_000;
/** Where there is something to press. */
const SHOWN_TO_ACT_MS = 12_000;
const MOST = 4;

/** Says something to screen readers alone. */
export function announce(text) {
  say(document.getElementById('live'), text);
}

/**
 * A message in the corner. `action` is `{ label, run }`; what is bad stays until it is closed. A message with the `key`
 * of an older one takes its place.
 */
export function toast(content, { action, bad = false, key = '' } = {}) {
  const box = document.getElementById('toasts');
  const close = () => {
    clearTimeout(timer);
    element.remove();
  };
  const element = h('div', { class: bad ? 'toast bad' : 'toast', role: bad ? 'alert' : 'status', 'data-key': key },
    icon(bad ? 'warn' : 'check'),
    h('div', { class: 'toast-text' }, content),
    action && h('button', { class: 'quiet', onclick: () => { close(); action.run(); } }, action.label),
    h('button', { class: 'quiet bare', 'aria-label': 'Close', onclick: close }, icon('close')));
  if (key) [...box.children].find((old) => old.dataset.key === key)?.remove();
  box.append(element);
  while (box.children.length > MOST) box.firstElementChild.remove();
  let timer;
  const fade = () => {
    clearTimeout(timer);
    if (!bad) timer = setTimeout(close, action ? SHOWN_TO_ACT_MS : SHOWN_MS);
  };
  element.addEventListener('pointerenter', () => clearTimeout(timer));
  element.addEventListener('focusin', () => clearTimeout(timer));
  element.addEventListener('pointerleave', fade);
  element.addEventListener('focusout', fade);
  fade();
}

/** A problem in the corner: for what a button did. */
export function toastProblem(problem, doing = '') {
  if (!isAbort(problem)) toast(problemText(problem, doing), { bad: true });
}

/**
 * A problem in the place of what it kept from being shown, with a button to try again; where the peer did not answer, it
 * is tried again by itself when the peer is back.
 */
export function problemBlock(problem, { doing = '', retry } = {}) {
  const block = h('div', { class: 'problem', role: 'alert' },
    icon('warn'),
    h('div', {}, problemText(problem, doing)),
    retry && h('button', { onclick: retry }, 'Try again'));
  if (problem.isAway && retry) {
    const back = new AbortController();
    resync.listen(() => {
      back.abort();
      if (block.isConnected) retry();
    }, back.signal);
  }
  return block;
}

function problemText(problem, doing) {
  return [
    h('p', {}, doing && h('strong', {}, `${doing} `), sentence(problem.message)),
    advice(problem) && h('p', { class: 'dim' }, advice(problem)),
    problem.requestId && h('p', { class: 'dim request' }, 'Request id ', h('code', {}, problem.requestId), ' ',
      h('button', { class: 'quiet small', onclick: () => copy(problem.requestId, 'The request id is copied.') }, 'Copy')),
  ];
}

export function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(whole) ? whole : `${whole}.`;
}

/** What somebody can do who meets it. */
export function advice({ code, isAway }) {
  if (isAway) return 'Start it again with the command “peer”; this page goes on by itself.';
  return {
    unavailable: 'This often passes: try again in a moment.',
    timeout: 'This often passes: try again in a moment.',
    rate_limited: 'Too many requests at once: wait a little and try again.',
    storage_full: 'Make room on the disk of this peer, then go on.',
    internal: 'The log of the peer says more, under this request id.',
  }[code] ?? '';
}

/** Copies a text; where the browser does not allow that (no HTTPS), shows it to be copied by hand. */
export async function copy(text, done) {
  try {
    await navigator.clipboard.writeText(text);
    toast(done, { key: 'copied' });
  } catch {
    const field = h('input', { value: text, readOnly: true, 'aria-label': 'To be copied', class: 'wide' });
    const dialog = h('dialog', { 'aria-label': 'Copy', onclose: () => dialog.remove() },
      h('p', {}, 'The browser lets pages copy over HTTPS and on this machine only. Copy it from here:'),
      field,
      h('form', { method: 'dialog', class: 'dialog-buttons' }, h('button', { class: 'primary' }, 'Close')));
    document.body.append(dialog);
    dialog.showModal();
    field.select();
  }
}

/**
 * Runs what a button asks for: the button waits, and a problem is told. Answers whether it went well. The button is not
 * disabled meanwhile, for then the keyboard would lose its place.
 */
export async function act(button, doing, work, failed = (problem) => toastProblem(problem, doing)) {
  if (button.hasAttribute('aria-busy')) return false;
  button.setAttribute('aria-busy', 'true');
  try {
    await work();
    return true;
  } catch (problem) {
    failed(problem);
    return false;
  } finally {
    button.removeAttribute('aria-busy');
  }
}

/** Tells in one place what is going on: nothing for the first moment, so that what is quick does not flicker. */
export function waiting(element, text, signal) {
  const timer = setTimeout(() => fill(element, h('span', { class: 'waiting' }, text)), 200);
  signal?.addEventListener('abort', () => clearTimeout(timer), { once: true });
  return () => clearTimeout(timer);
}
