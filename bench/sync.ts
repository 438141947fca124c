/**
 * The initial sync and what a protected guest takes: how fast a standby comes to hold all of memory,
 * the memory of both processes once every page was touched, the longest that either event loop was
 * away, and wire bytes for each dirty byte, with epochs of 4,096 pages in the mix.
 *
 *   node dist/bench/sync.js [--memory-mib 1024] [--noise-mib 768] [--runs 3] [--seconds 10]
 *
 * Noise is put into the guest as an initial RAM disk that it never looks at, since that is the one
 * way to have pages that no compression helps. Nothing is pinned: on two CPUs each event loop gets
 * one while the guest sleeps. Prints tables; writes build/bench/sync.json.
 */
import { randomFillSync } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { GUEST_ADDRESS } from '../src/drill/lan/netns';
import { OracleProcess } from '../src/drill/oracle/oracle-process';
import { Pair, type PairNode } from '../src/drill/pair/pair';
import type { Line } from '../src/drill/process/process';
import { atExit } from '../src/drill/process/process-exit';
import { sleep, until } from '../src/drill/process/time';
import { describeSite, figure, table, writeReport } from '../src/drill/report/report';
import { kvmMissing } from './measure';
import { processMemory } from './process-memory';
import { medianOf } from './qemu-trace';

const MIB = 1024 * 1024;
const SYNC_MS = 120_000;
const STATUS_MS = 250;
const LARGE_EPOCH_PAGES = 4096;
/** So seldom cut, and not for each answer, that an epoch holds them all. */
const LARGE_EPOCH_FLAGS = ['--interval-us', '30000', '--no-cut-on-output'];
const BAR_SYNC_BYTES_PER_SECOND = 1e9;
const BAR_SLACK_BYTES = 256 * MIB;
const BAR_LOOP_US = 5000;
/** By bytes changed in each page: bytes on the wire for each byte of a dirty page, at most. */
const BAR_WIRE: readonly (readonly [number, number])[] = [
  [8, 0.05],
  [4096, 1.01],
];

interface Options {
  readonly memoryMib: number;
  readonly noiseMib: number;
  readonly runs: number;
  readonly seconds: number;
}

interface SyncRun {
  readonly seconds: number;
  readonly memoryBytesPerSecond: number;
  readonly primaryLoopUsMax: number;
  readonly standbyLoopUsMax: number;
}

interface LoadRun {
  readonly changedBytes: number;
  readonly dirtyPagesPerEpoch: number;
  readonly wireBytesPerDirtyByte: number;
  readonly primaryLoopUsMax: number;
  readonly standbyLoopUsMax: number;
}

interface MemoryFigures {
  readonly primaryBytes: number;
  readonly standbyBytes: number;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      'memory-mib': { type: 'string', default: '1024' },
      'noise-mib': { type: 'string', default: '768' },
      runs: { type: 'string', default: '3' },
      seconds: { type: 'string', default: '10' },
    },
  });
  const number = (name: keyof typeof values, min: number, max: number): number => {
    const value = Number(values[name]);
    if (value >= min && value <= max) return value;
    throw new Error(`--${name} is "${values[name]}"; it must be a number from ${min} to ${max}.`);
  };
  const memoryMib = number('memory-mib', 64, 3072);
  return {
    memoryMib,
    noiseMib: number('noise-mib', 1, memoryMib - 32),
    runs: Math.floor(number('runs', 1, 20)),
    seconds: number('seconds', 1, 600),
  };
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** A file of so much noise in a folder of its own; both are gone when this process ends. */
function makeNoise(mib: number): string {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'ft-noise-'));
  atExit(folder, () => rmSync(folder, { recursive: true, force: true }));
  const file = path.join(folder, 'noise');
  const piece = Buffer.alloc(MIB);
  const fd = openSync(file, 'w');
  for (let n = 0; n < mib; n++) writeSync(fd, randomFillSync(piece));
  closeSync(fd);
  return file;
}

function makePair(
  options: Options,
  initrd: string | undefined,
  flags: readonly string[] = [],
): Pair {
  const more = initrd === undefined ? [] : ['--initrd', initrd];
  return new Pair({
    machine: 'kvm',
    name: 'sync',
    memory: `${options.memoryMib}M`,
    unpinned: true,
    flags,
    statusIntervalMs: STATUS_MS,
    kernelFlags: ['--cmdline', `ip=${GUEST_ADDRESS}`, ...more],
  });
}

/** A guest that has been running alone gets a standby; from there to its protection. */
async function sync(pair: Pair, options: Options): Promise<SyncRun> {
  const primary = pair.startPrimary(pair.slots[0]);
  await primary.waitState(['solo'], SYNC_MS);
  const standby = pair.startStandby(pair.slots[1]);
  const begin = await primary.waitState(['syncing'], SYNC_MS);
  const end = await primary.waitState(['protected'], SYNC_MS);
  const seconds = (end.atUs - begin.atUs) / 1e6;
  // The line after the end still tells of the sync's last stretch.
  await sleep(2 * STATUS_MS);
  return {
    seconds,
    memoryBytesPerSecond: (options.memoryMib * MIB) / seconds,
    primaryLoopUsMax: loopUsMax(primary, begin.atUs),
    standbyLoopUsMax: loopUsMax(standby, begin.atUs),
  };
}

/** The longest that the loop was away, by the status lines after `fromUs`. */
function loopUsMax(node: PairNode, fromUs: number): number {
  // The first line tells of a stretch that began before.
  const lines = statusLines(node).filter((line) => line.atUs > fromUs + STATUS_MS * 1000);
  return Math.max(0, ...lines.map((line) => numberOf(line, 'eventLoopUsMax')));
}

function statusLines(node: PairNode): Line[] {
  return node.process.lines.filter((line) => line.fields['event'] === undefined);
}

function numberOf(line: Line, name: string): number {
  const value = line.fields[name];
  return typeof value === 'number' ? value : 0;
}

/** Epochs of many pages for some seconds. */
async function large(
  pair: Pair,
  oracle: OracleProcess,
  changedBytes: number,
  seconds: number,
): Promise<LoadRun> {
  const { active, standby } = pair;
  if (active === undefined || standby === undefined) throw new Error('The pair is not complete.');
  await oracle.load({
    pagesPerMs: 'max',
    bytesPerPage: changedBytes,
    workingSetPages: LARGE_EPOCH_PAGES,
    spin: true,
  });
  // The first change of each page after a sync is a whole page on the wire.
  await sleep(2000);
  const fromUs = statusLines(active).at(-1)?.atUs ?? 0;
  await sleep(seconds * 1000);
  const lines = statusLines(active).filter((line) => line.atUs > fromUs);
  const sum = (name: string): number =>
    lines.reduce((total, line) => total + numberOf(line, name), 0);
  const raw = sum('rawBytesPerSecond');
  return {
    changedBytes,
    dirtyPagesPerEpoch: medianOf(lines.map((line) => numberOf(line, 'dirtyPagesPerEpoch'))),
    wireBytesPerDirtyByte: raw > 0 ? sum('wireBytesPerSecond') / raw : 0,
    primaryLoopUsMax: loopUsMax(active, fromUs),
    standbyLoopUsMax: loopUsMax(standby, fromUs),
  };
}

/** Writes to every page that the guest has for load, then looks at both processes. */
async function touchAll(pair: Pair, oracle: OracleProcess): Promise<MemoryFigures> {
  const { active, standby } = pair;
  if (active === undefined || standby === undefined) throw new Error('The pair is not complete.');
  const before = await oracle.stats();
  await oracle.load({
    pagesPerMs: 'max',
    bytesPerPage: 8,
    workingSetPages: before.loadPagesMax,
    spin: true,
  });
  await until(
    'a write to every page',
    async () => {
      await sleep(100);
      const { pagesDirtied } = await oracle.stats();
      return pagesDirtied - before.pagesDirtied >= before.loadPagesMax;
    },
    SYNC_MS,
  );
  return {
    primaryBytes: processMemory(active.process.pid).totalBytes,
    standbyBytes: processMemory(standby.process.pid).totalBytes,
  };
}

async function withPair<T>(pair: Pair, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (thrown) {
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    throw new Error(`${message}\n=== what the nodes said\n${pair.story()}`);
  } finally {
    await pair.close();
  }
}

interface Findings {
  readonly noise: readonly SyncRun[];
  readonly zeros: readonly SyncRun[];
  readonly loads: readonly LoadRun[];
  readonly memory: MemoryFigures;
}

async function runAll(options: Options): Promise<Findings> {
  const file = makeNoise(options.noiseMib);
  const syncs = async (initrd: string | undefined, what: string): Promise<SyncRun[]> => {
    const runs: SyncRun[] = [];
    for (let n = 0; n < options.runs; n++) {
      say(`sync of ${options.memoryMib} MiB, ${what} ...`);
      const pair = makePair(options, initrd);
      runs.push(await withPair(pair, () => sync(pair, options)));
    }
    return runs;
  };
  const noise = await syncs(file, `${options.noiseMib} MiB of them noise`);
  const zeros = await syncs(undefined, 'nearly all of them zero');
  const pair = makePair(options, undefined, LARGE_EPOCH_FLAGS);
  return withPair(pair, async () => {
    await sync(pair, options);
    const clients = { clients: 4, ratePerSecond: 200, mix: [1, 0, 0] as const };
    const oracle = await OracleProcess.start({ ...pair.guest, ...clients }, pair.netns?.name);
    try {
      const loads: LoadRun[] = [];
      for (const [changedBytes] of BAR_WIRE) {
        say(`${LARGE_EPOCH_PAGES} pages in turn, ${changedBytes} bytes of each, ...`);
        loads.push(await large(pair, oracle, changedBytes, options.seconds));
      }
      say('a write to every page ...');
      return { noise, zeros, loads, memory: await touchAll(pair, oracle) };
    } finally {
      await oracle.close();
    }
  });
}

interface Bar {
  readonly what: string;
  readonly reached: boolean;
  readonly told: string;
}

function judge(options: Options, { noise, zeros, loads, memory }: Findings): Bar[] {
  const guest = options.memoryMib * MIB;
  const rate = (runs: readonly SyncRun[]): number =>
    medianOf(runs.map((run) => run.memoryBytesPerSecond));
  const gigabytes = (bytes: number): string => `${figure(bytes / 1e9, 3)} GB/s`;
  const mib = (bytes: number): string => `${figure(bytes / MIB)} MiB`;
  const loop = Math.max(
    ...[...noise, ...loads].flatMap((run) => [run.primaryLoopUsMax, run.standbyLoopUsMax]),
  );
  const bars: Bar[] = [
    {
      what: 'initial sync of at least 1 GB/s of guest memory, noise',
      reached: rate(noise) >= BAR_SYNC_BYTES_PER_SECOND,
      told: gigabytes(rate(noise)),
    },
    {
      what: 'initial sync of zero pages nearly free (at least 10 times that rate)',
      reached: rate(zeros) >= 10 * BAR_SYNC_BYTES_PER_SECOND,
      told: gigabytes(rate(zeros)),
    },
    {
      what: 'primary: at most guest memory x 2 + 256 MiB',
      reached: memory.primaryBytes <= 2 * guest + BAR_SLACK_BYTES,
      told: mib(memory.primaryBytes),
    },
    {
      what: 'standby: at most guest memory + 256 MiB',
      reached: memory.standbyBytes <= guest + BAR_SLACK_BYTES,
      told: mib(memory.standbyBytes),
    },
    {
      what: 'neither event loop away for longer than 5 ms',
      reached: loop <= BAR_LOOP_US,
      told: `${figure(loop)} us`,
    },
  ];
  for (const [changedBytes, most] of BAR_WIRE) {
    const run = loads.find((one) => one.changedBytes === changedBytes);
    bars.push({
      what: `wire bytes at most ${most * 100} % of dirty bytes, ${changedBytes} changed a page`,
      reached: run !== undefined && run.wireBytesPerDirtyByte <= most,
      told: `${figure((run?.wireBytesPerDirtyByte ?? 0) * 100, 2)} %`,
    });
  }
  return bars;
}

function printTables({ noise, zeros, loads }: Findings): void {
  const cells = (name: string, run: SyncRun): string[] => [
    name,
    figure(run.seconds * 1000),
    figure(run.memoryBytesPerSecond / 1e9, 3),
    `${figure(run.primaryLoopUsMax)} / ${figure(run.standbyLoopUsMax)}`,
  ];
  const rows = [
    ...noise.map((run) => cells('noise', run)),
    ...zeros.map((run) => cells('zeros', run)),
  ];
  say(`\n${table(['sync', 'ms', 'GB/s', 'loop away us, primary/standby'], rows)}\n`);
  const loadRows = loads.map((run) => [
    figure(run.changedBytes),
    figure(run.dirtyPagesPerEpoch, 1),
    figure(run.wireBytesPerDirtyByte, 4),
    `${figure(run.primaryLoopUsMax)} / ${figure(run.standbyLoopUsMax)}`,
  ]);
  const heads = ['bytes changed', 'pages/epoch', 'wire/dirty', 'loop away us, primary/standby'];
  say(`${table(heads, loadRows)}\n`);
}

async function main(): Promise<number> {
  const options = readOptions();
  const missing = kvmMissing();
  if (missing !== undefined) {
    process.stderr.write(`${missing}\n`);
    return 3;
  }
  const site = describeSite();
  say(`${site.machine}\n${site.kernel}, commit ${site.commit}\n`);
  const findings = await runAll(options);
  printTables(findings);
  const bars = judge(options, findings);
  for (const bar of bars) {
    say(`Bar: ${bar.what}: ${bar.reached ? 'reached' : 'NOT reached'} (${bar.told}).`);
  }
  const report = { ...site, parameters: options, ...findings, bars };
  say(`Written to ${writeReport('bench/sync.json', report)}.`);
  return 0;
}

main().then(
  (code) => process.exit(code),
  (thrown: unknown) => {
    process.stderr.write(`${thrown instanceof Error ? thrown.message : String(thrown)}\n`);
    process.exit(1);
  },
);
