// The small graph of rates: two lines over the last three minutes, in colours of the theme.

import { mark, svg } from './dom.js';
import { rate } from './format.js';

const WIDTH = 600;
const HEIGHT = 120;
const SPAN_MS = 180_000;

/** The graph does not make a mountain of nothing. */
const LOWEST_TOP = 100 << 10;

/** `{ element, draw(samples) }`; samples are `{ at, down, up }`, the newest last. */
export function graph() {
  const area = svg('path', { class: 'graph-area' });
  const down = svg('path', { class: 'graph-down' });
  const up = svg('path', { class: 'graph-up' });
  const lines = [0.25, 0.5, 0.75].map((part) => svg('path', { class: 'graph-grid', d: `M0 ${HEIGHT * part}H${WIDTH}` }));
  const element = svg('svg', { class: 'graph', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img' },
    lines, area, down, up);
  return {
    element,
    /** Answers the rate at the top of the graph. */
    draw(samples, now = Date.now()) {
      const top = roof(Math.max(LOWEST_TOP, ...samples.flatMap((sample) => [sample.down, sample.up])));
      const recent = samples.filter((sample) => sample.at > now - SPAN_MS);
      const line = (what) => recent.map((sample, at) => {
        const x = WIDTH * (1 - (now - sample.at) / SPAN_MS);
        const y = HEIGHT - 2 - (HEIGHT - 6) * (sample[what] / top);
        return `${at === 0 ? 'M' : 'L'}${x.toFixed(1)} ${y.toFixed(1)}`;
      }).join('');
      const path = line('down');
      mark(down, 'd', path || 'M0 0');
      mark(up, 'd', line('up') || 'M0 0');
      mark(area, 'd', recent.length > 1 ? `${path}V${HEIGHT}H${(WIDTH * (1 - (now - recent[0].at) / SPAN_MS)).toFixed(1)}Z` : 'M0 0');
      const last = samples.at(-1) ?? { down: 0, up: 0 };
      mark(element, 'aria-label', `Rates of the last three minutes; now ${rate(last.down)} in, ${rate(last.up)} out`);
      return top;
    },
  };
}

/** The next round number of a binary unit, so that the scale does not jump with each sample. */
function roof(value) {
  const unit = 1024 ** Math.floor(Math.log(value) / Math.log(1024));
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1024];
  return unit * steps.find((step) => step * unit >= value);
}
