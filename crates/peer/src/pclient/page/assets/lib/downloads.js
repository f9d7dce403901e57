// The downloads that this page knows: told by lists and by events, changed by buttons.

import { call, get, post } from './api.js';
import { Topic } from './cell.js';
import { events } from './events.js';

/** A map of what changed: id → the download, or null for one that is gone. At most ten times a second. */
export const changes = new Topic();

const KEPT = 5_000;
const GATHER_MS = 100;

const known = new Map();
const byContent = new Map();
const names = new Map();
let gathered = new Map();
let timer = null;
let newest = null;

/** Remembers downloads that were read or told. */
function take(...downloads) {
  for (const download of downloads.map(named)) {
    known.delete(download.id);
    known.set(download.id, download);
    byContent.set(download.content_id, download.id);
    gather(download.id, download);
  }
  for (const [id, download] of known) {
    if (known.size <= KEPT) break;
    forget(id, download);
  }
}

export function ofContent(contentId) {
  return known.get(byContent.get(contentId)) ?? null;
}

export function byId(id) {
  return known.get(id) ?? null;
}

/** A page of the list of downloads, the newest first. */
export async function page(query, signal) {
  const answer = await get('/v1/downloads', query, signal);
  answer.items = answer.items.map(named);
  for (const download of answer.items) {
    known.set(download.id, download);
    if (!byContent.has(download.content_id)) byContent.set(download.content_id, download.id);
  }
  return answer;
}

/** Reads the newest downloads once, so that what was fetched lately is known as such. */
export function readNewest() {
  newest ??= page({ limit: 200 }).then(({ items }) => take(...items), () => { newest = null; });
}

/** Asks for a content. Until a holder is asked, the peer does not know its name; we do. */
export async function start({ content_id: contentId, name }) {
  names.set(contentId, name);
  if (names.size > KEPT) names.delete(names.keys().next().value);
  const download = await post('/v1/downloads', { content_id: contentId });
  take(download);
  tell();
  return download;
}

function named(download) {
  const name = download.name === download.content_id && names.get(download.content_id);
  return name ? { ...download, name } : download;
}

export async function pause(id) {
  take(await post(`/v1/downloads/${id}/pause`));
  tell();
}

export async function resume(id) {
  take(await post(`/v1/downloads/${id}/resume`));
  tell();
}

/** Ends it, or takes it off the list where it is done. */
export async function remove(id) {
  await call('DELETE', `/v1/downloads/${id}`);
  gone(id);
  tell();
}

/** Whether it may still move by itself. */
export function isActive({ state }) {
  return ['queued', 'waiting', 'running', 'finishing'].includes(state);
}

function gone(id) {
  const download = known.get(id);
  if (download) forget(id, download);
  gather(id, null);
}

function forget(id, download) {
  known.delete(id);
  if (byContent.get(download.content_id) === id) byContent.delete(download.content_id);
}

/** What others did is told a few times a second; what was asked for here is told by `tell` as soon as it is answered. */
function gather(id, download) {
  timer ??= setTimeout(tell, GATHER_MS);
  gathered.set(id, download);
}

function tell() {
  clearTimeout(timer);
  timer = null;
  const told = gathered;
  gathered = new Map();
  if (told.size > 0) changes.tell(told);
}

events.listen(({ name, data }) => {
  if (name === 'download') take(data);
  if (name === 'download_removed') gone(data.id);
});
