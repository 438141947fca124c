/**
 * How many epochs a second are committed, and what they cost: pause, guest progress, latency, wire.
 *
 *   node dist/bench/epochs.js [--seconds 30] [--short-seconds 10] [--pages 16,64] [--flags "…"]
 *                             [--back-to-back-us N] [--fixed-interval-us 400]
 *
 * Each protected run stands between two unprotected ones of the same guest under the same load, so
 * that what else the host does falls on both. Prints one table; writes build/bench/epochs.json.
 */
import os from 'node:os';
import { parseArgs } from 'node:util';
import { describeSite, figure, table, writeReport } from '../test/support/report';
import { kvmMissing, measure, type Run } from './measure';

const CHANGED_BYTES = 8;
const INCR_PER_SECOND = 200;
const UNPROTECTED_SECONDS = 4;
const FIXED_RATE = 2500;
/**
 * Back to back: the next cut as soon as the guest had the time to dirty its working set again. That
 * takes about 2.5 us a page here (the first write to each page after a cut is a fault) on top of
 * the pause; cutting still sooner gives more epochs with less in them and a guest that stands still.
 */
const BACK_TO_BACK_US = 220;
const BACK_TO_BACK_US_PER_PAGE = 2.5;
const BAR_EPOCHS_PER_SECOND = 2500;
const BAR_PAGES = 16;
const BAR_SECONDS = 30;

interface Options {
  readonly machine: 'kvm' | 'simulated';
  readonly seconds: number;
  readonly shortSeconds: number;
  readonly pages: readonly number[];
  readonly flags: readonly string[];
  readonly fixedIntervalUs: number;
  readonly backToBackUs: number | undefined;
}

interface Row {
  readonly dirtyPages: number;
  readonly targetEpochsPerSecond: number | null;
  readonly seconds: number;
  readonly committedEpochsPerSecond: number;
  readonly committedEpochsPerSecondMin: number;
  readonly dirtyPagesPerEpoch: number;
  readonly pauseUsP50: number;
  readonly pauseUsP99: number;
  readonly guestGapUsP50: number;
  readonly guestGapUsP99: number;
  readonly guestProgressVsUnprotected: number;
  readonly unprotectedProgressSpread: number;
  readonly latencyUsP50: number;
  readonly latencyUsP99: number;
  readonly addedLatencyUsP50: number;
  readonly addedLatencyUsP99: number;
  readonly wireBytesPerDirtyByte: number;
  readonly auditMismatches: number;
  readonly violations: number;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '30' },
      'short-seconds': { type: 'string', default: '10' },
      pages: { type: 'string', default: '16,64' },
      flags: { type: 'string', default: '' },
      'fixed-interval-us': { type: 'string', default: `${1e6 / FIXED_RATE}` },
      'back-to-back-us': { type: 'string' },
      simulated: { type: 'boolean', default: false },
    },
  });
  const number = (name: string, text: string, min: number, max: number): number => {
    const value = Number(text);
    if (value >= min && value <= max) return value;
    throw new Error(`--${name} is "${text}"; it must be a number from ${min} to ${max}.`);
  };
  return {
    machine: values.simulated ? 'simulated' : 'kvm',
    seconds: number('seconds', values.seconds, 3, 3600),
    shortSeconds: number('short-seconds', values['short-seconds'], 3, 3600),
    pages: values.pages.split(',').map((text) => number('pages', text, 1, 4096)),
    flags: values.flags.split(' ').filter((flag) => flag !== ''),
    backToBackUs:
      values['back-to-back-us'] === undefined
        ? undefined
        : number('back-to-back-us', values['back-to-back-us'], 50, 1e6),
    fixedIntervalUs: number('fixed-interval-us', values['fixed-interval-us'], 50, 1e6),
  };
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** The runs of all rows, each protected one between two unprotected ones. */
async function runAll(options: Options): Promise<Row[]> {
  const rows: Row[] = [];
  for (const dirtyPages of options.pages) {
    const common = {
      machine: options.machine,
      dirtyPages,
      changedBytes: CHANGED_BYTES,
      incrPerSecond: INCR_PER_SECOND,
    };
    const unprotected = async (): Promise<Run> => {
      say(`${dirtyPages} pages, unprotected, ${UNPROTECTED_SECONDS} s ...`);
      return measure({ ...common, protect: false, seconds: UNPROTECTED_SECONDS, flags: [] });
    };
    let before = await unprotected();
    for (const target of [null, FIXED_RATE]) {
      const seconds = dirtyPages === BAR_PAGES ? options.seconds : options.shortSeconds;
      const backToBackUs =
        options.backToBackUs ?? Math.round(BACK_TO_BACK_US + BACK_TO_BACK_US_PER_PAGE * dirtyPages);
      const intervalUs = target === null ? backToBackUs : options.fixedIntervalUs;
      say(`${dirtyPages} pages, protected, ${rateName(target)}, ${seconds} s ...`);
      const flags = ['--interval-us', `${intervalUs}`, ...options.flags];
      const run = await measure({ ...common, protect: true, seconds, flags });
      const after = await unprotected();
      rows.push(compare(dirtyPages, target, seconds, run, [before, after]));
      before = after;
    }
  }
  return rows;
}

function rateName(target: number | null): string {
  return target === null ? 'back to back' : `${figure(target)}/s`;
}

function compare(
  dirtyPages: number,
  target: number | null,
  seconds: number,
  run: Run,
  bare: readonly [Run, Run],
): Row {
  const mean = (of: (one: Run) => number): number => (of(bare[0]) + of(bare[1])) / 2;
  const progress = mean((one) => one.progressPerSecond);
  const spread = Math.abs(bare[0].progressPerSecond - bare[1].progressPerSecond);
  return {
    dirtyPages,
    targetEpochsPerSecond: target,
    seconds,
    committedEpochsPerSecond: run.committedEpochsPerSecond,
    committedEpochsPerSecondMin: run.committedEpochsPerSecondMin,
    dirtyPagesPerEpoch: run.dirtyPagesPerEpoch,
    pauseUsP50: run.pauseUsP50,
    pauseUsP99: run.pauseUsP99,
    guestGapUsP50: run.gapUsP50,
    guestGapUsP99: run.gapUsP99,
    guestProgressVsUnprotected: progress > 0 ? run.progressPerSecond / progress : 0,
    unprotectedProgressSpread: progress > 0 ? spread / progress : 0,
    latencyUsP50: run.latencyUsP50,
    latencyUsP99: run.latencyUsP99,
    addedLatencyUsP50: run.latencyUsP50 - mean((one) => one.latencyUsP50),
    addedLatencyUsP99: run.latencyUsP99 - mean((one) => one.latencyUsP99),
    wireBytesPerDirtyByte: run.wireBytesPerDirtyByte,
    auditMismatches: run.auditMismatches,
    violations: run.violations + bare[0].violations + bare[1].violations,
  };
}

const HEADS = [
  'dirty pages, rate',
  'epochs/s (worst s)',
  'pages/epoch',
  'pause us p50/p99',
  'guest gap us p50/p99',
  'progress',
  'added incr us p50/p99',
  'wire/dirty',
  'violations',
];

function cells(row: Row): string[] {
  return [
    `${row.dirtyPages}, ${rateName(row.targetEpochsPerSecond)}`,
    `${figure(row.committedEpochsPerSecond)} (${figure(row.committedEpochsPerSecondMin)})`,
    figure(row.dirtyPagesPerEpoch, 1),
    `${figure(row.pauseUsP50)} / ${figure(row.pauseUsP99)}`,
    `${figure(row.guestGapUsP50)} / ${figure(row.guestGapUsP99)}`,
    `${figure(row.guestProgressVsUnprotected * 100, 1)} %`,
    `${figure(row.addedLatencyUsP50)} / ${figure(row.addedLatencyUsP99)}`,
    figure(row.wireBytesPerDirtyByte, 4),
    figure(row.violations + row.auditMismatches),
  ];
}

/** The first bar: said openly whether it was reached. */
function tellBar(rows: readonly Row[]): void {
  for (const row of rows.filter((one) => one.dirtyPages === BAR_PAGES)) {
    // Epochs with less in them are no answer to the question.
    const full = row.dirtyPagesPerEpoch >= 0.9 * BAR_PAGES;
    const fast = row.committedEpochsPerSecond >= BAR_EPOCHS_PER_SECOND;
    const reached = full && fast && row.seconds >= BAR_SECONDS;
    say(
      `Bar, ${rateName(row.targetEpochsPerSecond)}: ${figure(BAR_EPOCHS_PER_SECOND)} committed ` +
        `epochs/s of ${BAR_PAGES} dirty pages for ${BAR_SECONDS} s: ` +
        `${reached ? 'reached' : 'NOT reached'} (${figure(row.committedEpochsPerSecond)}/s of ` +
        `${figure(row.dirtyPagesPerEpoch, 1)} pages over ${row.seconds} s, worst second ` +
        `${figure(row.committedEpochsPerSecondMin)}/s).`,
    );
  }
}

async function main(): Promise<number> {
  const options = readOptions();
  const missing = options.machine === 'kvm' ? kvmMissing() : undefined;
  if (missing !== undefined) {
    process.stderr.write(`${missing}\n`);
    return 3;
  }
  const site = describeSite();
  const loadBefore = os.loadavg()[0] ?? 0;
  say(`${site.machine}\n${site.kernel}, commit ${site.commit}, load ${figure(loadBefore, 1)}\n`);
  const rows = await runAll(options);
  say(`\n${table(HEADS, rows.map(cells))}\n`);
  say(
    'pause: measured by the primary. guest gap: seen by the guest itself (stretches over 10 us).',
  );
  say('progress: of the same guest unprotected. wire/dirty: wire bytes per byte of dirty pages.');
  tellBar(rows);
  const parameters = {
    ...options,
    loadBefore,
    changedBytesPerPage: CHANGED_BYTES,
    incrPerSecond: INCR_PER_SECOND,
    unprotectedSeconds: UNPROTECTED_SECONDS,
    backToBackUs:
      options.backToBackUs ?? `${BACK_TO_BACK_US} + ${BACK_TO_BACK_US_PER_PAGE} x pages`,
    pausePercentiles: 'median over the seconds of the run of the percentiles of each second',
    wireBytesPerDirtyByte: 'bytes sent for epochs / (4096 x dirty pages)',
  };
  say(`Written to ${writeReport('bench/epochs.json', { ...site, parameters, rows })}.`);
  return rows.some((row) => row.violations > 0) ? 1 : 0;
}

main().then(
  (code) => process.exit(code),
  (thrown: unknown) => {
    process.stderr.write(`${thrown instanceof Error ? thrown.message : String(thrown)}\n`);
    process.exit(1);
  },
);
