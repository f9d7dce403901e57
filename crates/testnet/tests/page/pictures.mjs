// Makes the pictures of the page in docs/images, from a network with something going on in it.

import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { openBrowser, openPage } from './browser.mjs';
import { stage } from './scene.mjs';

const FOLDER = fileURLToPath(new URL('../../../../docs/images/', import.meta.url));

await mkdir(FOLDER, { recursive: true });
const [scene, browser] = [await stage(), await openBrowser()];
try {
  const { beto } = scene.peers;
  const page = await openPage(browser, beto.url, { width: 1180, height: 760 });
  await page.goto('/#/transfers');
  const row = page.locator('.transfer', { hasText: 'results.tar' });
  await row.getByRole('button', { name: /^Details/ }).click();
  await row.getByText('by relay').waitFor();
  // A good part of it is there, and it takes a while until then.
  await row.getByText(/[3-9]\d of 128 pieces are here/).waitFor({ timeout: 60_000 });
  await page.getByRole('heading', { name: 'Transfers' }).click();
  await page.screenshot({ path: `${FOLDER}transfers.png` });

  const phone = await openPage(browser, beto.url, { theme: 'dark', width: 390, height: 760 });
  await phone.goto('/#/search');
  await phone.getByText('1 by relay').first().waitFor();
  await phone.evaluate(() => document.activeElement.blur());
  await phone.evaluate(() => scrollTo(0, 0));
  await phone.screenshot({ path: `${FOLDER}search-phone.png` });
} finally {
  await browser.close();
  await scene.stop();
}
