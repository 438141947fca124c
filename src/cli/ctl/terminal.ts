/** How ftctl writes for people: colours where they are wanted, figures, bars, lines of a width. */

/** What a terminal can show. */
export interface Look {
  readonly colour: boolean;
  /** Characters beyond ASCII. */
  readonly unicode: boolean;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** What `stream` can show: no colour without a terminal, with NO_COLOR, or with TERM=dumb. */
export function lookOf(stream: { readonly isTTY?: boolean }, environment: Environment): Look {
  const { NO_COLOR, TERM, LC_ALL, LC_CTYPE, LANG } = environment;
  const noColour = (NO_COLOR !== undefined && NO_COLOR !== '') || TERM === 'dumb';
  const locale = [LC_ALL, LC_CTYPE, LANG].find((name) => name !== undefined && name !== '') ?? '';
  return { colour: stream.isTTY === true && !noColour, unicode: /utf-?8/i.test(locale) };
}

export type Style = 'plain' | 'bold' | 'dim' | 'good' | 'warn' | 'bad';

const CODES: Readonly<Record<Style, string>> = {
  plain: '',
  bold: '\u001b[1m',
  dim: '\u001b[2m',
  good: '\u001b[1;32m',
  warn: '\u001b[1;33m',
  bad: '\u001b[1;31m',
};
const PLAIN = '\u001b[0m';

/** A line in pieces, each with its style. */
export type StyledLine = readonly (readonly [text: string, style?: Style])[];

/** The line as a terminal takes it, at most `columns` characters wide. */
export function render(line: StyledLine, columns: number, look: Look): string {
  let left = columns;
  let text = '';
  for (const [words, style = 'plain'] of line) {
    if (left <= 0) break;
    const shown = cut(look.unicode ? words : asciiOf(words), left);
    left -= [...shown].length;
    text += look.colour && style !== 'plain' ? `${CODES[style]}${shown}${PLAIN}` : shown;
  }
  return text;
}

/** At most `columns` characters, control characters made harmless. */
function cut(text: string, columns: number): string {
  const characters = [...text.replace(/\p{Cc}/gu, '·')];
  return characters.length <= columns ? characters.join('') : characters.slice(0, columns).join('');
}

function asciiOf(text: string): string {
  return text
    .replaceAll('µ', 'u')
    .replaceAll('→', '->')
    .replaceAll('…', '...')
    .replaceAll('’', "'")
    .replace(/[^\x20-\x7e]/gu, '?');
}

/** "[########------]" with `width` characters between the brackets; `done` is 0…1. */
export function bar(done: number, width: number): string {
  const full = Math.floor(Math.min(1, Math.max(0, done)) * width);
  return `[${'#'.repeat(full)}${'-'.repeat(width - full)}]`;
}

/** The newest values as a row of small bars, or of digits 0 to 9, at most `width` of them. */
export function spark(values: readonly number[], width: number, unicode: boolean): string {
  const shown = values.slice(-width);
  const most = Math.max(...shown, 1);
  const steps = unicode ? '▁▂▃▄▅▆▇█' : '0123456789';
  return shown
    .map((value) => steps[Math.min(steps.length - 1, Math.floor((value / most) * steps.length))])
    .join('');
}

/** "1,234" */
export function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** "1.2 MiB" */
export function bytes(value: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let scaled = value;
  while (scaled >= 1024 && unit < units.length - 1) {
    scaled /= 1024;
    unit += 1;
  }
  return `${unit === 0 || scaled >= 100 ? Math.round(scaled) : scaled.toFixed(1)} ${units[unit]}`;
}

/** "85 µs", "1.25 ms", "2.1 s" */
export function micros(us: number): string {
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 1e6) return `${(us / 1000).toFixed(us < 10_000 ? 2 : 1)} ms`;
  return duration(us / 1000);
}

/** "4.2 s", "3 min 20 s", "2 h 5 min" */
export function duration(ms: number): string {
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
