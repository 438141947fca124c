/**
 * Rows of the table of epochs: what a protected run showed, against the floor and the unprotected
 * guest that stood around it; and the median of several such runs.
 *
 *   bare · floor · ours · floor · bare     (the last bare run is the first of the next)
 *
 * What else the host does falls on all of them. Pure.
 */
import { figure } from '../src/drill/report/report';
import type { Run } from './measure';
import type { StageTimes } from './stages';

/** What is asked of the guest and of the product. */
export interface Cell {
  readonly dirtyPages: number;
  readonly changedBytes: number;
  /** null: as fast as it goes. */
  readonly targetEpochsPerSecond: number | null;
}

/** One protected run and what stood around it. No floor when the machine has none. */
export interface Sample {
  readonly ours: Run;
  readonly floors: readonly Run[];
  readonly bares: readonly Run[];
}

/** The figures of a row that a sample gives, and the medians of several samples. */
export interface RowFigures {
  readonly committedEpochsPerSecond: number;
  readonly committedEpochsPerSecondMin: number;
  readonly dirtyPagesPerEpoch: number;
  readonly pauseUsP50: number;
  readonly pauseUsP99: number;
  readonly pauseUsMax: number;
  readonly guestGapUsP50: number;
  readonly guestGapUsP99: number;
  readonly guestGapUsMax: number;
  readonly ackUsP50: number;
  readonly ackUsP99: number;
  readonly floorEpochsPerSecond: number;
  readonly floorDirtyPagesPerEpoch: number;
  readonly floorGapUsP50: number;
  readonly floorGapUsP99: number;
  readonly guestProgressVsFloor: number;
  readonly floorProgressSpread: number;
  readonly guestProgressVsUnprotected: number;
  readonly unprotectedProgressSpread: number;
  readonly latencyUsP50: number;
  readonly latencyUsP99: number;
  readonly latencyUsMax: number;
  readonly addedLatencyUsP50: number;
  readonly addedLatencyUsP99: number;
  readonly wireBytesPerDirtyByte: number;
  readonly eventLoopUsMax: number;
  readonly primaryMemoryMiB: number;
  readonly standbyMemoryMiB: number;
}

export interface Row extends Cell, RowFigures {
  readonly seconds: number;
  readonly intervalUs: number | null;
  readonly runs: number;
  readonly auditMismatches: number;
  readonly violations: number;
  readonly stages: readonly StageTimes[];
  /** Every run by itself. */
  readonly samples: readonly RowFigures[];
}

/** A cell that was not measured, and why. */
export interface Skipped extends Cell {
  readonly reason: string;
}

/** Below this part of what was asked for, a row does not stand for the rate that it was to show. */
const KEPT_UP_SHARE = 0.95;

/** True when ours made the epochs that were asked for, so that progress can be compared at all. */
export function keptUp({ intervalUs, committedEpochsPerSecond }: Row): boolean {
  if (intervalUs === null) return true;
  return committedEpochsPerSecond >= (KEPT_UP_SHARE * 1e6) / intervalUs;
}

export function rateName(target: number | null): string {
  return target === null ? 'back to back' : `${figure(target)}/s`;
}

export function cellName(cell: Cell): string {
  return `${figure(cell.dirtyPages)} x ${figure(cell.changedBytes)} B, ${rateName(cell.targetEpochsPerSecond)}`;
}

/** The medians of the samples; sums of what must not happen at all. */
export function makeRow(cell: Cell, samples: readonly Sample[]): Row {
  const each = samples.map(compare);
  const runs = samples.flatMap(({ ours, floors, bares }) => [ours, ...floors, ...bares]);
  const ours = samples.map((sample) => sample.ours);
  const total = (values: readonly number[]): number => values.reduce((sum, one) => sum + one, 0);
  return {
    ...cell,
    ...medians(each),
    seconds: ours[0]?.seconds ?? 0,
    intervalUs: ours[0]?.intervalUs ?? null,
    runs: samples.length,
    auditMismatches: total(ours.map((run) => run.auditMismatches)),
    violations: total([...new Set(runs)].map((run) => run.violations)),
    stages: medianStages(ours),
    samples: each,
  };
}

/** One sample: ours against the means of what stood around it. */
export function compare({ ours, floors, bares }: Sample): RowFigures {
  const floor = meanOf(floors);
  const bare = meanOf(bares);
  return {
    committedEpochsPerSecond: ours.committedEpochsPerSecond,
    committedEpochsPerSecondMin: ours.committedEpochsPerSecondMin,
    dirtyPagesPerEpoch: ours.dirtyPagesPerEpoch,
    pauseUsP50: ours.pauseUsP50,
    pauseUsP99: ours.pauseUsP99,
    pauseUsMax: ours.pauseUsMax,
    guestGapUsP50: ours.gapUsP50,
    guestGapUsP99: ours.gapUsP99,
    guestGapUsMax: ours.gapUsMax,
    ackUsP50: ours.ackUsP50,
    ackUsP99: ours.ackUsP99,
    floorEpochsPerSecond: floor((run) => run.committedEpochsPerSecond),
    floorDirtyPagesPerEpoch: floor((run) => run.dirtyPagesPerEpoch),
    floorGapUsP50: floor((run) => run.gapUsP50),
    floorGapUsP99: floor((run) => run.gapUsP99),
    ...against('guestProgressVsFloor', 'floorProgressSpread', ours, floors),
    ...against('guestProgressVsUnprotected', 'unprotectedProgressSpread', ours, bares),
    latencyUsP50: ours.latencyUsP50,
    latencyUsP99: ours.latencyUsP99,
    latencyUsMax: ours.latencyUsMax,
    addedLatencyUsP50: ours.latencyUsP50 - bare((run) => run.latencyUsP50),
    addedLatencyUsP99: ours.latencyUsP99 - bare((run) => run.latencyUsP99),
    wireBytesPerDirtyByte: ours.wireBytesPerDirtyByte,
    eventLoopUsMax: ours.eventLoopUsMax,
    primaryMemoryMiB: ours.primaryMemoryMiB,
    standbyMemoryMiB: ours.standbyMemoryMiB,
  };
}

/** How far apart the runs around a sample were, and how ours did against their mean. */
function against<Ratio extends string, Spread extends string>(
  ratio: Ratio,
  spread: Spread,
  ours: Run,
  others: readonly Run[],
): Record<Ratio | Spread, number> {
  const rates = others.map((run) => run.progressPerSecond);
  const mean = meanOf(others)((run) => run.progressPerSecond);
  return {
    [ratio]: mean > 0 ? ours.progressPerSecond / mean : 0,
    [spread]: mean > 0 ? (Math.max(...rates) - Math.min(...rates)) / mean : 0,
  } as Record<Ratio | Spread, number>;
}

function meanOf(runs: readonly Run[]): (of: (run: Run) => number) => number {
  return (of) =>
    runs.length === 0 ? 0 : runs.reduce((sum, run) => sum + of(run), 0) / runs.length;
}

/** Even counts: the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const ascending = [...values].sort((a, b) => a - b);
  const upper = Math.floor(ascending.length / 2);
  const lower = Math.floor((ascending.length - 1) / 2);
  return ((ascending[lower] ?? 0) + (ascending[upper] ?? 0)) / 2;
}

function medians(each: readonly RowFigures[]): RowFigures {
  const first = each[0];
  if (first === undefined) throw new Error('A row needs at least one run.');
  const names = Object.keys(first) as (keyof RowFigures)[];
  const entries = names.map((name) => [name, median(each.map((one) => one[name]))]);
  return Object.fromEntries(entries) as unknown as RowFigures;
}

function medianStages(runs: readonly Run[]): StageTimes[] {
  const first = runs[0]?.stages ?? [];
  return first.map(({ stage }) => {
    const all = runs.flatMap((run) => run.stages.filter((one) => one.stage === stage));
    return {
      stage,
      usP50: median(all.map((one) => one.usP50)),
      usP99: median(all.map((one) => one.usP99)),
      usMax: Math.max(...all.map((one) => one.usMax)),
    };
  });
}
