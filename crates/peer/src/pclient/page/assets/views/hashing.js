// What this peer is hashing: how much is left, how long that takes, and which file it is at. What is hashed is shared.

import { fill, foreign, h, say } from '../lib/dom.js';
import { events } from '../lib/events.js';
import { duration, percent, plural, size } from '../lib/format.js';
import { announce } from '../lib/notices.js';
import { status } from '../lib/session.js';

/** Before so much time has gone by, a rate is a guess. */
const MEASURED_MS = 3_000;

export function hashingPanel(signal) {
  const words = h('p', { class: 'num' });
  const bar = h('progress', { max: 100, 'aria-label': 'Hashed' });
  const now = h('p', { class: 'dim at' });
  const panel = h('section', { class: 'uploads', 'aria-label': 'Hashing', hidden: true }, words, bar, now);
  let run = null;
  status.watch((latest) => {
    const { hashing_files: files = 0, hashing_bytes: left = 0 } = latest?.shared ?? {};
    panel.hidden = files === 0;
    if (files === 0) {
      if (run) announce('All files are hashed');
      run = null;
      fill(now);
      return;
    }
    // What is left grows while more is found: the bar starts anew then.
    if (!run || left > run.most) run = { most: left, since: Date.now() };
    const done = run.most - left;
    const seconds = (Date.now() - run.since) / 1000;
    bar.value = percent(done, run.most);
    const rest = seconds * 1000 > MEASURED_MS && done > 0 ? `, ${duration((left * seconds) / done)} left` : '';
    say(words, `Hashing ${plural(files, 'more file', 'more files')}, ${size(left)} to go${rest}`);
  }, signal);
  events.listen(({ name, data }) => {
    if (name === 'file' && data.kind === 'hashing' && run) fill(now, foreign(data.path));
  }, signal);
  return panel;
}
