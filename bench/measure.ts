/**
 * One measured run: a guest that spins over its working set and answers a light load of `incr`,
 * protected or not, watched for some seconds.
 */
import { accessSync, constants, existsSync } from 'node:fs';
import { quantileOf } from '../test/support/oracle-meter';
import type { BeaconStats } from '../test/support/oracle-process';
import { OracleProcess } from '../test/support/oracle-process';
import { beaconPath, Pair, type PairNode, sleep } from '../test/support/pair';
import type { Line } from '../test/support/process';

export interface RunOptions {
  readonly machine: 'kvm' | 'simulated';
  readonly protect: boolean;
  readonly dirtyPages: number;
  readonly changedBytes: number;
  readonly seconds: number;
  readonly incrPerSecond: number;
  readonly flags: readonly string[];
}

export interface Run {
  /** Work units of the guest's spinning loop a second of guest time. */
  readonly progressPerSecond: number;
  readonly latencyUsP50: number;
  readonly latencyUsP99: number;
  /** Stretches in which the guest's loop did not run, as the guest saw them. */
  readonly gapUsP50: number;
  readonly gapUsP99: number;
  readonly committedEpochsPerSecond: number;
  /** The worst full second. */
  readonly committedEpochsPerSecondMin: number;
  readonly pauseUsP50: number;
  readonly pauseUsP99: number;
  readonly dirtyPagesPerEpoch: number;
  readonly wireBytesPerDirtyByte: number;
  readonly auditMismatches: number;
  /** Violations that the oracle found: a fast run of a broken engine is worth nothing. */
  readonly violations: number;
}

const WARM_UP_MS = 1500;

/** Why no real guest can be measured here; undefined when it can. */
export function kvmMissing(): string | undefined {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return '/dev/kvm is missing or not permitted, and figures of anything else mean nothing.';
  }
  if (process.getuid?.() !== 0) return 'Measuring needs root for a network namespace and TAPs.';
  return existsSync(beaconPath) ? undefined : 'The guest is missing: run `make build` first.';
}

/** Starts a guest, measures, ends it. */
export async function measure(options: RunOptions): Promise<Run> {
  const pair = new Pair({
    machine: options.machine,
    name: 'bench',
    statusIntervalMs: 1000,
    flags: options.flags,
  });
  let oracle: OracleProcess | undefined;
  try {
    const node = await begin(pair, options.protect);
    const settings = { clients: 4, ratePerSecond: options.incrPerSecond, mix: [1, 0, 0] as const };
    oracle = await OracleProcess.start({ ...pair.guest, ...settings }, pair.netns?.name);
    await oracle.load({
      pagesPerMs: 'max',
      bytesPerPage: options.changedBytes,
      workingSetPages: options.dirtyPages,
      spin: true,
    });
    await oracle.start();
    await sleep(WARM_UP_MS);
    const from = node.process.lines.length;
    await oracle.sample();
    const before = await oracle.stats();
    await sleep(options.seconds * 1000);
    const after = await oracle.stats();
    const { latency } = await oracle.sample();
    const lines = node.process.lines
      .slice(from)
      .filter((line) => line.fields['event'] === undefined);
    const verdict = await oracle.finish();
    return {
      progressPerSecond: progressRate(before, after),
      latencyUsP50: latency.usP50,
      latencyUsP99: latency.usP99,
      gapUsP50: after.gapP50Ns / 1000,
      gapUsP99: after.gapP99Ns / 1000,
      ...replication(lines),
      violations: verdict.lost + verdict.regressed,
    };
  } catch (thrown) {
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    throw new Error(`${message}\n=== what the nodes said\n${pair.story()}`);
  } finally {
    await oracle?.close();
    await pair.close();
  }
}

async function begin(pair: Pair, protect: boolean): Promise<PairNode> {
  if (protect) {
    await pair.start();
    if (pair.active === undefined) throw new Error('The pair has no active side.');
    return pair.active;
  }
  const node = pair.startAlone();
  await node.waitState(['solo'], 10_000);
  return node;
}

function progressRate(before: BeaconStats, after: BeaconStats): number {
  const ns = after.uptimeNs - before.uptimeNs;
  return ns > 0 ? ((after.progress - before.progress) / ns) * 1e9 : 0;
}

type Replication = Omit<
  Run,
  'progressPerSecond' | 'latencyUsP50' | 'latencyUsP99' | 'gapUsP50' | 'gapUsP99' | 'violations'
>;

/** From the status lines of the measured stretch; zeros when nothing was replicated. */
function replication(lines: readonly Line[]): Replication {
  const of = (line: Line | undefined, name: string): number => {
    const value = line?.fields[name];
    return typeof value === 'number' ? value : 0;
  };
  const column = (name: string): number[] => lines.map((line) => of(line, name));
  const first = lines[0];
  const last = lines[lines.length - 1];
  const committed = of(last, 'epochCommitted') - of(first, 'epochCommitted');
  const seconds = ((last?.atUs ?? 0) - (first?.atUs ?? 0)) / 1e6;
  const bySecond = lines.slice(1).map((line, at) => {
    const before = lines[at];
    const span = (line.atUs - (before?.atUs ?? 0)) / 1e6;
    return (of(line, 'epochCommitted') - of(before, 'epochCommitted')) / span;
  });
  const sum = (name: string): number => column(name).reduce((total, value) => total + value, 0);
  const raw = sum('rawBytesPerSecond');
  return {
    committedEpochsPerSecond: seconds > 0 ? committed / seconds : 0,
    committedEpochsPerSecondMin: bySecond.length > 0 ? Math.min(...bySecond) : 0,
    pauseUsP50: quantileOf(column('pauseUsP50'), 0.5),
    pauseUsP99: quantileOf(column('pauseUsP99'), 0.5),
    dirtyPagesPerEpoch: quantileOf(column('dirtyPagesPerEpoch'), 0.5),
    wireBytesPerDirtyByte: raw > 0 ? sum('wireBytesPerSecond') / raw : 0,
    auditMismatches: of(last, 'auditMismatches'),
  };
}
