// A network of the real programs on this machine: one directory, and peers, each with folders of its own.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';
import { until } from './wait.mjs';

const ROOT = fileURLToPath(new URL('../../../..', import.meta.url));
const PROGRAMS = process.env.TRUEQUE_PROGRAMS ?? path.join(process.env.CARGO_TARGET_DIR ?? path.join(ROOT, 'target'), 'debug');
const START_MS = 20_000;
const STOP_MS = 15_000;

export class Network {
  #programs = [];

  static async start() {
    const network = new Network();
    network.folder = await mkdtemp(path.join(tmpdir(), 'trueque-page-'));
    const settings = { DIRECTORY_LISTEN: '127.0.0.1:0', DIRECTORY_DATA_DIR: path.join(network.folder, 'directory') };
    const program = await network.#start('directory', settings, ['directory listening on ']);
    network.url = program.said[0];
    return network;
  }

  /** Starts a peer, logged in as `name` unless `more` says otherwise. */
  async peer(name, more = {}) {
    const folder = path.join(this.folder, name);
    const inside = (part) => path.join(folder, part);
    await Promise.all(['share', 'downloads'].map((part) => mkdir(inside(part), { recursive: true })));
    const settings = {
      PEER_DIRECTORY: this.url,
      PEER_USERNAME: name,
      PEER_PASSWORD: `password of ${name}`,
      PEER_DATA_DIR: inside('data'),
      PEER_SHARE_DIR: inside('share'),
      PEER_DOWNLOAD_DIR: inside('downloads'),
      PEER_AMQP_URL: 'off',
      PSERVER_LISTEN: '127.0.0.1:0',
      PCLIENT_LISTEN: '127.0.0.1:0',
      ...more,
    };
    const program = await this.#start('peer', settings, ['pclient listening on ']);
    const peer = {
      name,
      url: program.said[0],
      shared: inside('share'),
      downloads: inside('downloads'),
      settings,
      stop: (signal) => program.stop(signal),
      /** The same peer once more, at the same address. */
      again: () => this.peer(name, { ...more, PCLIENT_LISTEN: new URL(peer.url).host }),
      /** Asks its REST API, as a program does. */
      async ask(method, at, body) {
        const headers = { 'content-type': 'application/json' };
        if (settings.PCLIENT_TOKEN) headers.authorization = `Bearer ${settings.PCLIENT_TOKEN}`;
        const answer = await fetch(peer.url + at, { method, headers, body: body && JSON.stringify(body) });
        if (!answer.ok) throw new Error(`${method} ${at}: ${answer.status} ${await answer.text()}`);
        return answer.status === 204 ? null : answer.json();
      },
    };
    if (settings.PEER_USERNAME) {
      await until(`${name} is logged in`, async () => (await peer.ask('GET', '/v1/status')).directory.connected);
    }
    return peer;
  }

  async stop() {
    for (const program of this.#programs.reverse()) await program.stop();
    await rm(this.folder, { recursive: true, force: true });
  }

  /** Starts a program and waits for the lines that it prints when it listens. */
  async #start(name, settings, prefixes) {
    const env = { PATH: process.env.PATH, RUST_LOG: 'warn', ...settings };
    const child = spawn(path.join(PROGRAMS, name), { env, cwd: this.folder, stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = new Promise((resolve) => { child.once('exit', resolve); });
    const stop = async (signal = 'SIGTERM') => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill(signal);
      const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
      await ended;
      clearTimeout(late);
    };
    this.#programs.push({ stop });
    const said = [];
    const lines = readline.createInterface({ input: child.stdout });
    const listens = (async () => {
      for await (const line of lines) {
        const prefix = prefixes.find((one) => line.startsWith(one));
        if (prefix) said.push(line.slice(prefix.length));
        if (said.length === prefixes.length) break;
      }
      child.stdout.resume();
      if (said.length < prefixes.length) throw new Error(`${name} has ended before it listened`);
    })();
    await Promise.race([listens, once(AbortSignal.timeout(START_MS), 'abort').then(() => { throw new Error(`${name} does not start`); })]);
    return { said, stop };
  }
}
