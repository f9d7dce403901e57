// Who may open the page, and who can use it: the token, and every view by the rules of accessibility, in both themes.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { openBrowser, openPage } from './browser.mjs';
import { Network } from './network.mjs';
import { put, tone } from './samples.mjs';
import { until } from './wait.mjs';

const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const TOKEN = 'a-token-of-this-test';

let network;
let browser;
let ana;
let beto;

before(async () => {
  [network, browser] = await Promise.all([Network.start(), openBrowser()]);
  ana = await network.peer('ana', { PCLIENT_TOKEN: TOKEN });
  await Promise.all([
    tone(ana.shared, 'music/tone.wav', 30),
    put(ana.shared, 'notes \u05e2\u05d1\u05e8\u05d9\u05ea.txt', 'notes'),
    put(ana.shared, '<img src=x onerror=alert(1)>.txt', 'harmless'),
  ]);
  beto = await network.peer('beto');
  await until('all are known', async () => (await beto.ask('GET', '/v1/search')).items.length === 3);
  const { items } = await beto.ask('GET', '/v1/search');
  for (const { content_id } of items) await beto.ask('POST', '/v1/downloads', { content_id });
  await ana.ask('POST', '/v1/offers', { content_id: items[0].content_id, to: 'beto' });
  // One that nobody has: it waits.
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

/** Serious and critical faults that axe finds, in a line each. */
async function faultsOf(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id}: ${target} ${failureSummary}`));
}

for (const [theme, width] of [['light', 1280], ['dark', 390]]) {
  test(`every view can be used by everybody: ${theme}, ${width} wide`, async () => {
    const page = await openPage(browser, beto.url, { theme, width });
    const { items: [{ peer_id: peer }] } = await beto.ask('GET', '/v1/peers');
    const { items: [{ content_id: id, name, size, media_type: type }] } = await beto.ask('GET', '/v1/search?q=tone');
    const content = `content/${id}?${new URLSearchParams({ name, size, type, show: 'yes' })}`;
    const bad = [];
    for (const view of ['search?q=o', 'search?q=nothing+at+all', 'transfers', 'files', 'offers', 'peers', `peer/${peer}`, content, 'status']) {
      await page.goto(`/#/${view}`);
      await page.locator('.rows > li, .card, .table, .empty').first().waitFor();
      if (view === 'transfers') {
        await page.locator('.transfer [aria-expanded]').last().click();
        await page.locator('.table').waitFor();
      }
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${view} is not wider than the screen`);
      bad.push(...(await faultsOf(page)).map((fault) => `${view}: ${fault}`));
    }
    await page.goto('/#/files');
    await page.getByRole('button', { name: /who may have/ }).first().click();
    bad.push(...(await faultsOf(page)).map((fault) => `dialog: ${fault}`));
    assert.deepEqual(bad, []);
    assert.deepEqual(page.faults, []);
    await page.context().close();
  });
}

test('the login form can be used by everybody', async () => {
  const carla = await network.peer('carla', { PEER_USERNAME: '', PEER_PASSWORD: '' });
  for (const theme of ['light', 'dark']) {
    const page = await openPage(browser, carla.url, { theme, width: 390 });
    await page.goto('/');
    await page.getByLabel('Username').waitFor();
    assert.deepEqual(await faultsOf(page), []);
    await page.context().close();
  }
});
