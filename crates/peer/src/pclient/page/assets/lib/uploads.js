// Files on their way into the shared folder of this peer. They go on whatever view is shown, two at a time.

import { Problem, authorization } from './api.js';
import { Topic } from './cell.js';

/** Something of the queue has changed. */
export const changed = new Topic();

const AT_ONCE = 2;
/** Failures that are kept to be read. */
const KEPT_FAILURES = 50;

const waiting = [];
const running = new Set();
const failures = [];
let done = 0;
let doneBytes = 0;
let total = 0;
let totalBytes = 0;

/** What is to be seen of the queue. */
export function state() {
  const sent = [...running].reduce((sum, upload) => sum + upload.sent, 0);
  return { running: [...running], failures, done, total, sentBytes: doneBytes + sent, totalBytes };
}

export function isIdle() {
  return running.size === 0 && waiting.length === 0;
}

/**
 * Sends files, each `{ file, name }`, for an audience: "network", a list of usernames, or null, which leaves it to the
 * peer. `landed` is told the peer's answer to each.
 */
export function add(files, audience, landed) {
  if (isIdle()) {
    failures.length = 0;
    [done, doneBytes, total, totalBytes] = [0, 0, 0, 0];
  }
  for (const { file, name } of files) {
    waiting.push({ file, name, audience, landed, sent: 0, request: null });
    total += 1;
    totalBytes += file.size;
  }
  next();
}

/** Stops what is on its way, and forgets what failed. */
export function cancel() {
  waiting.length = 0;
  failures.length = 0;
  for (const upload of running) upload.request.abort();
  changed.tell();
}

function next() {
  while (running.size < AT_ONCE && waiting.length > 0) {
    const upload = waiting.shift();
    running.add(upload);
    send(upload).then(
      (answer) => {
        done += 1;
        upload.landed(answer);
      },
      (problem) => { if (problem && failures.length < KEPT_FAILURES) failures.push({ name: upload.name, problem }); },
    ).finally(() => {
      running.delete(upload);
      doneBytes += upload.file.size;
      next();
      changed.tell();
    });
  }
  changed.tell();
}

/** By XMLHttpRequest: `fetch` does not tell how much has been sent. Rejects with null where it was cancelled. */
function send(upload) {
  const form = new FormData();
  if (upload.audience) form.append('audience', JSON.stringify(upload.audience));
  form.append('file', upload.file, upload.name);
  const request = new XMLHttpRequest();
  upload.request = request;
  return new Promise((resolve, reject) => {
    request.open('POST', '/v1/files');
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded }) => {
      upload.sent = Math.min(loaded, upload.file.size);
      changed.tell();
    };
    request.onload = () => (request.status === 201 ? resolve(JSON.parse(request.responseText)) : reject(problemIn(request)));
    request.onerror = () => reject(new Problem({ detail: 'The file could not be sent: it cannot be read, or the peer has gone.' }));
    request.onabort = () => reject(null);
    request.send(form);
  });
}

function problemIn({ status, responseText }) {
  try {
    return new Problem({ ...JSON.parse(responseText), status });
  } catch {
    return new Problem({ status, code: 'unknown' });
  }
}

window.addEventListener('beforeunload', (event) => {
  if (!isIdle()) event.preventDefault();
});
