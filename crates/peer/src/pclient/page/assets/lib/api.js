// Asking the peer. Each call answers JSON or throws a `Problem`, whatever went wrong.

/** No call that answers at once takes longer; uploads and streams do not come through here. */
const LIMIT_MS = 40_000;
const TOKEN = 'trueque.token';

/** What went wrong, as the API words it (RFC 9457), or as we do where no answer came. */
export class Problem extends Error {
  constructor({ status = 0, code = 'unreachable', title = '', detail = '', request_id: requestId = '' }) {
    super(detail || title || `The peer answered ${status}.`);
    this.status = status;
    this.code = code;
    this.requestId = requestId;
  }

  /** Whether no answer came at all. */
  get isAway() {
    return this.status === 0;
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (value) => sessionStorage.setItem(TOKEN, value),
  forget: () => sessionStorage.removeItem(TOKEN),
};

/** The headers that every call needs. */
export function authorization() {
  const own = token.get();
  return own ? { Authorization: `Bearer ${own}` } : {};
}

/** `path` with those parts of `query` that say something. */
export function address(path, query = {}) {
  const said = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  const text = new URLSearchParams(said).toString();
  return text ? `${path}?${text}` : path;
}

export async function call(method, path, { query, json, signal } = {}) {
  const headers = authorization();
  if (json !== undefined) headers['Content-Type'] = 'application/json';
  const limit = AbortSignal.timeout(LIMIT_MS);
  let response;
  try {
    response = await fetch(address(path, query), {
      method,
      headers,
      body: json === undefined ? undefined : JSON.stringify(json),
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
      cache: 'no-store',
    });
    if (response.ok) return response.status === 204 ? null : await response.json();
  } catch (error) {
    throw unanswered(error, signal);
  }
  throw await problemOf(response);
}

export const get = (path, query, signal) => call('GET', path, { query, signal });
export const post = (path, json, signal) => call('POST', path, { json, signal });

/** The problem that an answer tells. */
export async function problemOf(response) {
  const document = await response.json().catch(() => ({}));
  return new Problem({ code: 'unknown', ...document, status: response.status });
}

function unanswered(error, signal) {
  // Nobody waits any more: not a problem, and whoever asked knows.
  if (signal?.aborted) return error;
  if (error.name === 'TimeoutError') {
    return new Problem({ status: 504, code: 'timeout', detail: 'The peer has not answered in time.' });
  }
  return new Problem({ detail: 'The peer does not answer. Is it still running?' });
}

/** Whether an error only says that nobody waits any more. */
export function isAbort(error) {
  return error.name === 'AbortError';
}
