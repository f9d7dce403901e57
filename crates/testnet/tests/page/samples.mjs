// Files for the tests, made here: noise, and a sound that a browser plays.

import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';

const MIB = 1 << 20;
const RATE = 44_100;
const FRAME = 4;

export async function noise(folder, name, mib) {
  return put(folder, name, randomBytes(mib * MIB));
}

export async function put(folder, name, bytes) {
  const file = path.join(folder, name);
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, bytes);
  return file;
}

/** A tone of so many seconds: 16 bits, two channels, 10 MiB a minute. */
export async function tone(folder, name, seconds) {
  const frames = seconds * RATE;
  const wav = Buffer.alloc(44 + frames * FRAME);
  wav.write('RIFF', 0);
  wav.writeUInt32LE(wav.length - 8, 4);
  wav.write('WAVEfmt ', 8);
  wav.writeUInt32LE(16, 16); // the length of what follows
  wav.writeUInt16LE(1, 20); // uncompressed
  wav.writeUInt16LE(2, 22); // channels
  wav.writeUInt32LE(RATE, 24);
  wav.writeUInt32LE(RATE * FRAME, 28);
  wav.writeUInt16LE(FRAME, 32);
  wav.writeUInt16LE(16, 34); // bits
  wav.write('data', 36);
  wav.writeUInt32LE(frames * FRAME, 40);
  // One second, over and over; a number in each, so that no two pieces are alike.
  const second = Buffer.alloc(RATE * FRAME);
  for (let at = 0; at < RATE; at += 1) {
    const value = Math.round(3000 * Math.sin((2 * Math.PI * 440 * at) / RATE));
    second.writeInt16LE(value, at * FRAME);
    second.writeInt16LE(value, at * FRAME + 2);
  }
  for (let n = 0; n < seconds; n += 1) {
    second.copy(wav, 44 + n * second.length);
    wav.writeUInt32LE(n, 44 + n * second.length);
  }
  return put(folder, name, wav);
}
