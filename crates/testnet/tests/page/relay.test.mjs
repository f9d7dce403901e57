// What the page says of the ways to others: who is reached directly, who by the relay alone and why, and who is off.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { openBrowser, openPage } from './browser.mjs';
import { Network } from './network.mjs';
import { put } from './samples.mjs';
import { until } from './wait.mjs';

let broker;
let network;
let browser;
let beto;

before(async () => {
  broker = new Network();
  const amqp = await broker.broker();
  browser = await openBrowser();
  network = await Network.start({ DIRECTORY_AMQP_URL: amqp });
  const peer = async (name, more = {}) => {
    await put(network.shareOf(name), 'results.tar', 'the same at all of them');
    return network.peer(name, { PEER_AMQP_URL: amqp, ...more });
  };
  const [, , dora] = await Promise.all([peer('ana'), peer('carla', { PSERVER_LISTEN: 'off' }), peer('dora')]);
  beto = await network.peer('beto', { PEER_AMQP_URL: amqp });
  const holders = async () => (await beto.ask('GET', '/v1/search?q=results')).items[0]?.holders;
  await until('three hold it', async () => (await holders()) === 3);
  await dora.stop();
  await until('the relay is there', async () => (await beto.ask('GET', '/v1/status')).relay.connected);
});

after(async () => {
  await browser?.close();
  await network?.stop();
  await broker?.stop();
});

test('holders and peers are shown with the way to each, and why it is no better one', async () => {
  const page = await openPage(browser, beto.url);
  await page.goto('/#/search?q=results');
  await page.getByText('3 holders · 2 online · 1 by relay', { exact: true }).waitFor();
  await page.locator('.row-title').click();
  const holder = (name) => page.locator('.table tr', { hasText: name });
  await holder('carla').getByText('it takes no calls').waitFor();
  assert.deepEqual(await Promise.all(['ana', 'carla', 'dora'].map((name) => holder(name).locator('.badge').textContent())), ['direct', 'by relay', 'offline']);

  await page.goto('/#/peers');
  const row = (name) => page.locator('.rows > li', { hasText: name });
  await row('carla').getByText('it takes no calls').waitFor();
  await row('carla').getByText('by relay', { exact: true }).waitFor();
  await row('dora').getByText('offline', { exact: true }).waitFor();
  await page.goto('/#/status');
  await page.locator('.card', { hasText: 'Relay' }).getByText('Connected').waitFor();

  await page.goto('/#/search?q=results');
  await page.getByRole('button', { name: /^Fetch/ }).click();
  await page.getByRole('link', { name: 'Here' }).waitFor();
  assert.deepEqual([page.faults, await page.violations()], [[], []]);
});
