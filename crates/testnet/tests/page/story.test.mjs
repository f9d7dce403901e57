// What people do with the page, from the login to a film that plays while it arrives. One network for all of it, and
// the tests are a story: each stands on what those before it did.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { execFileSync } from 'node:child_process';
import { readFile, rm, truncate } from 'node:fs/promises';
import path from 'node:path';
import { drop, openBrowser, openPage } from './browser.mjs';
import { film } from './film.mjs';
import { Network } from './network.mjs';
import { noise, put, tone } from './samples.mjs';
import { until } from './wait.mjs';

const EVIL = '<img src=x onerror=alert(1)>.txt';
const LIMIT_MIB = 6;
const SLOW_MIB = 24;
const FILM_SECONDS = 60;

let network;
let browser;
let ana;
let beto;
let anas;
let betos;

before(async () => {
  network = await Network.start({ DIRECTORY_LEASE: '15s' });
  browser = await openBrowser();
  [ana, beto] = await Promise.all([
    network.peer('ana', { PEER_USERNAME: '', PEER_PASSWORD: '' }),
    network.peer('beto', { PEER_DOWNLOAD_LIMIT: `${LIMIT_MIB}MiB` }),
  ]);
  [anas, betos] = await Promise.all([openPage(browser, ana.url), openPage(browser, beto.url)]);
});

after(async () => {
  await browser?.close();
  await network?.stop();
});

// Whatever a test looks at, nothing may break beside it.
afterEach(async () => {
  for (const page of [anas, betos]) {
    assert.deepEqual(page.faults, []);
    assert.deepEqual(await page.violations().catch(() => []), []);
    page.expectNothing();
  }
});

/** One part of the story. Where one fails, those that stand on it do not try. */
let broken = null;
function part(name, body) {
  test(name, async () => {
    assert.ok(!broken, `“${broken}” has failed before`);
    broken = name;
    try {
      await body();
    } catch (error) {
      const seen = async (page) => `${page.url()} ${JSON.stringify(page.faults)} ${await page.locator('body').innerText().catch(String)}`;
      error.stack += `\nana's page: ${await seen(anas)}\nbeto's page: ${await seen(betos)}`;
      throw error;
    }
    broken = null;
  });
}

const go = (page, view) => page.getByRole('navigation').getByRole('link', { name: view }).click();
const row = (page, name) => page.locator('.rows > li', { hasText: name });
const verified = async (name) => (await beto.ask('GET', '/v1/downloads')).items.find((one) => one.name === name)?.verified_bytes ?? 0;

part('the login form stands alone, says what is wrong, and creates the account', async () => {
  await anas.goto('/');
  await anas.getByRole('heading', { name: 'Log in' }).waitFor();
  assert.equal(await anas.locator('nav.views').isVisible(), false);
  await anas.getByLabel('Username').fill('beto');
  await anas.getByLabel('Password').fill('not his password');
  anas.expect('401');
  await anas.getByRole('button', { name: 'Log in' }).click();
  const refusal = anas.getByRole('alert');
  assert.match(await refusal.textContent(), /Not logged in\. .+Request id [0-9a-f]{16}/);
  assert.ok((await anas.getByRole('button', { name: 'Log in' }).boundingBox()).y > (await refusal.boundingBox()).y, 'it covers nothing');

  await anas.getByLabel('Username').fill('ana');
  await anas.getByLabel('Password').fill('password of ana');
  await anas.getByRole('button', { name: 'Log in' }).click();
  await anas.getByRole('searchbox', { name: 'Search the network' }).waitFor();
  assert.equal(await anas.locator('.who').textContent(), 'ana');
});

part('dropped files and folders are sent, hashed and listed; names are text', async () => {
  const outside = path.join(network.folder, 'desk');
  await noise(outside, 'films/harbour.bin', SLOW_MIB);
  await tone(outside, 'films/tone.wav', 140);
  const evil = await put(outside, EVIL, 'harmless');
  await anas.keyboard.press('Escape');
  await go(anas, 'My files');
  await anas.getByText('You share nothing yet').waitFor();
  await drop(anas, [path.join(outside, 'films'), evil]);
  for (const name of ['harbour.bin', 'tone.wav', EVIL]) await row(anas, name).waitFor();
  assert.equal(await row(anas, EVIL).locator('.name').textContent(), EVIL);
  assert.equal(await row(anas, 'harbour.bin').locator('.name').textContent(), 'films/harbour.bin');
  assert.equal(await anas.locator('main img').count(), 0);
  await anas.getByText(/^3 files, 4\d\.\d MiB$/).waitFor();
  const sent = await readFile(path.join(ana.shared, 'films/harbour.bin'));
  assert.ok(sent.equals(await readFile(path.join(outside, 'films/harbour.bin'))));
  // It is hashed: the page knows it by what b3sum prints.
  const address = await row(anas, 'harbour.bin').locator('a.row-title').getAttribute('href');
  const printed = execFileSync('b3sum', [path.join(outside, 'films/harbour.bin')], { encoding: 'utf8' });
  assert.equal(address.split('/')[2].split('?')[0], printed.split(' ')[0]);
});

part('a file is kept for some people, and withdrawn and taken back', async () => {
  await row(anas, EVIL).getByRole('button', { name: 'Everybody' }).click();
  await anas.getByLabel('Only these people').check();
  await anas.getByLabel('Their usernames').fill('beto');
  await anas.getByRole('button', { name: 'Save' }).click();
  await row(anas, EVIL).getByRole('button', { name: 'beto' }).waitFor();
  await row(anas, EVIL).getByRole('button', { name: 'Stop sharing' }).click();
  await row(anas, EVIL).waitFor({ state: 'detached' });
  await anas.getByRole('button', { name: 'Undo' }).click();
  await row(anas, EVIL).getByRole('button', { name: 'beto' }).waitFor();
});

part('another peer finds it as it is typed', async () => {
  await betos.goto('/');
  await until('the directory knows all three', async () => (await beto.ask('GET', '/v1/search')).items.length === 3);
  const field = betos.getByRole('searchbox', { name: 'Search the network' });
  await field.pressSequentially('onerror');
  await until('it alone is found', async () => (await betos.locator('.rows > li').count()) === 1);
  assert.equal(await row(betos, EVIL).locator('.name').textContent(), EVIL);
  assert.equal(await betos.locator('main img').count(), 0);
  await field.fill('harb');
  await row(betos, 'harbour.bin').waitFor();
  assert.match(await row(betos, 'harbour.bin').textContent(), /24\.0 MiB.*1 holder · 1 online/);
  assert.equal(new URL(betos.url()).hash, '#/search?q=harb');
  await field.fill('nothing is called so');
  await betos.getByRole('heading', { name: 'Nothing found' }).waitFor();
  // Whose it is need not fetch it.
  await go(anas, 'Search');
  await row(anas, 'harbour.bin').getByRole('link', { name: 'Here' }).click();
  await anas.getByRole('heading', { name: 'harbour.bin' }).waitFor();
  await anas.getByRole('main').getByRole('link', { name: 'Here' }).waitFor();
  assert.equal(await anas.getByRole('button', { name: /^Fetch/ }).count(), 0);
  await go(anas, 'My files');
});

part('a fetch fills its bar, stands still while paused, and ends with the right bytes', async () => {
  await betos.getByRole('searchbox', { name: 'Search the network' }).fill('harbour');
  await row(betos, 'harbour.bin').getByRole('button', { name: 'Fetch' }).click();
  await row(betos, 'harbour.bin').locator('progress').waitFor();
  await go(betos, 'Transfers');
  const one = row(betos, 'harbour.bin');
  const bar = one.locator('progress');
  const value = () => bar.evaluate((element) => element.value);
  await until('the bar moves', async () => (await value()) > 5);
  await one.getByRole('button', { name: 'Details' }).click();
  await one.getByText(/of 24 pieces are here/).waitFor();
  assert.match(await one.locator('table').textContent(), /ana\s*direct/);
  const drawn = () => one.locator('canvas').evaluate((canvas) => canvas.getContext('2d').getImageData(0, 7, canvas.width, 1).data.some((part) => part > 0));
  await until('the strip shows pieces', drawn);

  await one.getByRole('button', { name: 'Pause' }).click();
  await one.getByText('paused', { exact: true }).waitFor();
  assert.match(await betos.evaluate(() => document.activeElement.getAttribute('aria-label')), /^Resume/, 'the keyboard stays in place');
  const still = await verified('films/harbour.bin');
  assert.ok(still > 0 && still < SLOW_MIB << 20, `paused in the middle: ${still}`);
  await betos.reload();
  await one.getByText('paused', { exact: true }).waitFor();
  assert.equal(await verified('films/harbour.bin'), still);

  await one.getByRole('button', { name: 'Resume' }).click();
  const seen = [];
  await until('the bar is full', async () => {
    if (await bar.isVisible()) seen.push(await value());
    return one.locator('.state-mark').and(betos.locator('[data-state="done"] *')).count();
  });
  assert.equal(await value(), 100);
  assert.ok(new Set(seen).size > 3 && seen.every((now, at) => at === 0 || now >= seen[at - 1]), `the bar grows: ${seen}`);
  const fetched = await readFile(path.join(beto.downloads, 'films/harbour.bin'));
  assert.ok(fetched.equals(await readFile(path.join(ana.shared, 'films/harbour.bin'))));
});

part('sound plays while it is still arriving', async () => {
  await go(betos, 'Search');
  await betos.getByRole('searchbox', { name: 'Search the network' }).fill('tone');
  await until('it alone is found', async () => (await betos.locator('.rows > li').count()) === 1);
  await row(betos, 'tone.wav').getByRole('link', { name: 'Play' }).click();
  const sound = betos.locator('audio');
  await until('it plays', () => sound.evaluate((audio) => audio.currentTime > 0.3 && !audio.paused));
  assert.equal(Math.round(await sound.evaluate((audio) => audio.duration)), 140);
  const { items } = await beto.ask('GET', '/v1/files?q=tone');
  assert.deepEqual(items, [], 'it is not here yet');
  await sound.evaluate((audio) => { audio.currentTime = 130; });
  await until('it plays near its end', () => sound.evaluate((audio) => audio.currentTime > 130.2));
  assert.deepEqual((await beto.ask('GET', '/v1/files?q=tone')).items, [], 'only what is heard is fetched');
});

part('a film that is fetched plays before all of it is here', async () => {
  await film(anas, ana.shared, 'films/crossing.webm', FILM_SECONDS);
  await betos.goto('/#/search?q=crossing');
  await until('it is known', async () => (await beto.ask('GET', '/v1/search?q=crossing')).items.length === 1);
  await betos.reload();
  await row(betos, 'crossing.webm').getByRole('button', { name: 'Fetch' }).click();
  await row(betos, 'crossing.webm').locator('progress').waitFor();
  await row(betos, 'crossing.webm').getByRole('link', { name: 'Play' }).click();
  const picture = betos.locator('video');
  await until('it plays', () => picture.evaluate((video) => video.currentTime > 0.2 && !video.paused));
  const now = (await beto.ask('GET', '/v1/downloads')).items.find(({ name }) => name === 'films/crossing.webm');
  assert.ok(now.state === 'running' && now.verified_bytes < now.size, `it plays at ${now.verified_bytes} of ${now.size}, ${now.state}`);
  const [length, width, error] = await picture.evaluate((video) => [video.duration, video.videoWidth, video.error?.message ?? '']);
  assert.deepEqual([length, width, error], [FILM_SECONDS, 320, '']);
  await betos.getByRole('link', { name: 'Here' }).waitFor();
  await until('it plays on', () => picture.evaluate((video) => video.currentTime > 1));
  const fetched = await readFile(path.join(beto.downloads, 'films/crossing.webm'));
  assert.ok(fetched.equals(await readFile(path.join(ana.shared, 'films/crossing.webm'))));
  await betos.goto('/#/search?q=tone');
});

part('Back leads where one came from, and the keyboard leads everywhere', async () => {
  await row(betos, 'tone.wav').locator('.row-title').click();
  await betos.getByRole('heading', { name: 'Who has it' }).waitFor();
  await betos.goBack();
  await row(betos, 'tone.wav').waitFor();
  assert.equal(await betos.getByRole('searchbox', { name: 'Search the network' }).inputValue(), 'tone');
  await betos.keyboard.press('Escape');
  await betos.locator('main').focus();
  for (const [key, heading] of [['2', 'Transfers'], ['3', 'My files'], ['4', 'Offers'], ['5', 'Peers'], ['6', 'Status']]) {
    await betos.keyboard.press(key);
    await betos.getByRole('heading', { name: heading, level: 1 }).waitFor();
  }
  await betos.keyboard.press('?');
  await betos.getByRole('dialog', { name: 'Keyboard' }).waitFor();
  await betos.keyboard.press('Escape');
  await betos.keyboard.press('/');
  await betos.getByRole('searchbox', { name: 'Search the network' }).waitFor();
  await betos.locator('main').focus();
  await row(betos, EVIL).waitFor();
  await betos.keyboard.press('j');
  await betos.keyboard.press('j');
  assert.equal(await betos.evaluate(() => [...document.querySelectorAll('.rows > li')].findIndex((li) => li.contains(document.activeElement))), 1);
});

part('a file is offered, and accepted', async () => {
  await row(anas, EVIL).getByRole('button', { name: 'Send' }).click();
  const dialog = anas.getByRole('dialog');
  await dialog.getByLabel('Username').fill('beto');
  await dialog.getByRole('button', { name: 'Send' }).click();
  await anas.getByText(`${EVIL} is offered to beto.`).waitFor();
  await betos.getByText(`ana offers you ${EVIL}.`).waitFor();
  await betos.getByRole('navigation').getByRole('link', { name: 'Offers 1 to be answered' }).waitFor();
  await betos.getByRole('button', { name: 'Look' }).click();
  assert.equal(await row(betos, EVIL).locator('.name').textContent(), EVIL);
  await row(betos, EVIL).getByRole('button', { name: 'Accept' }).click();
  await row(betos, EVIL).getByRole('link', { name: 'Here' }).waitFor();
  await betos.getByRole('navigation').getByRole('link', { name: 'Offers', exact: true }).waitFor();
  assert.equal(await readFile(path.join(beto.downloads, EVIL), 'utf8'), 'harmless');
  await go(anas, 'Offers');
  await anas.getByLabel('From you').check();
  await row(anas, EVIL).getByText('to beto').waitFor();
  await go(anas, 'My files');
});

part('a name is text wherever it stands', async () => {
  const ends = (text) => assert.ok(text.includes(EVIL), `${EVIL} in: ${text}`);
  const { items } = await beto.ask('GET', '/v1/peers');
  const { items: [{ content_id: id, name, size }] } = await beto.ask('GET', '/v1/search?q=onerror');
  const content = `content/${id}?${new URLSearchParams({ name, size, type: 'text/plain', show: 'yes' })}`;
  for (const view of ['search?q=onerror', 'transfers', 'offers', `peer/${items.find(({ username }) => username === 'ana').peer_id}`, content]) {
    await betos.goto(`/#/${view}`);
    await betos.locator('main .name', { hasText: EVIL }).first().waitFor();
    assert.equal(await betos.locator('main img, dialog img, .toasts img').count(), 0, view);
  }
  await betos.getByText('harmless', { exact: true }).waitFor();
  ends(await betos.title());
  await betos.goto(`/#/search?q=${encodeURIComponent(EVIL)}`);
  await until('the title says it', async () => (await betos.title()).startsWith(EVIL));
  await go(anas, 'My files');
  await row(anas, EVIL).getByRole('button', { name: 'Send' }).click();
  ends(await anas.getByRole('dialog').textContent());
  await anas.keyboard.press('Escape');
  await row(anas, EVIL).getByRole('button', { name: 'Stop sharing' }).click();
  ends(await anas.locator('.toast', { hasText: 'is no longer shared' }).textContent());
  ends(await anas.locator('#live').textContent());
  for (const page of [anas, betos]) assert.equal(await page.locator('main img, dialog img, .toasts img').count(), 0);
});

part('a group is made, a file is for it, and who leaves it finds the file no more', async () => {
  await go(anas, 'Peers');
  await anas.getByRole('radio', { name: 'Groups' }).click();
  await anas.getByRole('heading', { name: 'You are in no group' }).waitFor();
  await anas.getByRole('button', { name: 'New group' }).click();
  const dialog = anas.getByRole('dialog');
  await dialog.getByLabel('Name').fill('lab');
  await dialog.getByRole('button', { name: 'Create' }).click();
  await row(anas, '@lab').getByText('ana (you)').waitFor();
  await row(anas, '@lab').getByRole('button', { name: 'Add somebody' }).click();
  await dialog.getByLabel('Username').fill('beto');
  await dialog.getByRole('button', { name: 'Add' }).click();
  await row(anas, '@lab').getByRole('button', { name: 'Take beto out' }).waitFor();
  await betos.goto('/#/peers?show=groups');
  await row(betos, '@lab').getByText('beto').waitFor();
  assert.equal(await row(betos, '@lab').getByRole('button').count(), 0, 'only its owner changes it');

  await put(ana.shared, 'plans.txt', 'for the lab');
  await go(anas, 'My files');
  await row(anas, 'plans.txt').getByRole('button', { name: 'Everybody' }).click();
  await dialog.getByRole('button', { name: '@lab', exact: true }).click();
  await dialog.getByRole('button', { name: 'Save' }).click();
  await row(anas, 'plans.txt').getByRole('button', { name: '@lab' }).waitFor();
  const found = async () => (await beto.ask('GET', '/v1/search?q=plans')).items.length;
  await until('who is in it finds it', async () => (await found()) === 1);
  await anas.goto('/#/peers?show=groups');
  await row(anas, '@lab').getByRole('button', { name: 'Take beto out' }).click();
  await until('who is out of it does not', async () => (await found()) === 0);
  await row(anas, '@lab').getByRole('button', { name: 'Delete @lab' }).click();
  await dialog.getByRole('button', { name: 'Delete' }).click();
  await anas.getByRole('heading', { name: 'You are in no group' }).waitFor();
});

part('a session elsewhere is ended, and the password changed', async () => {
  const laptop = await network.peer('laptop', { PEER_USERNAME: 'ana', PEER_PASSWORD: 'password of ana' });
  await go(anas, 'Status');
  await anas.getByRole('link', { name: 'Account' }).click();
  await row(anas, 'This peer').waitFor();
  await anas.getByRole('button', { name: /^End the session/ }).click();
  const dialog = anas.getByRole('dialog');
  await dialog.getByRole('button', { name: 'End it' }).click();
  await anas.getByText('The session is ended.').waitFor();
  await until('it is logged out there', async () => !(await laptop.ask('GET', '/v1/status')).directory.connected);
  await laptop.stop();

  const change = async (now, next, again) => {
    await dialog.getByLabel('The password until now').fill(now);
    await dialog.getByLabel('The new one, at least').fill(next);
    await dialog.getByLabel('The new one again').fill(again);
    await dialog.getByRole('button', { name: 'Change' }).click();
  };
  await anas.getByRole('button', { name: 'Change the password' }).click();
  await change('password of ana', 'another password', 'yet another one');
  await dialog.getByText('The two new ones differ.').waitFor();
  anas.expect('403');
  anas.expect('401');
  await change('not her password', 'another password', 'another password');
  await dialog.getByText(/Request id/).waitFor();
  await change('password of ana', 'another password', 'another password');
  await anas.getByText('The password is changed.').waitFor();
});

part('what is being hashed is shown while it is', async () => {
  await go(anas, 'My files');
  const large = await put(ana.shared, 'large.bin', 'the rest of it is a hole');
  await truncate(large, 1024 ** 3);
  await anas.getByRole('region', { name: 'Hashing' }).getByText(/^Hashing 1 more file, [\d.]+ [GM]iB to go/).waitFor();
  await rm(large);
  await anas.getByRole('region', { name: 'Hashing' }).waitFor({ state: 'hidden' });
});

part('what is refused says why, and under which request id', async () => {
  await anas.getByRole('button', { name: 'Share a path of this machine' }).click();
  const dialog = anas.getByRole('dialog');
  await dialog.getByRole('textbox').fill('/etc/hostname');
  anas.expect('403');
  await dialog.getByRole('button', { name: 'Share' }).click();
  assert.match(await dialog.getByRole('alert').textContent(), /Not shared\..+Request id [0-9a-f]{16}/);
  await anas.keyboard.press('Escape');
  await dialog.waitFor({ state: 'detached' });
});

part('a peer that has gone is said, and the page goes on when it is back', async () => {
  await go(anas, 'Status');
  anas.expect('ERR_');
  await ana.stop();
  const alert = anas.getByRole('alert').filter({ hasText: 'The peer does not answer' });
  await alert.waitFor();
  ana = await ana.again();
  await alert.waitFor({ state: 'hidden' });
  // It was started without a name and password, and has said goodbye when it was stopped.
  await anas.getByRole('heading', { name: 'Log in' }).waitFor();
});
