// A film for the tests, made in the browser that will play it: frames of noise that are encoded there (WebCodecs), and
// put one after the other into a WebM file here. It grows as large as it is asked to be, so that a throttled peer cannot
// have all of it when it begins to play.

import { put } from './samples.mjs';

const [WIDTH, HEIGHT] = [320, 240];
const FRAMES_A_SECOND = 5;
/** So many are encoded, and then shown over and over. */
const DIFFERENT = 10;

/** A film of so many seconds, about half a MiB each. */
export async function film(page, folder, name, seconds) {
  const frames = (await page.evaluate(encode, { WIDTH, HEIGHT, DIFFERENT })).map((text) => Buffer.from(text, 'base64'));
  const clusters = Array.from({ length: seconds }, (_, second) => cluster(second, frames));
  return put(folder, name, webm(clusters));
}

/** Runs in the page: key frames of noise, each as base64. */
async function encode({ WIDTH, HEIGHT, DIFFERENT }) {
  const frames = [];
  const encoder = new VideoEncoder({
    output(chunk) {
      const bytes = new Uint8Array(chunk.byteLength);
      chunk.copyTo(bytes);
      frames.push(btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join('')));
    },
    error(problem) { throw problem; },
  });
  encoder.configure({ codec: 'vp8', width: WIDTH, height: HEIGHT, bitrate: 20_000_000, framerate: 5 });
  for (let n = 0; n < DIFFERENT; n += 1) {
    const pixels = new Uint8Array(WIDTH * HEIGHT * 4);
    for (let at = 0; at < pixels.length; at += 65_536) crypto.getRandomValues(pixels.subarray(at, at + 65_536));
    const frame = new VideoFrame(pixels, { format: 'RGBX', codedWidth: WIDTH, codedHeight: HEIGHT, timestamp: n * 200_000 });
    encoder.encode(frame, { keyFrame: true });
    frame.close();
  }
  await encoder.flush();
  encoder.close();
  return frames;
}

/** A second of the film. */
function cluster(second, frames) {
  const blocks = Array.from({ length: FRAMES_A_SECOND }, (_, at) => {
    const frame = frames[(second * FRAMES_A_SECOND + at) % frames.length];
    const head = Buffer.from([0x81, 0, 0, 0x80]); // track 1, a key frame
    head.writeInt16BE((at * 1000) / FRAMES_A_SECOND, 1);
    return element('a3', head, frame);
  });
  return element('1f43b675', element('e7', number(second * 1000)), ...blocks);
}

/** The file: what it is, an index of its seconds, and the seconds. */
function webm(clusters) {
  const head = element('1a45dfa3', element('4286', number(1)), element('42f7', number(1)), element('42f2', number(4)),
    element('42f3', number(8)), element('4282', Buffer.from('webm')), element('4287', number(2)), element('4285', number(2)));
  const length = Buffer.alloc(8);
  length.writeDoubleBE(clusters.length * 1000);
  const info = element('1549a966', element('2ad7b1', number(1_000_000)), element('4489', length), element('4d80', Buffer.from('test')), element('5741', Buffer.from('test')));
  const picture = element('e0', element('b0', number(WIDTH)), element('ba', number(HEIGHT)));
  const tracks = element('1654ae6b', element('ae', element('d7', number(1)), element('73c5', number(1)), element('83', number(1)), element('86', Buffer.from('V_VP8')), picture));
  const index = (start) => {
    let at = start;
    return element('1c53bb6b', ...clusters.map((one, second) => {
      const point = element('bb', element('b3', number(second * 1000)), element('b7', element('f7', number(1)), element('f1', number(at))));
      at += one.length;
      return point;
    }));
  };
  // Numbers have one length, so the index has too, whatever it points to.
  const before = info.length + tracks.length;
  return Buffer.concat([head, element('18538067', info, tracks, index(before + index(0).length), ...clusters)]);
}

/** An EBML element: its id, its length in eight bytes, and what is in it. */
function element(id, ...parts) {
  const body = Buffer.concat(parts);
  const length = Buffer.alloc(8);
  length.writeBigUInt64BE(BigInt(body.length) | (1n << 56n));
  return Buffer.concat([Buffer.from(id, 'hex'), length, body]);
}

function number(value) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}
