// What happens in the peer, as it happens: `GET /v1/events`. By `fetch` and not by EventSource, which cannot carry a
// token. A page that nobody sees listens to nothing: it costs nothing, and browsers allow six connections to a host.

import { authorization } from './api.js';
import { Topic, throttle } from './cell.js';

/** Events by name: `download`, `download_removed`, `file`, `offer`, `peer`, `status`. */
export const events = new Topic();
/** Something was missed: the stream was away, or this page too slow for it. What is shown must be read anew. */
export const resync = new Topic();

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 10_000;
/** How long a hidden page goes on listening, so that switching back and forth costs nothing. */
const HIDDEN_FOR = 20_000;
const MISSED_MS = 1_000;

/** Listens until the signal aborts, whatever happens to the connection. */
export async function listen(signal) {
  let pause = FIRST_PAUSE;
  let opened = false;
  while (!signal.aborted) {
    await visible(signal);
    if (signal.aborted) return;
    const connection = new AbortController();
    const stop = () => connection.abort();
    signal.addEventListener('abort', stop, { once: true });
    const unwatch = onHidden(stop);
    try {
      const response = await fetch('/v1/events', { headers: authorization(), signal: connection.signal, cache: 'no-store' });
      if (response.ok) {
        pause = FIRST_PAUSE;
        if (opened) resync.tell();
        opened = true;
        await tellAll(response.body);
      } else {
        await response.body?.cancel();
      }
    } catch {
      // The peer stops, the network breaks, the page is hidden: one answer to all of them, to come again.
    }
    unwatch();
    signal.removeEventListener('abort', stop);
    if (document.visibilityState === 'visible') {
      await new Promise((done) => setTimeout(done, pause * (0.5 + Math.random())));
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    }
  }
}

/** Tells the events of a stream. Their ids count without gaps: where one is left out, it is gone for good. */
async function tellAll(body) {
  const missed = throttle(() => MISSED_MS, () => resync.tell());
  let last = null;
  for await (const event of parse(body)) {
    const number = Number(event.id.split('-')[1]);
    if (last !== null && number > last + 1) missed();
    if (number) last = number;
    events.tell(event);
  }
}

/** The events of a stream: `{ id, name, data }`. Fields are `name: value` lines, an empty line ends an event. */
async function* parse(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let [id, name, data] = ['', 'message', ''];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    for (const raw of lines) {
      const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
      if (line === '') {
        if (data) yield { id, name, data: JSON.parse(data) };
        [id, name, data] = ['', 'message', ''];
      } else if (line.startsWith('id:')) {
        id = line.slice(3).trim();
      } else if (line.startsWith('event:')) {
        name = line.slice(6).trim();
      } else if (line.startsWith('data:')) {
        data += line.slice(5);
      }
    }
  }
}

function visible(signal) {
  if (document.visibilityState === 'visible') return undefined;
  return new Promise((done) => {
    const look = () => {
      if (document.visibilityState !== 'visible' && !signal.aborted) return;
      document.removeEventListener('visibilitychange', look);
      done();
    };
    document.addEventListener('visibilitychange', look);
    signal.addEventListener('abort', look, { once: true });
  });
}

function onHidden(then) {
  let timer;
  const look = () => {
    clearTimeout(timer);
    if (document.visibilityState === 'hidden') timer = setTimeout(then, HIDDEN_FOR);
  };
  document.addEventListener('visibilitychange', look);
  look();
  return () => {
    clearTimeout(timer);
    document.removeEventListener('visibilitychange', look);
  };
}
