// The bytes of a content: where they are read, and what of them a browser can show.

import { address, post, token } from './api.js';
import { kindOf, typeOf } from './format.js';
import { copy, toastProblem } from './notices.js';
import { to } from './router.js';

/** A ticket is good for hours; one that is older is not used for something new. */
const TICKET_MS = 3_600_000;
const tickets = new Map();

/** Where the bytes are, for elements and players that cannot send the token: with a ticket in its place. */
export async function bytesAt(contentId) {
  const path = `/v1/content/${contentId}`;
  if (!token.get()) return path;
  let known = tickets.get(contentId);
  if (!known || known.at + TICKET_MS < Date.now()) {
    known = { at: Date.now(), ticket: (await post('/v1/tickets', { content_id: contentId })).ticket };
    tickets.set(contentId, known);
  }
  return address(path, { ticket: known.ticket });
}

/** 'video', 'audio', 'image' or 'text' where the browser may show it here, else null. Strangers' HTML and SVG never. */
export function showable({ media_type: mediaType, name }) {
  const kind = kindOf(mediaType, name);
  if (['video', 'audio', 'image'].includes(kind)) return kind;
  return /^text\/(?!html)|^application\/(json|toml|x-sh|x-yaml)$/.test(mediaType ?? typeOf(name) ?? '') ? 'text' : null;
}

/** The address of the view of a content; what the row knows of it goes along. */
export function pageOf({ content_id: id, name, size, media_type: type }, more = {}) {
  return to('content', [id], { name, size, type, ...more });
}

/** Copies where a player, or curl, reads the bytes. */
export async function copyLink(contentId) {
  try {
    const where = new URL(await bytesAt(contentId), location.origin).href;
    const how = token.get() ? ' It holds for six hours.' : '';
    await copy(where, `The link to the bytes is copied: for a player, curl or wget.${how}`);
  } catch (problem) {
    toastProblem(problem, 'No link.');
  }
}
