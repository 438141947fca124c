/**
 * How many epochs a second are committed, and what they cost: pause, guest progress, latency, wire;
 * beside what dirty tracking alone costs on the same machine (the floor) and the same guest
 * unprotected.
 *
 *   highest rates   of the floor and of ours, in turns
 *   matrix          dirty pages × changed bytes × rate; each run between runs of the floor and of
 *                   the unprotected guest, so that what else the host does falls on all of them
 *   light load      what protection adds to the latency of a guest that does little
 *   growth          memory of both processes over a long run, when asked for
 *
 * Prints tables; writes build/bench/epochs.json. `--help` lists the flags.
 */
import os from 'node:os';
import { sleep } from '../src/drill/process/time';
import {
  cpuSeconds,
  cpusBetween,
  describeSite,
  figure,
  table,
  writeReport,
} from '../src/drill/report/report';
import { judgeBars, tellBars } from './bars';
import { type Growth, measureGrowth } from './growth';
import { fitFloor, HIGHEST_HEADS, type Highest, highestCells, measureHighest } from './highest';
import { Matrix } from './matrix';
import { GUEST_MEMORY_MIB, kvmMissing, measure, type RunOptions } from './measure';
import { type Options, readOptions, USAGE } from './options';
import { cellName, keptUp, makeRow, type Row, type Skipped } from './rows';
import { stagesTable } from './stages';

const INCR_PER_SECOND = 200;
const CHANGED_BYTES = 8;
const GROWTH_INTERVAL_US = 400;
const STAGE_COLUMNS_MAX = 6;
const LOOK_AROUND_MS = 1000;
const BUSY_CPUS_MAX = 0.2;

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** What all runs have in common. */
function commonOf(options: Options): Pick<RunOptions, 'machine' | 'warmUpMs' | 'incrPerSecond'> {
  return { machine: options.machine, warmUpMs: options.warmUpMs, incrPerSecond: INCR_PER_SECOND };
}

async function runHighest(options: Options): Promise<Highest[]> {
  const found: Highest[] = [];
  if (!options.withFloor) return found;
  for (const pages of options.highestPages) {
    say(`${pages} pages, highest rates of the floor and of ours ...`);
    const one = await measureHighest(
      (kind, dirtyPages, changedBytes, intervalUs, seconds, warmUpMs = options.warmUpMs) =>
        measure({
          ...commonOf(options),
          kind,
          dirtyPages,
          changedBytes,
          intervalUs,
          seconds,
          warmUpMs,
          // What is tried with --flags is the protected side.
          flags: kind === 'ours' ? options.flags : [],
        }),
      pages,
      CHANGED_BYTES,
      options,
      say,
    );
    if (one === undefined) say(`${pages} pages: no interval gave full epochs.`);
    else found.push(one);
  }
  return found;
}

/** A guest that sleeps but for a few requests, protected as by default, between unprotected ones. */
async function runLight(options: Options): Promise<Row | undefined> {
  if (!options.withLight) return undefined;
  const once = (kind: 'bare' | 'ours'): ReturnType<typeof measure> =>
    measure({
      ...commonOf(options),
      kind,
      dirtyPages: 0,
      changedBytes: CHANGED_BYTES,
      spin: false,
      seconds: kind === 'ours' ? options.seconds : options.referenceSeconds,
      intervalUs: undefined,
      flags: options.flags,
    });
  say('light load ...');
  const samples = [];
  for (let n = 0; n < options.runs; n++) {
    const before = await once('bare');
    const ours = await once('ours');
    samples.push({ ours, floors: [], bares: [before, await once('bare')] });
  }
  const cell = { dirtyPages: 0, changedBytes: CHANGED_BYTES, targetEpochsPerSecond: null };
  return makeRow(cell, samples);
}

/** The rate and the pages of most rows that are judged, for long. */
async function runGrowth(options: Options): Promise<Growth | undefined> {
  if (options.growthSeconds === 0) return undefined;
  say(`memory over ${options.growthSeconds} s ...`);
  return measureGrowth({
    ...commonOf(options),
    kind: 'ours',
    dirtyPages: 64,
    changedBytes: CHANGED_BYTES,
    seconds: options.growthSeconds,
    intervalUs: GROWTH_INTERVAL_US,
    flags: options.flags,
  });
}

const HEADS = [
  'pages x bytes, rate',
  'epochs/s (worst s)',
  'pages',
  'floor/s',
  'vs floor',
  'vs bare',
  'pause us p50/p99',
  'guest gap us p50/p99/max',
  'added incr us p50/p99',
  'wire/dirty',
  'bad',
];

function cells(row: Row, name: string): string[] {
  const mark = keptUp(row) ? '' : '*';
  const share = (value: number): string => (value > 0 ? `${figure(value * 100, 1)} %${mark}` : '-');
  return [
    name,
    `${figure(row.committedEpochsPerSecond)} (${figure(row.committedEpochsPerSecondMin)})`,
    figure(row.dirtyPagesPerEpoch, 1),
    row.floorEpochsPerSecond > 0 ? figure(row.floorEpochsPerSecond) : '-',
    share(row.guestProgressVsFloor),
    share(row.guestProgressVsUnprotected),
    `${figure(row.pauseUsP50, 1)} / ${figure(row.pauseUsP99, 1)}`,
    [row.guestGapUsP50, row.guestGapUsP99, row.guestGapUsMax].map((us) => figure(us)).join(' / '),
    `${figure(row.addedLatencyUsP50)} / ${figure(row.addedLatencyUsP99)}`,
    figure(row.wireBytesPerDirtyByte, 4),
    figure(row.violations + row.auditMismatches),
  ];
}

/** Rows whose stages are shown when there are too many for all; the file has the others'. */
function isTelling(row: Row): boolean {
  if (row.changedBytes !== CHANGED_BYTES) return false;
  return row.targetEpochsPerSecond === (row.dirtyPages === 64 ? 2500 : null);
}

function tell(
  highest: readonly Highest[],
  rows: readonly Row[],
  skipped: readonly Skipped[],
  light: Row | undefined,
): void {
  if (highest.length > 0) {
    say(`\nHighest rate of full epochs\n${table(HIGHEST_HEADS, highest.map(highestCells))}`);
  }
  const lines = rows.map((row) => cells(row, cellName(row)));
  if (light !== undefined) lines.push(cells(light, 'light load, by default'));
  say(`\nThe matrix\n${table(HEADS, lines)}\n`);
  say('floor: dirty pages harvested and armed again at the same interval, nothing else.');
  say('vs floor, vs bare: progress of the guest against the floor, and against no protection.');
  say(
    'pause: work in the pause, measured by the primary. guest gap: seen by the guest (over 10 us,',
  );
  say('the way out of the guest and in again included). wire/dirty: wire bytes by bytes of pages.');
  say('From 512 pages on, ours runs with --no-cut-on-output: else output would end most epochs.');
  say('bad: answers lost or taken back, and pages that differed. Anything but 0 is a defect.');
  for (const one of skipped) say(`Not run: ${cellName(one)}: ${one.reason}`);
  const some = rows.length <= STAGE_COLUMNS_MAX ? rows : rows.filter(isTelling);
  const columns = some.slice(0, STAGE_COLUMNS_MAX);
  const stages = stagesTable(columns.map((row) => ({ name: cellName(row), stages: row.stages })));
  if (stages !== '') say(`\nWhere the time of an epoch goes\n${stages}`);
}

/** CPUs that others keep busy: what is measured beside them is worth little. */
async function lookAround(): Promise<number> {
  const before = cpuSeconds();
  await sleep(LOOK_AROUND_MS);
  const { busy } = cpusBetween(before, cpuSeconds());
  if (busy > BUSY_CPUS_MAX) {
    say(`CAUTION: others keep ${figure(busy, 2)} CPUs busy. Do not believe these figures.\n`);
  }
  return busy;
}

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2));
  if (options === undefined) {
    say(USAGE);
    return 0;
  }
  const missing = options.machine === 'kvm' ? kvmMissing() : undefined;
  if (missing !== undefined) {
    process.stderr.write(`${missing}\n`);
    return 3;
  }
  const site = describeSite();
  const loadBefore = os.loadavg()[0] ?? 0;
  say(`${site.machine}\n${site.kernel}, commit ${site.commit}, load ${figure(loadBefore, 1)}\n`);
  const busyCpusBefore = await lookAround();
  const cpusBefore = cpuSeconds();
  const startMs = performance.now();
  const highest = await runHighest(options);
  const matrix = new Matrix(options, INCR_PER_SECOND, fitFloor(highest), highest, say);
  const { rows, skipped, failed } = await matrix.run();
  const light = await runLight(options);
  const growth = await runGrowth(options);
  tell(highest, rows, skipped, light);
  const bars = judgeBars({ rows, highest, light, growth });
  const minutes = (performance.now() - startMs) / 60_000;
  const stolenCpus = cpusBetween(cpusBefore, cpuSeconds()).stolen;
  say(`\n${tellBars(bars)}\n`);
  say(`Took ${figure(minutes, 1)} minutes; ${figure(stolenCpus, 3)} CPUs were stolen meanwhile.`);
  const parameters = {
    ...options,
    loadBefore,
    busyCpusBefore,
    stolenCpus,
    minutes,
    guestMemoryMiB: GUEST_MEMORY_MIB,
    incrPerSecond: INCR_PER_SECOND,
    highestChangedBytes: CHANGED_BYTES,
    backToBack: 'the interval with the most full epochs a second, searched for',
    full: 'an epoch is full with 90 % of its pages',
    pausePercentiles: 'median over the status lines of the run of the percentiles of each',
    guestProgress: 'against the mean of the runs before and after',
    rows: 'medians of the runs; samples has each run',
    wireBytesPerDirtyByte: 'bytes sent for epochs / (4096 x dirty pages)',
  };
  const more = { light: light ?? null, growth: growth ?? null, skipped, failed };
  const report = { ...site, parameters, bars, highest, rows, ...more };
  say(`Written to ${writeReport(options.output, report)}.`);
  for (const one of failed) say(`FAILED: ${cellName(one)}`);
  if (failed.length > 0) return 1;
  const judged = [...rows, ...highest, light, growth];
  return judged.some((one) => (one?.violations ?? 0) > 0) ? 1 : 0;
}

main().then(
  (code) => process.exit(code),
  (thrown: unknown) => {
    process.stderr.write(`${thrown instanceof Error ? thrown.message : String(thrown)}\n`);
    process.exit(1);
  },
);
