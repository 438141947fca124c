/** What the status lines of a measured stretch say, put together. Pure: lines in, figures out. */
import { quantileOf } from '../src/common/quantile';
import type { Line } from '../src/drill/process/process';
import { readStages, type StageTimes } from './stages';

export interface NodeFigures {
  /** Of `floor`: harvested. */
  readonly committedEpochsPerSecond: number;
  /** The worst second. */
  readonly committedEpochsPerSecondMin: number;
  readonly dirtyPagesPerEpoch: number;
  /** The work inside the pause, as the primary measures it, µs. */
  readonly pauseUsP50: number;
  readonly pauseUsP99: number;
  readonly pauseUsMax: number;
  /** From a cut to its acknowledgement, µs. */
  readonly ackUsP50: number;
  readonly ackUsP99: number;
  readonly wireBytesPerDirtyByte: number;
  /** The longest that the event loop of either process was away, µs; 0 when they do not say. */
  readonly eventLoopUsMax: number;
  readonly auditMismatches: number;
  /** Where an epoch's time went; empty when the nodes do not say. */
  readonly stages: readonly StageTimes[];
}

/** Of a guest without any epochs. */
export const NO_FIGURES: NodeFigures = {
  committedEpochsPerSecond: 0,
  committedEpochsPerSecondMin: 0,
  dirtyPagesPerEpoch: 0,
  pauseUsP50: 0,
  pauseUsP99: 0,
  pauseUsMax: 0,
  ackUsP50: 0,
  ackUsP99: 0,
  wireBytesPerDirtyByte: 0,
  eventLoopUsMax: 0,
  auditMismatches: 0,
  stages: [],
};

/** Ours, from the status lines of the primary and of its standby. */
export function readReplication(primary: readonly Line[], standby: readonly Line[]): NodeFigures {
  const lines = statusOf(primary);
  const rates = ratesOf(lines, 'epochCommitted');
  const raw = sum(lines, 'rawBytesPerSecond');
  return {
    committedEpochsPerSecond: rates.mean,
    committedEpochsPerSecondMin: rates.worst,
    dirtyPagesPerEpoch: quantileOf(column(lines, 'dirtyPagesPerEpoch'), 0.5),
    pauseUsP50: quantileOf(column(lines, 'pauseUsP50'), 0.5),
    pauseUsP99: quantileOf(column(lines, 'pauseUsP99'), 0.5),
    pauseUsMax: most(lines, 'pauseUsMax'),
    ackUsP50: quantileOf(column(lines, 'ackUsP50'), 0.5),
    ackUsP99: quantileOf(column(lines, 'ackUsP99'), 0.5),
    wireBytesPerDirtyByte: raw > 0 ? sum(lines, 'wireBytesPerSecond') / raw : 0,
    eventLoopUsMax: most([...lines, ...statusOf(standby)], 'eventLoopUsMax'),
    auditMismatches: numberOf(lines[lines.length - 1], 'auditMismatches'),
    stages: readStages(lines, statusOf(standby)),
  };
}

/** The floor: epochs that were harvested, and nothing else. */
export function readFloor(all: readonly Line[]): NodeFigures {
  const lines = statusOf(all);
  const rates = ratesOf(lines, 'floorEpochs');
  const epochs = grown(lines, 'floorEpochs');
  return {
    ...NO_FIGURES,
    committedEpochsPerSecond: rates.mean,
    committedEpochsPerSecondMin: rates.worst,
    dirtyPagesPerEpoch: epochs > 0 ? grown(lines, 'floorPages') / epochs : 0,
  };
}

/** A number of a status line, 0 when it is not there. */
export function numberOf(line: Line | undefined, name: string): number {
  const value = line?.fields[name];
  return typeof value === 'number' ? value : 0;
}

/** Status lines have no `event`. */
function statusOf(lines: readonly Line[]): Line[] {
  return lines.filter((line) => line.fields['event'] === undefined);
}

function column(lines: readonly Line[], name: string): number[] {
  return lines.map((line) => numberOf(line, name));
}

function sum(lines: readonly Line[], name: string): number {
  return column(lines, name).reduce((total, value) => total + value, 0);
}

function most(lines: readonly Line[], name: string): number {
  return Math.max(0, ...column(lines, name));
}

function grown(lines: readonly Line[], name: string): number {
  return numberOf(lines[lines.length - 1], name) - numberOf(lines[0], name);
}

/** How fast a counter grew: over all lines, and in the worst second. */
function ratesOf(lines: readonly Line[], name: string): { mean: number; worst: number } {
  const secondsBetween = (from: Line, to: Line): number => (to.atUs - from.atUs) / 1e6;
  const rate = (from: Line, to: Line): number => {
    const seconds = secondsBetween(from, to);
    return seconds > 0 ? (numberOf(to, name) - numberOf(from, name)) / seconds : 0;
  };
  const first = lines[0];
  const last = lines[lines.length - 1];
  if (first === undefined || last === undefined) return { mean: 0, worst: 0 };
  const bySecond = lines.flatMap((from, at) => {
    const to = lines.slice(at + 1).find((line) => secondsBetween(from, line) >= 0.9);
    return to === undefined ? [] : [rate(from, to)];
  });
  const mean = rate(first, last);
  return { mean, worst: bySecond.length > 0 ? Math.min(...bySecond) : mean };
}
