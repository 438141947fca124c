/**
 * What `ftctl watch` shows, as lines of a screen of any size: pure, so that every size is tested.
 *
 *   romulus  pair web, node a                                            19:20:31
 *   PRIMARY  PROTECTED  generation 3, life 1
 *   runs the guest, protected: …
 *   figures of the last second, a bar while a sync goes on
 *   the newest events, as many as there is room for
 *   q leaves
 *
 * A screen that is too low loses events first, then figures from the end; the state stays.
 */
import { stateSentence } from '../../node/state-words';
import { type Fields, numberIn, textIn } from './fields';
import { peerWords, reason, syncWords } from './status-text';
import {
  bytes,
  count,
  type Look,
  micros,
  render,
  type Style,
  type StyledLine,
  spark,
} from './terminal';

export interface WatchView {
  /** The newest sample; undefined before the first. */
  readonly sample: Fields | undefined;
  /** Epochs a second of the samples so far, oldest first. */
  readonly history: readonly number[];
  /** Oldest first. */
  readonly events: readonly Fields[];
  /** Something to say about the connection to the node; "" while all is well. */
  readonly note: string;
  /** "19:20:31" */
  readonly clock: string;
}

const LABEL_COLUMNS = 15;
const EVENTS_MIN = 3;

/** At most `rows` lines, each at most `columns` characters wide. */
export function watchFrame(view: WatchView, columns: number, rows: number, look: Look): string[] {
  const { sample } = view;
  const top = sample === undefined ? waiting(view) : header(view, sample, columns);
  const figures = sample === undefined ? [] : figureLines(sample, view.history, columns, look);
  const bottom: StyledLine = [['q leaves', 'dim']];
  // The last row is the bottom line's; between the parts stands an empty one.
  const room = rows - top.length - 1;
  const shownFigures = figures.slice(0, Math.max(0, room - EVENTS_MIN - 2));
  const eventRoom = Math.max(0, room - shownFigures.length - 2);
  const events = eventRoom === 0 ? [] : view.events.slice(-eventRoom).map(eventRow);
  const lines = [
    ...top,
    ...(shownFigures.length > 0 ? [[], ...shownFigures] : []),
    ...(events.length > 0 ? [[], ...events] : []),
  ].slice(0, Math.max(0, rows - 1));
  const filled = [...lines, ...Array<StyledLine>(Math.max(0, rows - 1 - lines.length)).fill([])];
  return [...filled, bottom].slice(0, rows).map((line) => render(line, columns, look));
}

/** The same for a reader that is no terminal: one line. */
export function watchLine({ sample, clock, note }: WatchView): string {
  if (sample === undefined) return `${clock} ${note}`;
  const { node, role, state } = sample;
  const parts = [
    `${clock} ${node} ${role} ${state}`,
    `generation ${numberIn(sample, 'generation')}`,
  ];
  parts.push(`${count(numberIn(sample, 'epochsPerSecond'))} epochs/s`);
  if (role === 'primary') {
    parts.push(`pause p99 ${micros(numberIn(sample, 'pauseUsP99'))}`);
    parts.push(`output delay p99 ${micros(numberIn(sample, 'outputDelayUsP99'))}`);
    parts.push(...syncWords(sample, 10));
  }
  if (note !== '') parts.push(note);
  return parts.join(', ');
}

function waiting({ note, clock }: WatchView): StyledLine[] {
  return [
    [
      ['romulus', 'bold'],
      [`  ${clock}`, 'dim'],
    ],
    [[note === '' ? 'waiting for the node' : note, 'warn']],
  ];
}

/** Style of a state: whether the guest would live on. */
function moodOf(sample: Fields): Style {
  if (sample['protected'] === true) return 'good';
  const { state } = sample;
  return state === 'syncing' || state === 'joining' || state === 'starting' ? 'warn' : 'bad';
}

function header(view: WatchView, sample: Fields, columns: number): StyledLine[] {
  const { role, state } = sample;
  const left = `romulus  pair ${textIn(sample, 'pair')}, node ${textIn(sample, 'node')}`;
  const gap = Math.max(2, columns - left.length - view.clock.length);
  const lines: StyledLine[] = [
    [
      [left, 'bold'],
      [`${' '.repeat(gap)}${view.clock}`, 'dim'],
    ],
    [
      [`${String(role).toUpperCase()}  `, 'bold'],
      [String(state).toUpperCase(), moodOf(sample)],
      [`  generation ${count(numberIn(sample, 'generation'))}, life ${numberIn(sample, 'life')}`],
    ],
    [[stateSentence(role, state)]],
  ];
  const why = reason(sample);
  if (why !== '') lines.push([[why, 'dim']]);
  if (view.note !== '') lines.push([[view.note, 'bad']]);
  return lines;
}

function figureLines(
  sample: Fields,
  history: readonly number[],
  columns: number,
  look: Look,
): StyledLine[] {
  const lines: StyledLine[] = [];
  const put = (label: string, text: string, style: Style = 'plain'): void => {
    lines.push([
      [label.padEnd(LABEL_COLUMNS), 'dim'],
      [text, style],
    ]);
  };
  for (const text of syncWords(sample, Math.max(10, columns - 70))) put('sync', text, 'warn');
  if (textIn(sample, 'peer') !== '') put('other side', peerWords(sample));
  const rate = count(numberIn(sample, 'epochsPerSecond')).padEnd(8);
  const sparkColumns = Math.max(0, Math.min(60, columns - LABEL_COLUMNS - 9));
  put('epochs/s', `${rate} ${spark(history, sparkColumns, look.unicode)}`);
  if (sample['role'] === 'primary') primaryFigures(sample, put);
  else standbyFigures(sample, put);
  diskFigures(sample, put);
  put('event loop', `away for ${micros(numberIn(sample, 'eventLoopUsMax'))} at most`);
  return lines;
}

type Put = (label: string, text: string, style?: Style) => void;

function primaryFigures(sample: Fields, put: Put): void {
  const times = (name: string): string =>
    ['P50', 'P99', 'Max']
      .map((part) => `${part.toLowerCase()} ${micros(numberIn(sample, name + part)).padEnd(9)}`)
      .join(' ');
  put('pause', times('pauseUs'));
  put('acknowledged', times('ackUs'));
  put('output delay', times('outputDelayUs'));
  put('dirty pages', `${count(numberIn(sample, 'dirtyPagesPerEpoch'))} an epoch`);
  const wire = bytes(numberIn(sample, 'wireBytesPerSecond'));
  const raw = bytes(numberIn(sample, 'rawBytesPerSecond'));
  put('bandwidth', `${wire}/s sent for ${raw}/s of changed pages`);
  const frames = count(numberIn(sample, 'outboxFrames'));
  const held = bytes(numberIn(sample, 'outboxBytes'));
  put('output held', `${frames} frames, ${held}; ${count(numberIn(sample, 'inFlight'))} in flight`);
  const halted = textIn(sample, 'guestHalted');
  if (halted !== '') put('guest', `stands still: ${halted}`, 'bad');
  faults(sample, put);
}

function standbyFigures(sample: Fields, put: Put): void {
  put('epoch held', count(numberIn(sample, 'epochHeld')));
  put('pages applied', count(numberIn(sample, 'pagesApplied')));
  put('held at most', bytes(numberIn(sample, 'heldBytesMax')));
  faults(sample, put);
}

function faults(sample: Fields, put: Put): void {
  const mismatches = numberIn(sample, 'auditMismatches');
  if (mismatches > 0) put('audit', `${count(mismatches)} pages differed`, 'bad');
}

function diskFigures(sample: Fields, put: Put): void {
  if (sample['diskBacklogBytes'] === undefined) return;
  const backlog = bytes(numberIn(sample, 'diskBacklogBytes'));
  const unlike = count(numberIn(sample, 'diskRegionsMarked'));
  const errors = numberIn(sample, 'diskErrors');
  const words = `${backlog} on the way to the images, ${unlike} regions unlike`;
  put(
    'disks',
    errors === 0 ? words : `${words}, ${count(errors)} ERRORS`,
    errors ? 'bad' : 'plain',
  );
}

const LEVELS: Readonly<Record<string, Style>> = { warn: 'warn', error: 'bad' };

function eventRow(event: Fields): StyledLine {
  const at = textIn(event, 'at').slice(11, 19);
  return [
    [`${at} `, 'dim'],
    [textIn(event, 'text'), LEVELS[textIn(event, 'level')] ?? 'plain'],
  ];
}
