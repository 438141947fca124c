/**
 * The disk drill: a guest that writes to its disk without pause lives through kills of either side,
 * and its disk must be the same one all the while.
 *
 *   step         who is killed                       what comes back
 *   return       the active side                     a node with the dead one's image and map
 *   replace      the active side                     a node with a blank image
 *   standby      the standby                         a node with its image and map
 *   interrupt    the active side, then the node      a node with the same image and map once more
 *                that returned, amid its sync
 *
 * Clients write, read and discard blocks all the while, and so does the guest by itself. At the end the guest
 * comes to rest, both sides are stopped in order, and then the two images must be the same, byte for
 * byte, and hold every write that was answered.
 */
import { closeSync, fstatSync, openSync, readSync, statSync, writeSync } from 'node:fs';
import { quantileOf } from '../../src/common/quantile';
import type { DiskVerdict } from '../../src/drill/oracle/disk-oracle';
import type { Verdict } from '../../src/drill/oracle/oracle';
import type { DiskOptions } from '../../src/drill/oracle/oracle-client';
import { type DiskFigures, OracleProcess } from '../../src/drill/oracle/oracle-process';
import { Pair, type PairNode, type PairOptions } from '../../src/drill/pair/pair';
import { sleep, until } from '../../src/drill/process/time';
import { describeSite, figure, type Site } from '../../src/drill/report/report';

export type Step = 'return' | 'replace' | 'standby' | 'interrupt';

export interface DiskDrillOptions {
  /** One after the other, from the first again when they are through. */
  readonly steps: readonly Step[];
  readonly runs: number;
  readonly pair: PairOptions & { readonly diskBytes: number };
  readonly clients: number;
  readonly ratePerSecond: number;
  /** Writes of the guest's own disk load; 0: as fast as it goes. */
  readonly writesPerSecond: number;
  /** Blocks that this load writes in turn; at most as many as it has under way: one on another. */
  readonly regionBlocks: number;
  /** Longest time under load before a kill; the moment is drawn between a fifth of it and it. */
  readonly lifeMsMax: number;
  readonly seed: number;
  /** Called after each kill. */
  readonly onKill?: (kill: DiskKill, n: number) => void;
}

export interface DiskKill {
  readonly step: Step;
  /** The standby had taken over before the kill, since the host stalled: nothing to measure. */
  readonly early: boolean;
  /** SIGKILL sent → the standby said that it runs the guest; absent when the standby was killed. */
  readonly promotedMs?: number;
  /** SIGKILL sent → the first answer to a disk request after the silence that it caused. */
  readonly firstDiskAnswerMs?: number;
  /** Node started → protected again. */
  readonly reprotectedMs: number;
  /** Bytes of the disk that its sync has sent. */
  readonly syncBytes: number;
}

export interface DiskDrillReport extends Site {
  readonly runs: number;
  readonly earlyTakeovers: number;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly firstDiskAnswerMsP50: number;
  readonly firstDiskAnswerMsMax: number;
  readonly promotedMsP50: number;
  readonly promotedMsMax: number;
  readonly reprotectedMsP50: number;
  /** Of syncs from a map, and of whole ones. */
  readonly partialSyncBytesP50: number;
  readonly partialSyncBytesMax: number;
  readonly fullSyncBytesMin: number;
  readonly verdict: Verdict;
  readonly disk: DiskVerdict;
  readonly load: DiskFigures;
  /** Bytes in which the two images differ at the end. */
  readonly imageBytesUnlike: number;
  readonly auditMismatches: number;
  readonly kills: readonly DiskKill[];
}

const BLOCK_BYTES = 4096;
const MIB = 1024 ** 2;

/**
 * The disk, in blocks: clients' from 0, the load's from 1024, and from 4096 on what was there before
 * the guest and stays as it was. The image is large against what is written, so that a resync from a
 * map is far smaller than a whole one.
 */
const BLOCKS_PER_CLIENT = 16;
const REGION_FIRST = 1024;
const REGION_BLOCKS_MAX = 3072;
/** So many that a kill always finds some of them unfinished. */
const UNDER_WAY_MAX = 12;

export const diskDrillDefaults = {
  steps: ['return', 'replace', 'standby', 'interrupt'] as readonly Step[],
  clients: 16,
  ratePerSecond: 500,
  writesPerSecond: 0,
  regionBlocks: REGION_BLOCKS_MAX,
  lifeMsMax: 1000,
  seed: 1,
} as const;
export const DISK_BYTES = 64 * MIB;

/** Runs the drill to its end. Throws, with what the processes said, when a side does not follow. */
export async function runDiskDrill(options: DiskDrillOptions): Promise<DiskDrillReport> {
  const pair = new Pair(options.pair);
  let oracle: OracleProcess | undefined;
  try {
    fillImage(pair.imagePath(pair.slots[0]), options.pair.diskBytes);
    await pair.start();
    oracle = await startLoad(pair, options);
    const kills: DiskKill[] = [];
    let auditMismatches = 0;
    let random = options.seed;
    for (let n = 0; n < options.runs; n++) {
      random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
      await sleep(options.lifeMsMax * (0.2 + 0.8 * (random / 2 ** 32)));
      auditMismatches += pair.active?.figure('auditMismatches') ?? 0;
      const kill = await killOnce(
        pair,
        oracle,
        options.steps[n % options.steps.length] ?? 'return',
      );
      kills.push(kill);
      options.onKill?.(kill, n + 1);
    }
    auditMismatches += pair.active?.figure('auditMismatches') ?? 0;
    const end = await finish(pair, oracle, options.regionBlocks);
    return { ...summarize(options, kills), ...end, auditMismatches };
  } catch (thrown) {
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    throw new Error(`${message}\n=== what the nodes said\n${pair.story()}`);
  } finally {
    await oracle?.close();
    await pair.close();
  }
}

/** Clients that write and read blocks, and the guest's own load on disk and memory. */
export async function startLoad(pair: Pair, options: DiskDrillOptions): Promise<OracleProcess> {
  const { clients, ratePerSecond, writesPerSecond, seed } = options;
  const disk: DiskOptions = {
    shares: [6, 2, 1],
    disk: 0,
    firstBlock: 0,
    blocksPerClient: BLOCKS_PER_CLIENT,
  };
  const settings = { clients, ratePerSecond, seed, mix: [1, 1, 1] as const, disk };
  const oracle = await OracleProcess.start({ ...pair.guest, ...settings }, pair.netns?.name);
  await oracle.load({ pagesPerMs: 4, bytesPerPage: 8, workingSetPages: 256, spin: false });
  await oracle.diskLoad({
    disk: 0,
    underWayMax: UNDER_WAY_MAX,
    writesPerSecond,
    firstBlock: REGION_FIRST,
    blocks: options.regionBlocks,
  });
  await oracle.start();
  return oracle;
}

async function killOnce(pair: Pair, oracle: OracleProcess, step: Step): Promise<DiskKill> {
  const taken = step === 'standby' ? await killStandby(pair) : await takeOver(pair, oracle);
  if (step === 'replace') pair.blankImage(pair.freeSlot);
  if (step === 'interrupt') await interruptSync(pair);
  const startedMs = performance.now();
  await pair.rejoin();
  const reprotectedMs = performance.now() - startedMs;
  return { step, ...taken, reprotectedMs, syncBytes: await syncBytesOf(activeOf(pair)) };
}

async function takeOver(
  pair: Pair,
  oracle: OracleProcess,
): Promise<Pick<DiskKill, 'early' | 'promotedMs' | 'firstDiskAnswerMs'>> {
  const { early, killedUs, promotedMs } = await pair.killActive();
  const isAnswered = async (): Promise<boolean> =>
    (await oracle.silence(killedUs, 20, true)) !== undefined;
  await until('an answer of the disk after the promotion', isAnswered, 10_000);
  await sleep(30);
  // A silence that begins within 20 ms of the kill: what comes later has other reasons.
  const silence = await oracle.silence(killedUs, 20, true);
  if (silence === undefined) throw new Error('No answer of the disk was heard after the kill.');
  return { early, promotedMs, firstDiskAnswerMs: (silence.toUs - killedUs) / 1000 };
}

async function killStandby(pair: Pair): Promise<{ readonly early: boolean }> {
  const active = activeOf(pair);
  const { standby } = pair;
  if (standby === undefined) throw new Error('There is no standby.');
  const from = active.process.lines.length;
  standby.process.kill('SIGKILL');
  await standby.process.waitExit(5000);
  await active.waitState(['solo'], 5000, from);
  // The guest writes on alone: this is what the returning image lacks.
  await sleep(200);
  return { early: false };
}

/** The node that returns dies while the sync runs: its image is a mixture then, its map must say so. */
async function interruptSync(pair: Pair): Promise<void> {
  const active = activeOf(pair);
  const from = active.process.lines.length;
  const node = pair.startStandby(pair.freeSlot);
  await active.waitState(['syncing'], 10_000, from);
  await sleep(15);
  const then = active.process.lines.length;
  node.process.kill('SIGKILL');
  await node.process.waitExit(5000);
  await active.waitState(['solo'], 5000, then);
}

/** What the sync of the session that was just protected has sent. */
async function syncBytesOf(active: PairNode): Promise<number> {
  await active.waitStatus('a status line', () => true, 5000);
  return active.figure('diskSyncBytes');
}

/** The guest comes to rest and everything is judged; then both are stopped and the images, too. */
async function finish(
  pair: Pair,
  oracle: OracleProcess,
  regionBlocks: number,
): Promise<Pick<DiskDrillReport, 'verdict' | 'disk' | 'load' | 'imageBytesUnlike'>> {
  const load = await restDisk(oracle);
  const verdict = await oracle.finish();
  const image = pair.imagePath(activeOf(pair).slot);
  await pair.stopInOrder();
  const disk = await judgeImage(oracle, image, load, regionBlocks);
  const [a, b] = pair.slots;
  return {
    verdict,
    disk,
    load,
    imageBytesUnlike: compareImages(pair.imagePath(a), pair.imagePath(b)),
  };
}

/** Stops the guest's own disk load and waits until nothing of it is under way. */
export async function restDisk(oracle: OracleProcess): Promise<DiskFigures> {
  const none = { disk: 0, underWayMax: 0, writesPerSecond: 0, firstBlock: 0, blocks: 0 };
  let before = await oracle.diskLoad(none);
  await until(
    'the end of the disk load',
    async () => {
      await sleep(100);
      const now = await oracle.diskFigures();
      const isStill = now.writes === before.writes && now.reads === before.reads;
      before = now;
      return isStill;
    },
    10_000,
  );
  return before;
}

/** Judges all disk requests, and the image of a guest that has ended after it came to rest. */
export function judgeImage(
  oracle: OracleProcess,
  image: string,
  load: DiskFigures,
  regionBlocks: number = REGION_BLOCKS_MAX,
): Promise<DiskVerdict> {
  const region = { disk: 0, first: REGION_FIRST, count: regionBlocks, newest: load.writes };
  return oracle.judgeDisk({ image, region });
}

function summarize(
  options: DiskDrillOptions,
  kills: readonly DiskKill[],
): Omit<DiskDrillReport, 'verdict' | 'disk' | 'load' | 'imageBytesUnlike' | 'auditMismatches'> {
  const { clients, ratePerSecond, writesPerSecond, regionBlocks, lifeMsMax, seed, steps } = options;
  const sudden = kills.filter((kill) => !kill.early);
  const answered = numbersOf(sudden.map((kill) => kill.firstDiskAnswerMs));
  const promoted = numbersOf(sudden.map((kill) => kill.promotedMs));
  const partial = kills.filter((kill) => isPartial(kill.step)).map((kill) => kill.syncBytes);
  const full = kills.filter((kill) => kill.step === 'replace').map((kill) => kill.syncBytes);
  return {
    ...describeSite(),
    runs: kills.length,
    earlyTakeovers: kills.length - sudden.length,
    parameters: {
      ...options.pair,
      ...{ clients, ratePerSecond, writesPerSecond, regionBlocks, lifeMsMax, seed, steps },
    },
    firstDiskAnswerMsP50: quantileOf(answered, 0.5),
    firstDiskAnswerMsMax: Math.max(0, ...answered),
    promotedMsP50: quantileOf(promoted, 0.5),
    promotedMsMax: Math.max(0, ...promoted),
    reprotectedMsP50: quantileOf(
      kills.map((kill) => kill.reprotectedMs),
      0.5,
    ),
    partialSyncBytesP50: quantileOf(partial, 0.5),
    partialSyncBytesMax: Math.max(0, ...partial),
    fullSyncBytesMin: full.length === 0 ? 0 : Math.min(...full),
    kills,
  };
}

/** Steps after which both maps belong together, so that only a part is sent. */
export function isPartial(step: Step): boolean {
  return step === 'return' || step === 'standby';
}

function activeOf(pair: Pair): PairNode {
  if (pair.active === undefined) throw new Error('There is no active side.');
  return pair.active;
}

function numbersOf(values: readonly (number | undefined)[]): number[] {
  return values.filter((value) => value !== undefined);
}

/** The report in a few lines. */
export function diskDrillText(report: DiskDrillReport): string {
  const { verdict, disk, load } = report;
  const mib = (bytes: number): string => `${figure(bytes / MIB, 1)} MiB`;
  return [
    `${report.runs} kills: ${figure(disk.acknowledged)} writes answered of ${figure(disk.writes)}, ` +
      `${disk.lost} lost, ${disk.torn} torn, ${disk.damaged} otherwise wrong; ` +
      `${figure(verdict.requests)} requests, ${verdict.unanswered} unanswered, ` +
      `${verdict.lost} lost, ${verdict.regressed} regressed`,
    `the guest's own load            ${figure(load.writes)} writes, ${figure(load.reads)} read back, ` +
      `${load.errors} errors, ${load.broken} broken`,
    `images at the end               ${figure(disk.imageBlocks)} + ${figure(disk.loadBlocks)} blocks ` +
      `judged, ${report.imageBytesUnlike} bytes unlike`,
    `SIGKILL to first disk answer    p50 ${figure(report.firstDiskAnswerMsP50, 1)} ms   ` +
      `max ${figure(report.firstDiskAnswerMsMax, 1)} ms`,
    `SIGKILL to promoted             p50 ${figure(report.promotedMsP50, 1)} ms   ` +
      `max ${figure(report.promotedMsMax, 1)} ms`,
    `node started to protected       p50 ${figure(report.reprotectedMsP50, 1)} ms`,
    `sent by a sync from a map       p50 ${mib(report.partialSyncBytesP50)}   ` +
      `max ${mib(report.partialSyncBytesMax)}; whole: ${mib(report.fullSyncBytesMin)}`,
    `audit mismatches ${report.auditMismatches}, takeovers before the kill ${report.earlyTakeovers}`,
    ...verdict.violations.map((violation) => `  ${violation.story}`),
    ...disk.stories.map((story) => `  ${story}`),
  ].join('\n');
}

/** Gives an image bytes that do not compress and differ from block to block; no holes. */
function fillImage(path: string, bytes: number): void {
  const file = openSync(path, 'r+');
  const chunk = Buffer.alloc(MIB);
  let word = 0x9e3779b9;
  for (let at = BLOCK_BYTES * (REGION_FIRST + REGION_BLOCKS_MAX); at < bytes; at += MIB) {
    for (let i = 0; i < MIB; i += 4) {
      word = (Math.imul(word, 1664525) + 1013904223) >>> 0;
      chunk.writeUInt32LE(word, i);
    }
    writeSync(file, chunk, 0, Math.min(MIB, bytes - at), at);
  }
  closeSync(file);
}

/** In how many bytes two images differ; a difference in length counts. */
function compareImages(left: string, right: string): number {
  const files = [openSync(left, 'r'), openSync(right, 'r')] as const;
  const [a, b] = [Buffer.alloc(MIB), Buffer.alloc(MIB)];
  let unlike = Math.abs(statSync(left).size - statSync(right).size);
  const bytes = fstatSync(files[0]).size;
  for (let at = 0; at < bytes; at += MIB) {
    const length = readSync(files[0], a, 0, MIB, at);
    b.fill(0);
    readSync(files[1], b, 0, length, at);
    if (a.compare(b, 0, length, 0, length) === 0) continue;
    for (let i = 0; i < length; i++) if (a[i] !== b[i]) unlike++;
  }
  for (const file of files) closeSync(file);
  return unlike;
}
