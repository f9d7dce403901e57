// A network of the real programs on this machine: one directory, and peers, each with folders of its own.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';
import { until } from './wait.mjs';

const ROOT = fileURLToPath(new URL('../../../..', import.meta.url));
const PROGRAMS = process.env.TRUEQUE_PROGRAMS ?? path.join(process.env.CARGO_TARGET_DIR ?? path.join(ROOT, 'target'), 'debug');
/** A broker takes its time, more so where others compile beside it. */
const START_MS = 60_000;
const STOP_MS = 15_000;

export class Network {
  #programs = [];
  folder = mkdtempSync(path.join(tmpdir(), 'trueque-page-'));

  /** `more` are further settings of the directory. */
  static async start(more = {}) {
    const network = new Network();
    const settings = { DIRECTORY_LISTEN: '127.0.0.1:0', DIRECTORY_DATA_DIR: path.join(network.folder, 'directory'), ...more };
    const program = await network.#start('directory', settings, 'directory listening on ');
    network.url = program.said;
    return network;
  }

  /** A RabbitMQ: the one that all tests share, where there is one, else one of its own. */
  async broker() {
    const shared = process.env.TRUEQUE_TEST_AMQP;
    if (shared) return shared;
    return (await this.#start('testnet-broker', { HOME: this.folder }, 'amqp://')).line;
  }

  /** The folder that a peer will share. */
  shareOf(name) {
    return path.join(this.folder, name, 'share');
  }

  /** Starts a peer, logged in as `name` unless `more` says otherwise; files may lie in its share folder before. */
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
    const program = await this.#start('peer', settings, 'pclient listening on ');
    const peer = {
      name,
      url: program.said,
      pid: program.pid,
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

  /** Starts a program and waits for the line that it prints when it listens: what stands in it behind `prefix`. */
  async #start(name, settings, prefix) {
    const env = { PATH: process.env.PATH, RUST_LOG: 'warn', ...settings };
    // The broker goes when its input closes, also when this process is killed.
    const child = spawn(path.join(PROGRAMS, name), { env, cwd: this.folder, stdio: ['pipe', 'pipe', 'inherit'] });
    const ended = new Promise((resolve) => { child.once('exit', resolve); });
    const stop = async (signal = 'SIGTERM') => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill(signal);
      const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
      await ended;
      clearTimeout(late);
    };
    this.#programs.push({ stop });
    const listens = (async () => {
      for await (const line of readline.createInterface({ input: child.stdout })) {
        if (!line.startsWith(prefix)) continue;
        child.stdout.resume();
        return line;
      }
      throw new Error(`${name} has ended before it listened`);
    })();
    const late = once(AbortSignal.timeout(START_MS), 'abort').then(() => { throw new Error(`${name} does not start`); });
    const line = await Promise.race([listens, late]);
    return { line, said: line.slice(prefix.length), pid: child.pid, stop };
  }
}
