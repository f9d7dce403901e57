// What is on its way into the shared folder: how far, what failed and why.

import { foreign, fill, h, mark, say } from '../lib/dom.js';
import { count, percent, plural, size } from '../lib/format.js';
import { announce, sentence } from '../lib/notices.js';
import * as uploads from '../lib/uploads.js';
import { button } from './parts.js';

export function uploadsPanel(signal) {
  const words = h('p', { class: 'num' });
  const bar = h('progress', { max: 100, 'aria-label': 'Sent to this peer' });
  const now = h('p', { class: 'dim' });
  const stop = button('close', 'Stop sending', () => uploads.cancel(), { bare: true });
  const failures = h('ul', { class: 'failures' });
  const panel = h('section', { class: 'uploads', 'aria-label': 'Files on their way', hidden: true },
    h('div', { class: 'uploads-head' }, words, stop), bar, now, failures);
  let told = uploads.state().total;
  let failed = -1;
  const draw = () => {
    const { running, failures: bad, done, total, sentBytes, totalBytes } = uploads.state();
    const idle = uploads.isIdle();
    panel.hidden = total === 0 || (idle && bad.length === 0);
    bar.value = percent(sentBytes, totalBytes);
    bar.hidden = now.hidden = idle;
    mark(stop, 'aria-label', idle ? 'Close' : 'Stop sending');
    mark(stop, 'title', idle ? 'Close' : 'Stop sending');
    say(words, idle ? `${plural(done, 'file')} shared, ${count(bad.length)} not:` : `${count(done)} of ${plural(total, 'file')} · ${size(sentBytes)} of ${size(totalBytes)}`);
    if (!idle) fill(now, running.map((upload) => h('span', { class: 'upload' }, foreign(upload.name), upload.sent >= upload.file.size ? ' – being hashed ' : ' ')));
    if (bad.length !== failed) {
      failed = bad.length;
      fill(failures, bad.map(({ name, problem }) => h('li', {}, h('strong', {}, foreign(name)), ' ', sentence(problem.message), problem.requestId && [' Request id ', h('code', {}, problem.requestId)])));
    }
    if (idle && total > 0 && told !== 0) announce(`${plural(done, 'file')} shared`);
    told = idle ? 0 : total;
    mark(panel, 'aria-busy', idle ? null : 'true');
  };
  uploads.changed.listen(draw, signal);
  draw();
  return panel;
}
