// A value that others watch: the whole of this page's state management.

export class Cell {
  #value;
  #watchers = new Set();

  constructor(value) {
    this.#value = value;
  }

  get value() {
    return this.#value;
  }

  set(value) {
    this.#value = value;
    tellEach(this.#watchers, value);
  }

  /** Tells the value now and whenever it is set, until the signal aborts. */
  watch(watcher, signal) {
    if (signal?.aborted) return;
    this.#watchers.add(watcher);
    signal?.addEventListener('abort', () => this.#watchers.delete(watcher), { once: true });
    watcher(this.#value);
  }
}

/** Tells each listener of what happens; nothing is kept. */
export class Topic {
  #listeners = new Set();

  tell(what) {
    tellEach(this.#listeners, what);
  }

  listen(listener, signal) {
    if (signal?.aborted) return;
    this.#listeners.add(listener);
    signal?.addEventListener('abort', () => this.#listeners.delete(listener), { once: true });
  }
}

/** One listener's mistake is not another's, nor the teller's: it is reported, and the others hear all the same. */
function tellEach(listeners, what) {
  for (const listener of [...listeners]) {
    try {
      listener(what);
    } catch (error) {
      reportError(error);
    }
  }
}

/** Runs `work` at once; where it ran less than `ms` ago, then, and once for all calls until then. */
export function paced(ms, work, signal) {
  let timer = null;
  let next = 0;
  const run = () => {
    timer = null;
    next = performance.now() + ms;
    work();
  };
  signal?.addEventListener('abort', () => clearTimeout(timer), { once: true });
  return () => {
    if (signal?.aborted) return;
    const wait = next - performance.now();
    if (wait <= 0 && timer === null) run();
    else timer ??= setTimeout(run, wait);
  };
}

/** Runs `work` at most once in `ms()`, the last time after the last call. */
export function throttle(ms, work, signal) {
  let timer = null;
  signal?.addEventListener('abort', () => clearTimeout(timer), { once: true });
  return () => {
    if (signal?.aborted) return;
    timer ??= setTimeout(() => {
      timer = null;
      work();
    }, ms());
  };
}
