// How the peer stands, and what of this page is open therefore: nothing without the token, the login form alone while
// logged out, everything else after that.

import { call, get, token } from './api.js';
import { Cell, throttle } from './cell.js';
import { events } from './events.js';

/** The newest `GET /v1/status`; null before the first. */
export const status = new Cell(null);
/** 'starting', 'token', 'login' or 'ready'. */
export const phase = new Cell('starting');
/** The problem while the peer does not answer, else null. */
export const away = new Cell(null);
/** Rates of the last minutes, for the graph: `{ at, down, up }`. */
export const rates = [];

const KEPT_RATES = 180;
/** How often to look: while something moves, while nothing does, and while nobody is logged in. */
const BUSY_MS = 1_000;
const IDLE_MS = 5_000;
const WAITING_MS = 2_000;

/** While this is set, somebody watches the numbers: look often. */
let watched = false;
let timer;

/** Looks now, and from then on again and again while the page is seen. */
export async function look() {
  clearTimeout(timer);
  try {
    take(await get('/v1/status'));
    away.set(null);
  } catch (problem) {
    away.set(problem.status === 401 ? null : problem);
    if (problem.status === 401) refused();
  }
  clearTimeout(timer);
  // Without the token every look would be refused.
  if (document.visibilityState === 'visible' && phase.value !== 'token') timer = setTimeout(look, interval());
}

/** The numbers are looked at until the signal aborts. */
export function watchClosely(signal) {
  watched = true;
  signal.addEventListener('abort', () => { watched = false; }, { once: true });
  look();
}

export async function logIn(username, password, invite) {
  take(await call('POST', '/v1/login', { json: { username, password, ...(invite && { invite }) } }));
}

export async function logOut() {
  await call('POST', '/v1/logout');
  await look();
}

/** Tries a token, and keeps it for this tab where it is the right one. */
export async function useToken(value) {
  token.set(value);
  try {
    take(await get('/v1/status'));
    look();
  } catch (problem) {
    if (problem.status === 401) token.forget();
    throw problem;
  }
}

function refused() {
  token.forget();
  if (phase.value !== 'token') phase.set('token');
}

function take(now) {
  status.set(now);
  rates.push({ at: Date.now(), down: now.transfers.down_bps, up: now.transfers.up_bps });
  if (rates.length > KEPT_RATES) rates.shift();
  const next = now.username ? 'ready' : 'login';
  if (phase.value !== next) phase.set(next);
}

function interval() {
  if (away.value || phase.value !== 'ready') return WAITING_MS;
  const { shared, transfers } = status.value;
  const moving = transfers.down_bps > 0 || transfers.up_bps > 0 || shared.hashing_files > 0;
  return watched || moving ? BUSY_MS : IDLE_MS;
}

document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible' && phase.value !== 'token') look();
});
// A file is being hashed, or a download has begun: the numbers move from here on.
const moved = throttle(() => 100, () => { if (interval() === IDLE_MS) look(); });
events.listen(({ name, data }) => (name === 'status' ? take(data) : moved()));
