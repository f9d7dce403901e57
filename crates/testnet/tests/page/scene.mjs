// A network with something going on in it, as people have it: several peers, one behind the relay, one that has gone,
// transfers in every state, offers in both directions. For looking at the page, and for its pictures.

import { truncate } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { Network } from './network.mjs';
import { put } from './samples.mjs';
import { until } from './wait.mjs';

const MIB = 1 << 20;

/** What each has, with sizes in MiB. */
const SHARES = {
  ana: {
    'field recordings/2026-03 harbour, night.wav': 46.2,
    'field recordings/2026-05 market hall.wav': 61.7,
    'maps/Reykjavík 1:25000 – contour lines.gpkg': 38.4,
    'papers/2026/results.tar': 128,
    'papers/2026/draft, with comments.pdf': 2.3,
    'films/The crossing (director\u2019s cut).webm': 96.5,
    'readme.md': 0.01,
    'photos/summer/IMG_2041.jpg': 4.2,
    'photos/summer/IMG_2042.jpg': 3.9,
    'a folder/within a folder/within another one/a file whose name somebody made far longer than any list has room for, because it says all that there is to say about it (final, revised, 2).docx': 1.4,
  },
  carla: {
    'models/segmentation-large.safetensors': 147,
    'papers/2026/results.tar': 128,
    'papers/bibliography.bib': 0.3,
  },
  dora: {
    'backups/laptop-2026-11-21.tar.zst': 88,
    'papers/2026/results.tar': 128,
  },
  elias: {
    'lectures/07 – hash trees.webm': 72,
    'lectures/08 – congestion.webm': 75,
    'notes \u05e2\u05d1\u05e8\u05d9\u05ea.txt': 0.02,
    '<img src=x onerror=alert(1)>.txt': 0.01,
  },
  beto: {
    'slides/barter.pdf': 3.1,
    'slides/barter.key': 9.6,
    'talk, recorded.mp3': 12.4,
  },
};

/** Large files are holes but for their first bytes, the same for the same name. */
async function fill(folder, shares, seeds) {
  for (const [name, mib] of Object.entries(shares)) {
    if (!seeds.has(name)) seeds.set(name, randomBytes(64 << 10));
    const file = await put(folder, name.replace(/:/g, '.'), seeds.get(name).subarray(0, Math.min(64 << 10, mib * MIB)));
    await truncate(file, Math.round(mib * MIB));
  }
}

/** Starts it; the page to look at is beto's. */
export async function stage() {
  const seeds = new Map();
  const first = new Network();
  const amqp = await first.broker();
  const network = await Network.start({ DIRECTORY_AMQP_URL: amqp });
  const peers = {};
  for (const name of Object.keys(SHARES)) {
    const more = {
      beto: { PEER_DOWNLOAD_LIMIT: '5MiB' },
      carla: { PSERVER_LISTEN: 'off' },
    }[name] ?? {};
    await fill(network.shareOf(name), SHARES[name], seeds);
    peers[name] = await network.peer(name, { PEER_AMQP_URL: amqp, ...more });
  }
  const { ana, beto, dora } = peers;
  const names = new Set(Object.values(SHARES).flatMap((shares) => Object.keys(shares)));
  const found = async (q) => (await beto.ask('GET', `/v1/search?limit=200&q=${encodeURIComponent(q)}`)).items;
  await until('all files are known', async () => (await found('')).length === names.size);
  await until('results.tar has three holders', async () => (await found('results'))[0].holders === 3);
  const id = async (q) => (await found(q))[0].content_id;
  const fetch = async (q) => beto.ask('POST', '/v1/downloads', { content_id: await id(q) });
  for (const q of ['readme', 'IMG_2041', 'onerror', 'draft']) {
    const { id: started } = await fetch(q);
    await until(`${q} is here`, async () => (await beto.ask('GET', `/v1/downloads/${started}`)).state === 'done');
  }
  await dora.stop();
  await fetch('laptop');
  const { id: paused } = await fetch('congestion');
  await until('some of it is here', async () => (await beto.ask('GET', `/v1/downloads/${paused}`)).verified_bytes > 2 * MIB);
  await beto.ask('POST', `/v1/downloads/${paused}/pause`);
  for (const q of ['crossing', 'segmentation', 'results', 'harbour']) await fetch(q);
  const offer = (from, what, to) => from.ask('POST', '/v1/offers', { content_id: what, to });
  await offer(ana, await id('market'), 'beto');
  await offer(peers.elias, await id('onerror'), 'beto');
  await offer(peers.elias, await id('hash trees'), 'beto');
  await offer(beto, await id('slides key'), 'ana');
  await offer(beto, await id('talk recorded'), 'dora');
  const { items } = await beto.ask('GET', '/v1/files?q=pdf');
  const slides = items.find(({ name }) => name.includes('slides'));
  await beto.ask('PATCH', `/v1/files/${slides.content_id}`, { audience: ['ana', 'carla', 'elias'] });
  return { network, peers, async stop() { await network.stop(); await first.stop(); } };
}
