/** What `make bench ARGS=…` takes for the benchmark of epochs, and the cells that follow from it. */
import { parseArgs } from 'node:util';
import type { Cell } from './rows';

export interface Options {
  readonly machine: 'kvm' | 'simulated';
  /** Length of the runs that a bar is judged by, and of the others. */
  readonly seconds: number;
  readonly shortSeconds: number;
  /** Length of the floor's and the unprotected runs, and of each probe of a search. */
  readonly referenceSeconds: number;
  readonly probeSeconds: number;
  readonly probesMax: number;
  readonly warmUpMs: number;
  /** Protected runs of each cell, and turns of the highest rates. */
  readonly runs: number;
  readonly turns: number;
  readonly cells: readonly Cell[];
  /** Pages whose highest rates are searched; of 8 changed bytes. */
  readonly highestPages: readonly number[];
  readonly withFloor: boolean;
  readonly withLight: boolean;
  /** 0: memory is not watched in a long run. */
  readonly growthSeconds: number;
  /** For both nodes. */
  readonly flags: readonly string[];
  readonly backToBackUs: number | undefined;
  /** File under build/. */
  readonly output: string;
}

export const USAGE = `node dist/bench/epochs.js [flags], or make bench ARGS="flags"

Without flags: some cells of the matrix in short runs, in ten to twelve minutes.

  --full                  every cell, every search; --seconds 20 --runs 5: hours
  --pages 1,16,64         dirty pages an epoch
  --rates 2500,max        epochs a second to ask for; max: back to back
  --changed 8,410,4096    bytes changed in each page
  --seconds N             length of the runs that a bar is judged by (default 6)
  --short-seconds N       length of the others (default 4)
  --reference-seconds N   length of the floor's and the unprotected runs (default 2)
  --warm-up-ms N          before each measured stretch (default 1200)
  --runs N                protected runs of each cell; medians are shown (default 1)
  --flags="..."           more flags for both nodes
  --fixed-interval-us N   one fixed rate in place of those of --rates
  --back-to-back-us N     the interval of "back to back"; default: searched for
  --growth-seconds N      a long run whose memory is watched (default 0: none; 600 with --full)
  --no-highest            without the search for the highest rates
  --no-floor              without runs of the floor
  --no-light              without the run at light load
  --simulated             a simulated machine: shows that the benchmark runs, and nothing else
  --output FILE           under build/ (default bench/epochs.json)
`;

const PAGES = [1, 16, 64, 512, 4096];
const RATES = [1000, 2500, 5000, 10_000, null];
const CHANGED = [8, 410, 4096];
const HIGHEST_PAGES = [1, 16, 64];
/** The pages that the bars are about. */
export const BAR_PAGES: readonly number[] = HIGHEST_PAGES;

/** Changed bytes, pages, rates: what is measured when nothing else is asked for. */
const SUBSET: readonly (readonly [number, number, readonly (number | null)[]])[] = [
  [8, 1, [2500, 10_000, null]],
  [8, 16, [2500, 10_000, null]],
  [8, 64, [1000, 2500, 5000, null]],
  [8, 512, [null]],
  [8, 4096, [null]],
  [410, 64, [2500]],
  [4096, 64, [2500]],
  [4096, 4096, [null]],
];

const FLAGS = {
  full: { type: 'boolean', default: false },
  pages: { type: 'string' },
  rates: { type: 'string' },
  changed: { type: 'string' },
  seconds: { type: 'string' },
  'short-seconds': { type: 'string' },
  'reference-seconds': { type: 'string' },
  'warm-up-ms': { type: 'string', default: '1200' },
  runs: { type: 'string' },
  flags: { type: 'string', default: '' },
  'fixed-interval-us': { type: 'string' },
  'back-to-back-us': { type: 'string' },
  'growth-seconds': { type: 'string' },
  'no-highest': { type: 'boolean', default: false },
  'no-floor': { type: 'boolean', default: false },
  'no-light': { type: 'boolean', default: false },
  simulated: { type: 'boolean', default: false },
  output: { type: 'string', default: 'bench/epochs.json' },
  help: { type: 'boolean', default: false },
} as const;

/** undefined: the usage was asked for. Throws with a sentence when a flag makes no sense. */
export function readOptions(args: readonly string[]): Options | undefined {
  const { values } = parseArgs({ args: [...args], options: FLAGS });
  if (values.help) return undefined;
  const { full, simulated } = values;
  const number = (name: string, text: string, min: number, max: number): number => {
    const value = Number(text);
    if (text !== '' && value >= min && value <= max) return value;
    throw new Error(`--${name} is "${text}"; it must be a number from ${min} to ${max}.`);
  };
  const numbers = (name: string, text: string, min: number, max: number): number[] =>
    text.split(',').map((one) => number(name, one, min, max));
  const optional = (name: 'back-to-back-us' | 'fixed-interval-us'): number | undefined => {
    const text = values[name];
    return text === undefined ? undefined : number(name, text, 20, 1e6);
  };
  const pages =
    values.pages === undefined ? PAGES : numbers('pages', values.pages, 1, PAGES[4] ?? 1);
  const fixed = optional('fixed-interval-us');
  const asked =
    values.rates === undefined
      ? undefined
      : values.rates
          .split(',')
          .map((text) => (text === 'max' ? null : number('rates', text, 1, 50_000)));
  const rates = fixed === undefined ? asked : [1e6 / fixed, null];
  const changed =
    values.changed === undefined ? undefined : numbers('changed', values.changed, 1, 4096);
  const whole = full || rates !== undefined || changed !== undefined;
  const cells = whole
    ? product(changed ?? (full ? CHANGED : [8]), pages, rates ?? RATES)
    : SUBSET.filter(([, n]) => pages.includes(n)).flatMap(([bytes, n, some]) =>
        product([bytes], [n], some),
      );
  const seconds = number('seconds', values.seconds ?? (full ? '20' : '6'), 1, 3600);
  return {
    machine: simulated ? 'simulated' : 'kvm',
    seconds,
    shortSeconds: number('short-seconds', values['short-seconds'] ?? (full ? '20' : '4'), 1, 3600),
    referenceSeconds: number(
      'reference-seconds',
      values['reference-seconds'] ?? (full ? '10' : '2'),
      0.5,
      3600,
    ),
    probeSeconds: full ? 3 : 1.5,
    probesMax: full ? 20 : 8,
    warmUpMs: number('warm-up-ms', values['warm-up-ms'], 100, 60_000),
    runs: number('runs', values.runs ?? (full ? '5' : '1'), 1, 100),
    turns: number('runs', values.runs ?? (full ? '5' : '2'), 1, 100),
    cells,
    highestPages:
      values['no-highest'] || simulated ? [] : HIGHEST_PAGES.filter((n) => pages.includes(n)),
    withFloor: !values['no-floor'] && !simulated,
    withLight: !values['no-light'],
    growthSeconds: number(
      'growth-seconds',
      values['growth-seconds'] ?? (full ? '600' : '0'),
      0,
      86_400,
    ),
    flags: values.flags.split(' ').filter((flag) => flag !== ''),
    backToBackUs: optional('back-to-back-us'),
    output: values.output,
  };
}

/** In an order in which neighbours share their unprotected runs. */
function product(
  changed: readonly number[],
  pages: readonly number[],
  rates: readonly (number | null)[],
): Cell[] {
  return changed.flatMap((changedBytes) =>
    pages.flatMap((dirtyPages) =>
      rates.map((targetEpochsPerSecond) => ({ dirtyPages, changedBytes, targetEpochsPerSecond })),
    ),
  );
}
