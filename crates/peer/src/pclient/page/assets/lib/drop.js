// Files and folders that are dropped on the page, or chosen: a folder gives all files in it, with their paths.

import { h } from './dom.js';

/** Files of one drop; more are a mistake, or better shared from where they lie. */
export const MOST = 10_000;

/** Takes drops on the whole window; `take` gets `[{ file, name }]`. */
export function acceptDrops(take, failed) {
  const veil = h('div', { class: 'veil', hidden: true }, h('p', {}, 'Drop to share'));
  document.body.append(veil);
  const hasFiles = (event) => event.dataTransfer?.types.includes('Files');
  addEventListener('dragover', (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    veil.hidden = false;
  });
  addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) veil.hidden = true;
  });
  addEventListener('drop', async (event) => {
    veil.hidden = true;
    if (!hasFiles(event)) return;
    event.preventDefault();
    // The list of items is emptied when this handler returns: entries are taken out before anything is awaited.
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    try {
      take(await filesOf(entries));
    } catch (error) {
      failed(error);
    }
  });
}

/** The files of an `<input type=file>`, of one for folders too. */
export function chosen(input) {
  return [...input.files].slice(0, MOST).map((file) => ({ file, name: file.webkitRelativePath || file.name }));
}

async function filesOf(entries) {
  const files = [];
  const folders = [...entries];
  while (folders.length > 0 && files.length < MOST) {
    const entry = folders.shift();
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      files.push({ file, name: entry.fullPath.replace(/^\/+/, '') });
    } else {
      const reader = entry.createReader();
      // A reader gives a hundred at a time, and none at the end.
      for (let some; (some = await children(reader)).length > 0;) folders.push(...some);
    }
  }
  return files;
}

function children(reader) {
  return new Promise((resolve, reject) => reader.readEntries(resolve, reject));
}
