// A browser, and what the page does wrong in it: errors in the console, violations of the policy.

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { PATIENCE_MS } from './wait.mjs';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** The page's files; with TRUEQUE_PAGE_SOURCE they are taken from there and not from the program, so that no change needs a build. */
const ASSETS = fileURLToPath(new URL('../../../peer/src/pclient/page/assets/', import.meta.url));

export async function openBrowser() {
  return chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
}

/**
 * A page of its own, as a new visitor sees it. `page.faults` lists what went wrong in it; refusals that a test brings
 * about are told by `page.expect(part)` before.
 */
export async function openPage(browser, url, { theme = 'light', width = 1280, height = 900 } = {}) {
  const context = await browser.newContext({ baseURL: url, colorScheme: theme, viewport: { width, height }, reducedMotion: 'reduce' });
  await context.addInitScript(() => {
    globalThis.violations = [];
    addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) => globalThis.violations.push(`${violatedDirective} ${blockedURI}`));
  });
  if (process.env.TRUEQUE_PAGE_SOURCE) await fromSource(context);
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  let expected = [];
  page.faults = [];
  page.expect = (part) => expected.push(part);
  page.expectNothing = () => { expected = []; };
  const fault = (text) => { if (!expected.some((part) => text.includes(part))) page.faults.push(text); };
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) fault(`${message.text()} (${message.location().url})`);
  });
  page.on('pageerror', (error) => fault(error.stack));
  page.on('dialog', (dialog) => {
    fault(`a dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.violations = () => page.evaluate(() => globalThis.violations);
  return page;
}

async function fromSource(context) {
  const types = { js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml' };
  await context.route(/\/app\/|\/$/, async (route) => {
    const file = new URL(route.request().url()).pathname.replace(/^\/app\//, '').replace(/^\/$/, 'index.html');
    const headers = file === 'index.html' ? (await route.fetch()).headers() : {};
    delete headers['content-length'];
    await route.fulfill({ headers, contentType: types[file.split('.').at(-1)] ?? 'text/html; charset=utf-8', body: await readFile(ASSETS + file) });
  });
}

/** Drops files and folders of this machine on the page, as a person does from a file manager. */
export async function drop(page, paths) {
  const cdp = await page.context().newCDPSession(page);
  const { width, height } = page.viewportSize();
  const data = { items: [], files: paths, dragOperationsMask: 1 };
  for (const type of ['dragEnter', 'dragOver', 'drop']) {
    await cdp.send('Input.dispatchDragEvent', { type, x: width / 2, y: height / 2, data });
  }
  await cdp.detach();
}
