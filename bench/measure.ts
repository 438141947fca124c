/**
 * One measured run: a guest that spins over its working set and answers a light load of `incr`,
 * watched for some seconds. It is run in one of three ways:
 *
 *   bare   alone: what it does without anything of ours
 *   floor  alone, its dirty pages harvested and armed again at each interval, nothing else: what
 *          dirty tracking costs on this host
 *   ours   protected: cut, delta, wire, apply, ack and release, two processes
 *
 * The guest has the last CPU to itself; both nodes and the clients share the others.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import os from 'node:os';
import type { BeaconStats } from '../src/drill/oracle/oracle-process';
import { OracleProcess } from '../src/drill/oracle/oracle-process';
import { beaconPath, Pair, type PairNode } from '../src/drill/pair/pair';
import type { Line } from '../src/drill/process/process';
import { sleep } from '../src/drill/process/time';
import { NO_FIGURES, type NodeFigures, readFloor, readReplication } from './status-figures';

export type RunKind = 'bare' | 'floor' | 'ours';

export interface RunOptions {
  readonly machine: 'kvm' | 'simulated';
  readonly kind: RunKind;
  /** The guest's working set; 0: it writes nothing by itself. */
  readonly dirtyPages: number;
  readonly changedBytes: number;
  /** The guest never sleeps, and counts its progress. Default true. */
  readonly spin?: boolean;
  readonly seconds: number;
  /** Before the measured stretch. Default 1200. */
  readonly warmUpMs?: number;
  readonly incrPerSecond: number;
  /** --interval-us; undefined: the default of the commands. */
  readonly intervalUs?: number | undefined;
  /** More flags for both nodes. */
  readonly flags: readonly string[];
}

/** What a run showed. Percentiles are in µs. */
export interface Run extends NodeFigures {
  readonly kind: RunKind;
  readonly intervalUs: number | undefined;
  readonly seconds: number;
  /** Work units of the guest's spinning loop a second of guest time. */
  readonly progressPerSecond: number;
  readonly latencyUsP50: number;
  readonly latencyUsP99: number;
  readonly latencyUsMax: number;
  /** Stretches over 10 µs in which the guest's loop did not run, as the guest saw them. */
  readonly gapUsP50: number;
  readonly gapUsP99: number;
  readonly gapUsMax: number;
  readonly primaryMemoryMiB: number;
  /** 0 without a standby. */
  readonly standbyMemoryMiB: number;
  /** Violations that the oracle found: a fast run of a broken engine is worth nothing. */
  readonly violations: number;
}

/** What both processes held, guest memory included, at some moment of a run. */
export interface MemoryLook {
  readonly atSeconds: number;
  readonly primaryMiB: number;
  readonly standbyMiB: number;
}

/** The guest was stopped so often that it did not even answer: no figures, but a finding. */
export class StarvedGuest extends Error {}

const STARVED = /The guest gave no answer/;

export const GUEST_MEMORY_MIB = 64;
const STATUS_MS = 250;
const CLIENTS = 4;
const WARM_UP_MS = 1200;
const LOOK_SECONDS = 2;

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

/**
 * Starts a guest, measures, ends it. With `onLook`, the processes' memory is looked at during the
 * run as well, every few seconds. Throws with what the nodes said when something fails:
 * StarvedGuest when nothing but an answer of the guest is missing.
 */
export async function measure(
  options: RunOptions,
  onLook?: (look: MemoryLook) => void,
): Promise<Run> {
  const interval =
    options.intervalUs === undefined ? [] : ['--interval-us', `${options.intervalUs}`];
  const floor = options.kind === 'floor' ? ['--measure-floor'] : [];
  const pair = new Pair({
    machine: options.machine,
    name: `bench-${options.kind}`,
    memory: `${GUEST_MEMORY_MIB}M`,
    statusIntervalMs: STATUS_MS,
    flags: [...interval, ...floor, ...options.flags],
  });
  let oracle: OracleProcess | undefined;
  try {
    const node = await begin(pair, options.kind);
    const settings = {
      clients: CLIENTS,
      ratePerSecond: options.incrPerSecond,
      mix: [1, 0, 0] as const,
    };
    oracle = await OracleProcess.start({ ...pair.guest, ...settings }, pair.netns?.name);
    if (options.machine === 'kvm') keepOffGuestCpu(oracle.process.pid);
    return await watch(options, pair, node, oracle, onLook);
  } catch (thrown) {
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    const story = `${message}\n=== what the nodes said\n${pair.story()}`;
    throw STARVED.test(message) ? new StarvedGuest(story) : new Error(story);
  } finally {
    await oracle?.close();
    await pair.close();
  }
}

async function watch(
  options: RunOptions,
  pair: Pair,
  node: PairNode,
  oracle: OracleProcess,
  onLook: ((look: MemoryLook) => void) | undefined,
): Promise<Run> {
  await oracle.load({
    pagesPerMs: options.dirtyPages > 0 ? 'max' : 0,
    bytesPerPage: options.changedBytes,
    workingSetPages: Math.max(1, options.dirtyPages),
    spin: options.spin ?? true,
  });
  await oracle.start();
  await sleep(options.warmUpMs ?? WARM_UP_MS);
  const from = node.process.lines.length;
  const standbyFrom = pair.standby?.process.lines.length ?? 0;
  await oracle.sample();
  const before = await oracle.stats();
  if (onLook === undefined) await sleep(options.seconds * 1000);
  else await lookOn(options.seconds, () => memoryOf(pair, node), onLook);
  const after = await oracle.stats();
  const { latency } = await oracle.sample();
  const lines = node.process.lines.slice(from);
  const standbyLines = pair.standby?.process.lines.slice(standbyFrom) ?? [];
  checkStayed(options.kind, node, lines);
  const memory = memoryOf(pair, node);
  const verdict = await oracle.finish();
  const figures = {
    bare: () => NO_FIGURES,
    floor: () => readFloor(lines),
    ours: () => readReplication(lines, standbyLines),
  }[options.kind]();
  return {
    ...figures,
    kind: options.kind,
    intervalUs: options.intervalUs,
    seconds: options.seconds,
    progressPerSecond: progressRate(before, after),
    latencyUsP50: latency.usP50,
    latencyUsP99: latency.usP99,
    latencyUsMax: latency.usMax,
    gapUsP50: after.gapP50Ns / 1000,
    gapUsP99: after.gapP99Ns / 1000,
    gapUsMax: after.gapMaxNs / 1000,
    primaryMemoryMiB: memory.primaryMiB,
    standbyMemoryMiB: memory.standbyMiB,
    violations: verdict.lost + verdict.regressed,
  };
}

/** Figures of a node that died, or of a guest that was not protected all the time, mean nothing. */
function checkStayed(kind: RunKind, node: PairNode, lines: readonly Line[]): void {
  if (node.process.exit !== undefined) throw node.process.failure('figures: it ended');
  const left = lines.find((line) => line.fields['event'] === 'state');
  if (kind === 'ours' && left !== undefined) {
    throw new Error(`The guest did not stay protected: ${JSON.stringify(left.fields)}`);
  }
}

async function begin(pair: Pair, kind: RunKind): Promise<PairNode> {
  if (kind === 'ours') {
    await pair.start();
    if (pair.active === undefined) throw new Error('The pair has no active side.');
    return pair.active;
  }
  const node = pair.startAlone();
  await node.waitState(['solo'], 10_000);
  return node;
}

/** The nodes keep off the guest's CPU by themselves (--vcpu-cpu); the clients are told to. */
export function keepOffGuestCpu(pid: number): void {
  const last = os.cpus().length - 1;
  if (last < 1) return;
  const others = last === 1 ? '0' : `0-${last - 1}`;
  const { status, stderr } = spawnSync('taskset', ['-acp', others, `${pid}`], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`The clients cannot be kept off CPU ${last}: ${stderr}`);
}

function progressRate(before: BeaconStats, after: BeaconStats): number {
  const ns = after.uptimeNs - before.uptimeNs;
  return ns > 0 ? ((after.progress - before.progress) / ns) * 1e9 : 0;
}

type Memory = Omit<MemoryLook, 'atSeconds'>;

async function lookOn(
  seconds: number,
  memory: () => Memory,
  onLook: (look: MemoryLook) => void,
): Promise<void> {
  for (let at = LOOK_SECONDS; at <= seconds; at += LOOK_SECONDS) {
    await sleep(LOOK_SECONDS * 1000);
    onLook({ atSeconds: at, ...memory() });
  }
}

function memoryOf(pair: Pair, node: PairNode): Memory {
  return {
    primaryMiB: memoryMiB(node.process.pid),
    standbyMiB: pair.standby === undefined ? 0 : memoryMiB(pair.standby.process.pid),
  };
}

/** What a process holds of the machine's memory, guest memory included. */
function memoryMiB(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  return Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0) / 1024;
}
