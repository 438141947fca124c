/**
 * Beside QEMU, in one run on the same guest image: COLO's checkpoints and our epochs, what each
 * leaves of the guest, and a plain live migration's downtime.
 *
 *   node dist/bench/peers.js [--seconds 6] [--runs 1] [--pages 16] [--delays 20,5,1]
 *                            [--set-ups unix,tcp,tuned] [--fast-us 75,95,120,160,220,300]
 *                            [--flags "…"]
 *
 * Each COLO run is followed by ours at the rate that COLO reached, so that the guest's progress can
 * be compared at that rate; ours as fast as it goes stands beside all of them, which is the
 * shortest interval of those tried at which the guest still writes its whole working set in each
 * epoch. Progress is that of the same guest unprotected in the same VMM. Prints tables; writes
 * build/bench/peers.json.
 */
import { parseArgs } from 'node:util';
import { describeSite, figure, table, writeReport } from '../src/drill/report/report';
import { kvmMissing, measure, type Run } from './measure';
import {
  COLO_SET_UPS,
  type ColoFigures,
  type ColoSetUp,
  type GuestFigures,
  type Load,
  measureColo,
  measureMigration,
  measureUnprotected,
  QEMU,
  qemuVersion,
} from './qemu';
import { type MigrationFigures, medianOf } from './qemu-trace';

const CHANGED_BYTES = 8;
const INCR_PER_SECOND = 200;
const UNPROTECTED_SECONDS = 4;
const MIGRATIONS = 3;
/** How many times COLO's highest rate ours must be, by set-up. */
const BARS: Readonly<Record<string, number>> = { unix: 50, tcp: 100, tuned: 15 };
/** Epochs with less in them than this part of the working set are no answer to the question. */
const FULL_PART = 0.9;
const PROBE_SECONDS = 2;

interface Options {
  readonly seconds: number;
  readonly runs: number;
  readonly pages: number;
  readonly delaysMs: readonly number[];
  readonly setUps: readonly ColoSetUp[];
  /** Intervals to try, the shortest first. */
  readonly fastUs: readonly number[];
  readonly flags: readonly string[];
}

/** Ours, as far as it stands beside COLO. */
interface Ours {
  readonly epochsPerSecond: number;
  readonly dirtyPagesPerEpoch: number;
  readonly pauseUsP50: number;
  readonly pauseUsP99: number;
  readonly guestProgress: number;
  readonly latencyUsP50: number;
  readonly latencyUsP99: number;
  readonly violations: number;
}

interface Row {
  readonly setUp: string;
  readonly delayMs: number;
  readonly colo: ColoFigures & { readonly guestProgress: number };
  readonly oursAtThatRate: Ours;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '6' },
      runs: { type: 'string', default: '1' },
      pages: { type: 'string', default: '16' },
      delays: { type: 'string', default: '20,5,1' },
      'set-ups': { type: 'string', default: COLO_SET_UPS.map((one) => one.name).join(',') },
      'fast-us': { type: 'string', default: '75,95,120,160,220,300' },
      flags: { type: 'string', default: '' },
    },
  });
  const number = (name: string, text: string, min: number, max: number): number => {
    const value = Number(text);
    if (value >= min && value <= max) return value;
    throw new Error(`--${name} is "${text}"; it must be a number from ${min} to ${max}.`);
  };
  return {
    seconds: number('seconds', values.seconds, 1, 600),
    runs: Math.floor(number('runs', values.runs, 1, 100)),
    pages: number('pages', values.pages, 1, 4096),
    delaysMs: values.delays.split(',').map((text) => number('delays', text, 1, 10_000)),
    setUps: values['set-ups'].split(',').map((name) => {
      const setUp = COLO_SET_UPS.find((one) => one.name === name);
      if (setUp === undefined) throw new Error(`--set-ups: there is no "${name}".`);
      return setUp;
    }),
    fastUs: values['fast-us'].split(',').map((text) => number('fast-us', text, 50, 1e6)),
    flags: values.flags.split(' ').filter((flag) => flag !== ''),
  };
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Field by field the median of runs that have the same numbers. */
function medians<T extends object>(runs: readonly T[]): T {
  const first = runs[0];
  if (first === undefined) throw new Error('There are no runs to take a median of.');
  const entries = Object.entries(first).map(([name, value]): [string, unknown] => {
    if (typeof value !== 'number') return [name, value];
    return [name, medianOf(runs.map((run) => (run as Record<string, number>)[name] ?? 0))];
  });
  return Object.fromEntries(entries) as T;
}

class Comparison {
  private readonly load: Load;
  private readonly bareProgress: { qemu: number[]; ours: number[] } = { qemu: [], ours: [] };

  constructor(private readonly options: Options) {
    this.load = {
      dirtyPages: options.pages,
      changedBytes: CHANGED_BYTES,
      incrPerSecond: INCR_PER_SECOND,
      seconds: options.seconds,
    };
  }

  /** What the guest does unprotected; called at the beginning and at the end of it all. */
  async unprotected(): Promise<void> {
    say(`unprotected, QEMU and ours, ${UNPROTECTED_SECONDS} s each ...`);
    const load = { ...this.load, seconds: UNPROTECTED_SECONDS };
    const qemu: GuestFigures = await measureUnprotected(load);
    const ours = await measure({ ...load, machine: 'kvm', kind: 'bare', flags: [] });
    this.bareProgress.qemu.push(qemu.progressPerSecond);
    this.bareProgress.ours.push(ours.progressPerSecond);
  }

  /** Work units a second of the unprotected guest, by VMM. */
  get bare(): { qemu: number; ours: number } {
    const mean = (list: readonly number[]): number =>
      list.reduce((sum, one) => sum + one, 0) / Math.max(1, list.length);
    return { qemu: mean(this.bareProgress.qemu), ours: mean(this.bareProgress.ours) };
  }

  async colo(setUp: ColoSetUp, delayMs: number): Promise<ColoFigures> {
    say(`COLO, ${setUp.name}, every ${delayMs} ms, ${this.options.seconds} s ...`);
    const runs: ColoFigures[] = [];
    for (let n = 0; n < this.options.runs; n++) {
      runs.push(await measureColo(setUp, delayMs, this.load));
    }
    return medians(runs);
  }

  /** Ours at the shortest interval that still gives full epochs; else at the longest tried. */
  async fastest(): Promise<Run> {
    const { fastUs, pages } = this.options;
    for (const us of fastUs.slice(0, -1)) {
      const probe = await this.oursOnce(us, PROBE_SECONDS);
      if (probe.dirtyPagesPerEpoch >= FULL_PART * pages) return this.ours(us);
    }
    return this.ours(fastUs[fastUs.length - 1] ?? 0);
  }

  async ours(intervalUs: number): Promise<Run> {
    const runs: Run[] = [];
    for (let n = 0; n < this.options.runs; n++) {
      runs.push(await this.oursOnce(intervalUs, this.options.seconds));
    }
    const violations = runs.reduce((sum, run) => sum + run.violations + run.auditMismatches, 0);
    return { ...medians(runs), violations };
  }

  private oursOnce(intervalUs: number, seconds: number): Promise<Run> {
    say(`ours, every ${figure(intervalUs)} us, ${seconds} s ...`);
    const { flags } = this.options;
    const own = { kind: 'ours', intervalUs: Math.round(intervalUs), flags } as const;
    return measure({ ...this.load, ...own, seconds, machine: 'kvm' });
  }

  async migrations(): Promise<MigrationFigures[]> {
    const list: MigrationFigures[] = [];
    for (let n = 0; n < MIGRATIONS; n++) {
      say('plain live migration over a UNIX socket ...');
      list.push(await measureMigration('unix', this.load));
    }
    return list;
  }
}

function oursOf(run: Run, bare: number): Ours {
  return {
    epochsPerSecond: run.committedEpochsPerSecond,
    dirtyPagesPerEpoch: run.dirtyPagesPerEpoch,
    pauseUsP50: run.pauseUsP50,
    pauseUsP99: run.pauseUsP99,
    guestProgress: bare > 0 ? run.progressPerSecond / bare : 0,
    latencyUsP50: run.latencyUsP50,
    latencyUsP99: run.latencyUsP99,
    violations: run.violations,
  };
}

interface Findings {
  readonly rows: readonly Row[];
  readonly fastest: Ours;
  readonly migrations: readonly MigrationFigures[];
  readonly bare: { readonly qemu: number; readonly ours: number };
}

async function compare(options: Options): Promise<Findings> {
  const comparison = new Comparison(options);
  await comparison.unprotected();
  const fastest = await comparison.fastest();
  const found: { setUp: ColoSetUp; delayMs: number; colo: ColoFigures; ours: Run }[] = [];
  for (const setUp of options.setUps) {
    for (const delayMs of options.delaysMs) {
      const colo = await comparison.colo(setUp, delayMs);
      if (colo.count === 0) throw new Error(`COLO (${setUp.name}) made no checkpoint at all.`);
      found.push({ setUp, delayMs, colo, ours: await comparison.ours(1e6 / colo.perSecond) });
    }
  }
  const migrations = await comparison.migrations();
  await comparison.unprotected();
  const { bare } = comparison;
  const rows = found.map(({ setUp, delayMs, colo, ours }) => ({
    setUp: setUp.name,
    delayMs,
    colo: { ...colo, guestProgress: bare.qemu > 0 ? colo.progressPerSecond / bare.qemu : 0 },
    oursAtThatRate: oursOf(ours, bare.ours),
  }));
  return { rows, fastest: oursOf(fastest, bare.ours), migrations, bare };
}

const HEADS = [
  'who, asked',
  'per second',
  'pause us p50/p99/max',
  'guest progress',
  'incr us p50/p99',
];

function percent(part: number): string {
  return `${figure(part * 100, 1)} %`;
}

function oursCells(name: string, ours: Ours): string[] {
  return [
    name,
    figure(ours.epochsPerSecond, ours.epochsPerSecond < 100 ? 1 : 0),
    `${figure(ours.pauseUsP50)} / ${figure(ours.pauseUsP99)} / -`,
    percent(ours.guestProgress),
    `${figure(ours.latencyUsP50)} / ${figure(ours.latencyUsP99)}`,
  ];
}

function rowCells({ setUp, delayMs, colo, oursAtThatRate }: Row): string[][] {
  return [
    [
      `COLO ${setUp}, ${delayMs} ms`,
      figure(colo.perSecond, 1),
      `${figure(colo.pauseUsP50)} / ${figure(colo.pauseUsP99)} / ${figure(colo.pauseUsMax)}`,
      percent(colo.guestProgress),
      `${figure(colo.latencyUsP50)} / ${figure(colo.latencyUsP99)}`,
    ],
    oursCells('  ours at that rate', oursAtThatRate),
  ];
}

interface Bar {
  readonly what: string;
  readonly reached: boolean;
  readonly told: string;
}

/** Each bar with whether it was reached. */
function judge(options: Options, { rows, fastest }: Findings): Bar[] {
  const bars: Bar[] = [];
  const full = fastest.dirtyPagesPerEpoch >= FULL_PART * options.pages;
  for (const { name } of options.setUps) {
    const own = rows.filter((row) => row.setUp === name);
    const highest = Math.max(...own.map((row) => row.colo.perSecond));
    const ratio = fastest.epochsPerSecond / highest;
    const bar = BARS[name] ?? 1;
    bars.push({
      what: `at least ${bar} times the checkpoint rate of COLO ${name}`,
      reached: full && ratio >= bar,
      told:
        `${figure(ratio, 1)} times: ${figure(fastest.epochsPerSecond)}/s of ` +
        `${figure(fastest.dirtyPagesPerEpoch, 1)} pages, COLO ${figure(highest, 1)}/s`,
    });
    const behind = own.filter((row) => row.oursAtThatRate.guestProgress <= row.colo.guestProgress);
    bars.push({
      what: `more guest progress than COLO ${name} at each rate that it reaches`,
      reached: behind.length === 0,
      told: own
        .map(
          ({ colo, oursAtThatRate }) =>
            `${figure(colo.perSecond, 1)}/s: ${percent(oursAtThatRate.guestProgress)} to ` +
            percent(colo.guestProgress),
        )
        .join('; '),
    });
  }
  return bars;
}

async function main(): Promise<number> {
  const options = readOptions();
  const missing = kvmMissing();
  const qemu = qemuVersion();
  if (missing !== undefined || qemu === undefined) {
    process.stderr.write(
      `${missing ?? `${QEMU} is missing: install the Debian package qemu-system-x86.`}\n`,
    );
    return 3;
  }
  const site = describeSite();
  say(`${site.machine}\n${site.kernel}, commit ${site.commit}, ${qemu}\n`);
  const findings = await compare(options);
  const { rows, fastest, migrations } = findings;
  const lines = [oursCells('ours, as fast as it goes', fastest), ...rows.flatMap(rowCells)];
  say(`\n${table(HEADS, lines)}\n`);
  for (const one of migrations) {
    say(
      `plain live migration: ${figure(one.totalMs)} ms in all, ${figure(one.downtimeMs)} ms down, ` +
        `${figure(one.transferredBytes)} bytes`,
    );
  }
  say('COLO here holds no output and compares none: its latency is without protection.');
  const bars = judge(options, findings);
  for (const bar of bars) {
    say(`Bar: ${bar.what}: ${bar.reached ? 'reached' : 'NOT reached'} (${bar.told}).`);
  }
  const parameters = {
    ...options,
    changedBytesPerPage: CHANGED_BYTES,
    incrPerSecond: INCR_PER_SECOND,
    unprotectedSeconds: UNPROTECTED_SECONDS,
    coloOutput: 'neither held nor compared',
  };
  const report = { ...site, qemu, parameters, ...findings, bars };
  say(`Written to ${writeReport('bench/peers.json', report)}.`);
  return 0;
}

main().then(
  (code) => process.exit(code),
  (thrown: unknown) => {
    process.stderr.write(`${thrown instanceof Error ? thrown.message : String(thrown)}\n`);
    process.exit(1);
  },
);
