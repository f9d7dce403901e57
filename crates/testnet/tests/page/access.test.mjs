// Who may open the page, and who can use it: the token, and every view by the rules of accessibility, in both themes.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { openBrowser, openPage } from './browser.mjs';
import { Network } from './network.mjs';
import { noise, put, tone } from './samples.mjs';
import { until } from './wait.mjs';

const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const TOKEN = 'a-token-of-this-test';

let network;
let browser;
let ana;
let beto;

before(async () => {
  network = await Network.start();
  browser = await openBrowser();
  ana = await network.peer('ana', { PCLIENT_TOKEN: TOKEN });
  await Promise.all([
    tone(ana.shared, 'music/tone.wav', 30),
    put(ana.shared, 'notes \u05e2\u05d1\u05e8\u05d9\u05ea.txt', 'notes'),
    put(ana.shared, '<img src=x onerror=alert(1)>.txt', 'harmless'),
  ]);
  beto = await network.peer('beto', { PEER_DOWNLOAD_LIMIT: '8MiB' });
  await until('all are known', async () => (await beto.ask('GET', '/v1/search')).items.length === 3);
  const { items } = await beto.ask('GET', '/v1/search');
  for (const { content_id } of items) {
    const { id } = await beto.ask('POST', '/v1/downloads', { content_id });
    await until('it is here', async () => (await beto.ask('GET', `/v1/downloads/${id}`)).state === 'done');
  }
  await ana.ask('POST', '/v1/offers', { content_id: items[0].content_id, to: 'beto' });
  await beto.ask('POST', '/v1/offers', { content_id: items[1].content_id, to: 'ana' });
  await beto.ask('POST', '/v1/groups', { name: 'lab', members: ['ana'] });
  // One that is fetched in part and rests, and one that nobody has: it waits.
  await noise(ana.shared, 'half.bin', 24);
  await until('it is known', async () => (await beto.ask('GET', '/v1/search?q=half')).items.length === 1);
  const { items: [{ content_id: half }] } = await beto.ask('GET', '/v1/search?q=half');
  const { id } = await beto.ask('POST', '/v1/downloads', { content_id: half });
  await until('some of it is here', async () => (await beto.ask('GET', `/v1/downloads/${id}`)).verified_bytes > 0);
  await beto.ask('POST', `/v1/downloads/${id}/pause`);
  await beto.ask('POST', '/v1/downloads', { content_id: '0'.repeat(64), name: 'awaited.bin' });
});

after(async () => {
  await browser?.close();
  await network?.stop();
});

test('the token is asked for once, and sound plays without it in the address', async () => {
  const page = await openPage(browser, ana.url);
  page.expect('401');
  await page.goto('/#/search?q=tone');
  await page.getByLabel('Token').fill('another');
  await page.getByRole('button', { name: 'Open' }).click();
  await page.getByRole('alert').filter({ hasText: 'The token is not accepted.' }).waitFor();
  await page.getByLabel('Token').fill(TOKEN);
  await page.getByRole('button', { name: 'Open' }).click();
  await page.getByRole('link', { name: 'Play' }).click();
  const sound = page.locator('audio');
  await until('it plays', () => sound.evaluate((audio) => audio.currentTime > 0.2));
  const address = await sound.getAttribute('src');
  assert.match(address, /^\/v1\/content\/[0-9a-f]{64}\?ticket=/);
  assert.ok(!address.includes(encodeURIComponent(TOKEN)));
  const other = '/v1/content/'.padEnd(76, '0') + new URL(address, ana.url).search;
  assert.equal((await fetch(ana.url + other)).status, 401, 'a ticket opens nothing else');

  await page.reload();
  await page.locator('audio').waitFor();
  const fresh = await openPage(browser, ana.url);
  fresh.expect('401');
  await fresh.goto('/');
  await fresh.getByLabel('Token').waitFor();
  assert.deepEqual([page.faults, await page.violations(), fresh.faults], [[], [], []]);
});

/** Serious and critical faults that axe finds in a view, in a line each: wide and narrow, in light and dark. */
async function faultsOf(page, what) {
  await page.evaluate(AXE);
  const bad = [];
  for (const [width, theme] of [[1280, 'light'], [1280, 'dark'], [390, 'dark'], [390, 'light']]) {
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({ colorScheme: theme });
    // The dark theme differs in its colours alone.
    const rules = theme === 'dark' ? { runOnly: ['color-contrast'] } : {};
    const { violations } = await page.evaluate((more) => globalThis.axe.run(document, { resultTypes: ['violations'], ...more }), rules);
    const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
    const lines = serious.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id}: ${target} ${failureSummary}`));
    if (await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)) lines.push('it is wider than the screen');
    bad.push(...lines.map((line) => `${what}, ${width} wide, ${theme}: ${line}`));
  }
  await page.setViewportSize({ width: 1280, height: 900 });
  return bad;
}

test('every view can be used by everybody, wide and narrow, in light and dark', async () => {
  const page = await openPage(browser, beto.url);
  const { items: peers } = await beto.ask('GET', '/v1/peers');
  const other = peers.find(({ username }) => username === 'ana').peer_id;
  const content = async (q) => {
    const { items: [{ content_id: id, name, size, media_type: type }] } = await beto.ask('GET', `/v1/search?q=${q}`);
    return `content/${id}?${new URLSearchParams({ name, size, type, show: 'yes' })}`;
  };
  const views = [
    'search?q=o', 'search?q=nothing+at+all', 'transfers', 'transfers?state=failed', 'files', 'files?q=nothing+at+all', 'offers', 'offers?direction=sent',
    'peers', 'peers?show=groups', 'account', `peer/${other}`, await content('tone'), await content('notes'), 'content/no-id', 'status',
  ];
  // Nothing fails here by itself: what the list says when the disk is full.
  const { items: [first] } = await beto.ask('GET', '/v1/downloads?state=done');
  const failed = { ...first, state: 'failed', error: { code: 'storage_full', detail: 'no space is left on the disk' } };
  await page.route('**/v1/downloads?state=failed*', (route) => route.fulfill({ json: { items: [failed], next_cursor: null } }));
  const bad = [];
  for (const view of views) {
    await page.goto(`/#/${view}`);
    await page.locator('.rows > li, .card, .table, .empty').first().waitFor();
    if (view === 'transfers') {
      // One that came from somebody, so that it has a table of sources.
      await page.locator('.transfer', { hasText: 'tone' }).locator('[aria-expanded]').click();
      await page.locator('.table').waitFor();
    }
    if (view === 'transfers?state=failed') await page.getByText('Make room on the disk of this peer, then go on.').waitFor();
    if (view === 'status') {
      await page.getByRole('button', { name: 'Examine this peer' }).click();
      await page.getByRole('heading', { name: 'What this peer found' }).waitFor();
    }
    bad.push(...await faultsOf(page, view));
  }
  assert.deepEqual(bad, []);
  assert.deepEqual([page.faults, await page.violations()], [[], []]);
  await page.context().close();
});

test('on a narrow screen, what has the keyboard is never beneath the bars', async () => {
  const page = await openPage(browser, beto.url, { width: 390, height: 500 });
  for (const view of ['files', 'status', 'search?q=o']) {
    await page.goto(`/#/${view}`);
    await page.locator('.rows > li, .card, .table').first().waitFor();
    await page.evaluate(() => document.activeElement.blur());
    const reached = new Set();
    for (let at = 0; at < 40; at += 1) {
      await page.keyboard.press('Tab');
      const [name, top, bottom] = await page.evaluate(() => {
        const element = document.activeElement;
        const { top: above, bottom: below } = element.getBoundingClientRect();
        return element.closest('main') ? [element.ariaLabel ?? element.textContent, above, below] : ['', 0, 0];
      });
      if (!name) continue;
      reached.add(name);
      const [bar, head] = await page.evaluate(() => [document.querySelector('.views').getBoundingClientRect().top, document.querySelector('.top').getBoundingClientRect().bottom]);
      assert.ok(bottom <= bar && top >= head, `${view}: “${name}” lies from ${top} to ${bottom}, between bars at ${head} and ${bar}`);
    }
    assert.ok(reached.size >= 3, `${view}: ${[...reached]}`);
  }
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('so can what stands before a view: questions, messages, what is away', async () => {
  const page = await openPage(browser, beto.url);
  const bad = [];
  const questions = [
    ['files', (main) => main.getByRole('button', { name: /who may have/ }).first()],
    ['files', (main) => main.getByRole('button', { name: /^Send / }).first()],
    ['files', (main) => main.getByRole('button', { name: /^Share a path/ })],
    ['transfers', (main) => main.locator('li', { hasText: 'half.bin' }).getByRole('button', { name: /^Cancel/ })],
    ['peers?show=groups', (main) => main.getByRole('button', { name: 'New group' })],
    ['account', (main) => main.getByRole('button', { name: 'Change the password' })],
    ['files', () => page.getByRole('button', { name: 'Keyboard shortcuts' })],
  ];
  for (const [view, opener] of questions) {
    await page.goto(`/#/${view}`);
    const button = opener(page.locator('main'));
    await button.click();
    await page.getByRole('dialog').waitFor();
    bad.push(...await faultsOf(page, `a question of ${view}`));
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    assert.ok(await button.evaluate((element) => element === document.activeElement), 'the keyboard is back where it was');
  }
  await page.goto('/#/offers');
  const decline = page.getByRole('button', { name: /^Decline/ });
  await decline.waitFor();
  page.expect('ERR_');
  // As if the peer had gone: for this page it has.
  await page.route('**/v1/**', (route) => route.abort('connectionrefused'));
  await decline.click();
  await page.locator('.toast.bad').waitFor();
  await page.getByRole('alert').filter({ hasText: 'Start it again' }).first().waitFor();
  bad.push(...await faultsOf(page, 'what is away'));
  assert.deepEqual(bad, []);
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('the forms before the first view can be used by everybody', async () => {
  const carla = await network.peer('carla', { PEER_USERNAME: '', PEER_PASSWORD: '' });
  for (const [peer, field] of [[carla, 'Username'], [ana, 'Token']]) {
    const page = await openPage(browser, peer.url);
    await page.goto('/');
    await page.getByLabel(field).waitFor();
    assert.deepEqual(await faultsOf(page, field), []);
    await page.context().close();
  }
});

test('a transfer that is asked for while the list of them is on its way stands in it', async () => {
  const page = await openPage(browser, beto.url);
  let release;
  const held = new Promise((resolve) => { release = resolve; });
  let asked = false;
  await page.route('**/v1/downloads?*', async (route) => {
    const response = await route.fetch();
    asked = true;
    await held;
    await route.fulfill({ response });
  });
  await page.goto('/#/transfers');
  await until('the list was read', () => asked);
  const { id } = await beto.ask('POST', '/v1/downloads', { content_id: '1'.repeat(64), name: 'later.bin' });
  await page.locator('.transfer', { hasText: 'later.bin' }).waitFor();
  release();
  await page.locator('.transfer', { hasText: 'tone' }).waitFor();
  const rows = await page.locator('.transfer').allInnerTexts();
  assert.match(rows[0], /later\.bin/);
  assert.match(rows[1], /awaited\.bin/, 'the others follow, the newest first');
  await beto.ask('DELETE', `/v1/downloads/${id}`);
  await page.locator('.transfer', { hasText: 'later.bin' }).waitFor({ state: 'detached' });
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('an offer that comes while the list of them is read anew is in it soon', async () => {
  const page = await openPage(browser, beto.url);
  await page.goto('/#/offers');
  const rows = page.locator('.rows > li');
  await rows.first().waitFor();
  const [before, { items }] = [await rows.count(), await ana.ask('GET', '/v1/files')];
  const [first, second] = items.filter(({ name }) => /half|notes/.test(name));
  let release;
  const held = new Promise((resolve) => { release = resolve; });
  let reads = 0;
  await page.route('**/v1/offers?*direction=received*', async (route) => {
    reads += 1;
    const response = await route.fetch();
    await held;
    await route.fulfill({ response });
  });
  await ana.ask('POST', '/v1/offers', { content_id: first.content_id, to: 'beto' });
  await until('the list is read anew', () => reads === 1);
  await ana.ask('POST', '/v1/offers', { content_id: second.content_id, to: 'beto' });
  await page.locator('#views .open', { hasText: `${before + 2} ` }).waitFor();
  release();
  await until('both are in it', async () => await rows.count() === before + 2);
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('a copy of what is for a few stays theirs, until somebody else is chosen', async () => {
  await put(beto.shared, 'plan.txt', 'the plan');
  const audiences = async () => (await beto.ask('GET', '/v1/files?q=plan')).items.map(({ audience }) => audience);
  await until('it is shared', async () => (await audiences()).length === 1);
  const [{ content_id: id }] = (await beto.ask('GET', '/v1/files?q=plan')).items;
  await beto.ask('PATCH', `/v1/files/${id}`, { audience: ['ana'] });
  const page = await openPage(browser, beto.url);
  await page.goto('/#/files');
  const drop = (name) => page.locator('#choose-files').setInputFiles({ name, mimeType: 'text/plain', buffer: Buffer.from('the plan') });
  await drop('plan 2.txt');
  await page.getByText('is for ana only').waitFor();
  assert.deepEqual(await audiences(), [['ana'], ['ana']]);
  await page.locator('.drop').getByRole('button', { name: 'Everybody' }).click();
  await page.getByRole('button', { name: 'Save' }).click();
  await drop('plan 3.txt');
  await until('it is everybody’s', async () => (await audiences()).join() === 'network,network,network');
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('who has an invite joins with it', async () => {
  const invited = await Network.start({ DIRECTORY_REGISTRATION: 'invite', DIRECTORY_ADMIN_TOKEN: TOKEN });
  try {
    const dora = await invited.peer('dora', { PEER_USERNAME: '', PEER_PASSWORD: '' });
    const made = await fetch(`${invited.url}/v1/invites`, {
      method: 'POST',
      headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
      body: JSON.stringify({ uses: 1, expires_in: 60 }),
    });
    const { invite } = await made.json();
    const page = await openPage(browser, dora.url);
    page.expect('401');
    await page.goto('/');
    await page.getByLabel('Username').fill('dora');
    await page.getByLabel('Password').fill('password of dora');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByRole('alert').filter({ hasText: 'by invite only' }).first().waitFor();
    await page.getByLabel('Invite').fill(` ${invite} `);
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.locator('#views').getByRole('link', { name: 'My files' }).waitFor();
    assert.equal((await dora.ask('GET', '/v1/status')).username, 'dora');
    assert.deepEqual(page.faults, []);
    await page.context().close();
  } finally {
    await invited.stop();
  }
});
