// Stands between a page and its peer, and makes the newest transfers run, all of them: each is told of four times a
// second, a little further each time. Everything else is the peer's own answer.

import { once } from 'node:events';
import http from 'node:http';

const EVERY_MS = 250;
const RATE = 2 << 20;

/** `{ url, close }` of the proxy. */
export async function crowd(peer, size) {
  const { items } = await (await fetch(`${peer}/v1/downloads?limit=${Math.min(200, size)}`)).json();
  const began = Date.now();
  const running = new Map(items.map((item, at) => [item.id, (now) => {
    const verified = Math.floor(((now - began) / 1000) * RATE + at * 1000) % item.size;
    return {
      ...item, verified_bytes: verified, state: 'running', rate_bps: RATE, error: null, path: null,
      eta_seconds: Math.ceil((item.size - verified) / RATE),
      sources: [{ peer_id: '0'.repeat(32), username: 'carla', path: 'direct', bytes: verified, rate_bps: RATE }],
    };
  }]));

  const server = http.createServer((request, response) => answer(request, response).catch(() => response.destroy()));

  async function answer(request, response) {
    if (request.url === '/v1/events') return events(request, response);
    const headers = { ...request.headers, host: new URL(peer).host };
    if (headers.origin) headers.origin = peer;
    const asked = http.request(peer + request.url, { method: request.method, headers });
    request.pipe(asked);
    const [answered] = await once(asked, 'response');
    if (!/^\/v1\/downloads\?/.test(request.url) || request.url.includes('state=done')) {
      response.writeHead(answered.statusCode, answered.headers);
      return answered.pipe(response);
    }
    const page = JSON.parse(Buffer.concat(await answered.toArray()).toString());
    const all = new URL(request.url, peer).searchParams.get('state') === 'running';
    page.items = all ? [...running.values()].map((now) => now(Date.now())).slice(0, 50) : page.items.map((item) => running.get(item.id)?.(Date.now()) ?? item);
    if (all) page.next_cursor = null;
    response.writeHead(200, { 'content-type': 'application/json' });
    return response.end(JSON.stringify(page));
  }

  function events(request, response) {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    let number = 0;
    const timer = setInterval(() => {
      const now = Date.now();
      const lines = [...running.values()].map((item) => `id: 1-${number += 1}\nevent: download\ndata: ${JSON.stringify({ event: 'download', ...item(now) })}\n\n`);
      response.write(lines.join(''));
    }, EVERY_MS);
    request.on('close', () => clearInterval(timer));
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}
