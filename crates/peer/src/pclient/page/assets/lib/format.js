// Numbers as people read them. Sizes in binary units, as the command line prints them.

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
const WHOLE = new Intl.NumberFormat('en');

export function count(n) {
  return WHOLE.format(n);
}

/** `plural(2, 'holder')` is "2 holders". */
export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

export function size(bytes) {
  if (bytes === null || bytes === undefined) return 'size unknown';
  let unit = 0;
  let value = bytes;
  while (value >= 1023.995 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

export function rate(bytesPerSecond) {
  return `${size(bytesPerSecond)}/s`;
}

/** "12 s", "3 min 20 s", "2 h 5 min", "4 days": the two largest units that say something. */
export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min${s % 60 && s < 600 ? ` ${s % 60} s` : ''}`;
  if (s < 86400) return `${Math.floor(s / 3600)} h${Math.floor((s % 3600) / 60) ? ` ${Math.floor((s % 3600) / 60)} min` : ''}`;
  return plural(Math.floor(s / 86400), 'day');
}

/** "just now", "5 min ago", or the date where it is older than a week. */
export function ago(time, now = Date.now()) {
  const then = Date.parse(time);
  if (Number.isNaN(then)) return '';
  const seconds = (now - then) / 1000;
  if (seconds < 45) return 'just now';
  if (seconds < 7 * 86400) return `${duration(seconds < 3600 ? Math.round(seconds / 60) * 60 : seconds)} ago`;
  return new Date(then).toLocaleDateString('en-GB', { year: 'numeric', month: 'short', day: 'numeric' });
}

const PIECE = 1 << 20;

/** How many pieces so many bytes are. */
export const piecesOf = (bytes) => Math.max(1, Math.ceil(bytes / PIECE));

/** 0 to 100, and 100 only for all of it. */
export function percent(part, whole) {
  if (!whole) return part === whole ? 100 : 0;
  return Math.min(part >= whole ? 100 : 99.9, (part / whole) * 100);
}

export function percentText(part, whole) {
  return `${Math.floor(percent(part, whole))} %`;
}

/** The first and last digits of an id: enough to tell two apart. */
export function shortId(id) {
  return `${id.slice(0, 8)}…${id.slice(-4)}`;
}

const TYPES = {
  video: 'mp4 m4v webm ogv mov mkv',
  audio: 'mp3 wav ogg oga opus flac m4a aac',
  image: 'jpg jpeg png gif webp avif bmp',
  text: 'txt md csv tsv log',
};

/** The media type that a name promises, where nobody has said one: enough to choose how to show a file. */
export function typeOf(name) {
  const ending = name.slice(name.lastIndexOf('.') + 1).toLowerCase();
  const found = Object.entries(TYPES).find(([, endings]) => endings.split(' ').includes(ending));
  return found ? `${found[0]}/${ending}` : null;
}

/** What a file is, in a word, from its media type and its name. */
export function kindOf(mediaType, name = '') {
  const [type, subtype = ''] = (mediaType ?? typeOf(name) ?? '').split('/');
  if (['video', 'audio', 'image'].includes(type)) return subtype === 'svg+xml' ? 'text' : type;
  if (/(^|[-+.])(zip|tar|gzip|xz|zstd|bzip2?|7z|rar)/.test(subtype) || /\.(tar|t?gz|xz|zst|bz2|7z|zip)$/i.test(name)) return 'archive';
  if (type === 'text' || /pdf|json|xml|document|epub/.test(subtype)) return 'text';
  return 'file';
}
