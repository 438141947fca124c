/**
 * A drill as a picture: what each request took, against when it was sent, with the marks of what
 * happened. Two plots on one width; the lower one has all of the time, the upper one the part around
 * the failover:
 *
 *        ①  ②③    ④⑤            the marks, drawn apart where they stand close
 *   1 s  ┆  ┆┆    ┆┆
 *  10 ms ┆  ┆┆  ··┆┆             a dot: one request (log scale)
 *   1 ms ┆··┆┆    ┆┆······
 *        └────────────────▶ ms after the fault
 *        [──────────]────────────────────────────────▶
 *
 * Colours are classes of the page's style sheet, so that it follows light and dark.
 */
import type { Mark, Timeline } from '../timeline';
import { duration, escapeHtml, place } from './html-text';

const WIDTH = 480;
const HEIGHT = 296;
const LEFT = 54;
const RIGHT = 468;
const FLAG_Y = 13;
const FLAG_RADIUS = 9;
const FLAG_GAP = 21;
const TOP = 40;
const BOTTOM = 196;
const OVERVIEW_TOP = 230;
const OVERVIEW_BOTTOM = 268;
const LATENCY_MS_MIN = 0.1;
const LATENCY_MS_MAX = 1000;
/** The upper plot ends so much later than the first answer, in parts of what came before it. */
const AFTERWARDS = 1.6;
const CLOSE_MS_MIN = 12;

interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

/** One SVG element, and nothing that it needs from elsewhere but the classes of the style sheet. */
export function timelineSvg(timeline: Timeline, title: string): string {
  const whole = wholeSpan(timeline);
  const close = closeSpan(timeline, whole);
  const label = `${title}. ${timeline.marks
    .map(({ atMs, text }) => `${duration(atMs)}: ${text}`)
    .join('; ')}.`;
  return [
    `<svg class="timeline" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" ` +
      `aria-label="${escapeHtml(label)}">`,
    silence(timeline, close),
    latencyGrid(),
    timeTicks(close, BOTTOM),
    dots(timeline, close, TOP, BOTTOM),
    flags(timeline.marks, close),
    overview(timeline, whole, close),
    '</svg>',
  ].join('');
}

function wholeSpan({ requests, marks }: Timeline): Span {
  const times = [...requests.map(([atMs]) => atMs), ...marks.map(({ atMs }) => atMs)];
  const fromMs = times.reduce((least, one) => Math.min(least, one), -1);
  const toMs = times.reduce((most, one) => Math.max(most, one), 1);
  return { fromMs, toMs: toMs + 0.02 * (toMs - fromMs) };
}

/** What the failover itself took, and some time before and after. */
function closeSpan({ marks }: Timeline, whole: Span): Span {
  const last = marks.findLast(({ kind }) => kind === 'answers' || kind === 'runs');
  if (last === undefined) return whole;
  const length = Math.max(last.atMs, CLOSE_MS_MIN);
  return {
    fromMs: Math.max(whole.fromMs, -0.3 * length),
    toMs: Math.min(whole.toMs, AFTERWARDS * length),
  };
}

function across({ fromMs, toMs }: Span, atMs: number): number {
  return LEFT + ((atMs - fromMs) / (toMs - fromMs)) * (RIGHT - LEFT);
}

function height(latencyMs: number, top: number, bottom: number): number {
  const bounded = Math.min(LATENCY_MS_MAX, Math.max(LATENCY_MS_MIN, latencyMs));
  const share = Math.log(bounded / LATENCY_MS_MIN) / Math.log(LATENCY_MS_MAX / LATENCY_MS_MIN);
  return bottom - share * (bottom - top);
}

/** From the fault to the first new answer. */
function silence({ marks }: Timeline, close: Span): string {
  const answers = marks.find(({ kind }) => kind === 'answers');
  if (answers === undefined || answers.atMs <= 0) return '';
  const from = across(close, 0);
  const to = across(close, answers.atMs);
  const middle = place((from + to) / 2);
  return (
    `<rect class="silence" x="${place(from)}" y="${TOP}" width="${place(to - from)}" ` +
    `height="${BOTTOM - TOP}"/>` +
    `<text class="took" x="${middle}" y="${BOTTOM - 7}">${duration(answers.atMs)}</text>`
  );
}

function latencyGrid(): string {
  const decades = [
    [0.1, '0.1 ms'],
    [1, '1 ms'],
    [10, '10 ms'],
    [100, '100 ms'],
    [1000, '1 s'],
  ] as const;
  return decades
    .map(([ms, text]) => {
      const y = place(height(ms, TOP, BOTTOM));
      return (
        `<path class="grid" d="M${LEFT} ${y}H${RIGHT}"/>` +
        `<text class="axis end" x="${LEFT - 5}" y="${Number(y) + 3.5}">${text}</text>`
      );
    })
    .join('');
}

/** About six round numbers along an axis. */
function timeTicks(span: Span, y: number): string {
  const step = roundStep((span.toMs - span.fromMs) / 6);
  const ticks: string[] = [];
  for (let ms = Math.ceil(span.fromMs / step) * step; ms <= span.toMs; ms += step) {
    const x = place(across(span, ms));
    const text = ms === 0 ? '0' : duration(ms).replace('.0 ms', ' ms').replace('.00 s', ' s');
    ticks.push(
      `<path class="tick" d="M${x} ${y}v4"/>` +
        `<text class="axis middle" x="${x}" y="${y + 15}">${text}</text>`,
    );
  }
  return `<path class="base" d="M${LEFT} ${y}H${RIGHT}"/>${ticks.join('')}`;
}

function roundStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].find((one) => one * power >= least) ?? 10;
  return step * power;
}

/** One path for all requests; those that fall on the same spot are drawn once. */
function dots({ requests }: Timeline, span: Span, top: number, bottom: number): string {
  const answered = new Set<string>();
  const unanswered = new Set<string>();
  for (const [atMs, latencyMs] of requests) {
    if (atMs < span.fromMs || atMs > span.toMs) continue;
    const x = place(across(span, atMs));
    if (latencyMs < 0) unanswered.add(`M${x} ${top + 3}h0`);
    else answered.add(`M${x} ${place(height(latencyMs, top, bottom))}h0`);
  }
  const path = (name: string, spots: ReadonlySet<string>): string =>
    spots.size === 0 ? '' : `<path class="${name}" d="${[...spots].join('')}"/>`;
  return path('dots', answered) + path('dots unanswered', unanswered);
}

/** Numbered flags above the plot, each with a line down to its moment. */
function flags(marks: readonly Mark[], close: Span): string {
  const shown = marks
    .map((mark, n) => ({ mark, n, x: across(close, mark.atMs) }))
    .filter(({ mark }) => mark.atMs >= close.fromMs && mark.atMs <= close.toMs);
  const at = spread(shown.map(({ x }) => x));
  return shown
    .map(({ mark, n, x }, index) => {
      const flagX = place(at[index] ?? x);
      return (
        `<path class="mark ${mark.kind}" d="M${flagX} ${FLAG_Y + FLAG_RADIUS}L${place(x)} ${TOP}` +
        `V${BOTTOM}"/>` +
        `<circle class="flag ${mark.kind}" cx="${flagX}" cy="${FLAG_Y}" r="${FLAG_RADIUS}"/>` +
        `<text class="number" x="${flagX}" y="${FLAG_Y + 4}">${n + 1}</text>`
      );
    })
    .join('');
}

/** Moves places apart, in their order, until each has room; the last one stays within the plot. */
function spread(places: readonly number[]): number[] {
  const at: number[] = [];
  for (const x of places) at.push(Math.max(x, (at.at(-1) ?? 0) + FLAG_GAP));
  let limit = RIGHT + 2;
  for (let n = at.length - 1; n >= 0; n--) {
    at[n] = Math.min(at[n] ?? 0, limit);
    limit = (at[n] ?? 0) - FLAG_GAP;
  }
  return at;
}

/** All of the time, small, with the upper plot's part of it. */
function overview(timeline: Timeline, whole: Span, close: Span): string {
  const from = across(whole, close.fromMs);
  const to = across(whole, close.toMs);
  const rows = OVERVIEW_BOTTOM - OVERVIEW_TOP;
  const marks = timeline.marks
    .map(({ kind, atMs }) => {
      const x = place(across(whole, atMs));
      return `<path class="mark ${kind}" d="M${x} ${OVERVIEW_TOP}V${OVERVIEW_BOTTOM}"/>`;
    })
    .join('');
  return (
    `<rect class="window" x="${place(from)}" y="${OVERVIEW_TOP}" ` +
    `width="${place(Math.max(2, to - from))}" height="${rows}"/>` +
    timeTicks(whole, OVERVIEW_BOTTOM) +
    marks +
    `<g class="small">${dots(timeline, whole, OVERVIEW_TOP, OVERVIEW_BOTTOM)}</g>`
  );
}
