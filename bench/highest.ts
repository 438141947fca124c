/**
 * The highest rate of full epochs, of the floor and of ours: each searched for by itself, then both
 * measured in turns, so that what else the host does falls on both.
 *
 *   search floor · search ours · floor · ours · floor · ours …
 */
import { figure } from '../src/drill/report/report';
import { type Run, StarvedGuest } from './measure';
import { median } from './rows';
import { findHighestRate, isFull, type Probe } from './search';
import { NO_FIGURES } from './status-figures';

/** How one of the two did at the interval that was found for it. */
export interface Peak {
  readonly intervalUs: number;
  /** Medians of its runs. */
  readonly epochsPerSecond: number;
  readonly dirtyPagesPerEpoch: number;
  readonly guestGapUsP50: number;
  readonly guestGapUsP99: number;
  readonly full: boolean;
  readonly eachEpochsPerSecond: readonly number[];
}

export interface Highest {
  readonly dirtyPages: number;
  readonly changedBytes: number;
  readonly floor: Peak;
  readonly ours: Peak;
  /** Ours by the floor: the median of the turns. */
  readonly oursVsFloor: number;
  readonly probes: { readonly floor: readonly Probe[]; readonly ours: readonly Probe[] };
  readonly violations: number;
}

/** Runs the guest once. The caller knows all else that a run needs. */
export type Runner = (
  kind: 'floor' | 'ours',
  pages: number,
  changedBytes: number,
  intervalUs: number,
  seconds: number,
  warmUpMs?: number,
) => Promise<Run>;

export interface HighestOptions {
  readonly probeSeconds: number;
  readonly probesMax: number;
  readonly seconds: number;
  readonly turns: number;
}

/** The least that --interval-us takes, and more than any epoch needs. */
export const INTERVAL_US_MIN = 20;
const INTERVAL_US_MAX = 1_000_000;
/**
 * Where the searches begin, µs: about what the floor needs on the machine it was first run on, and
 * by how much more ours does.
 */
const FIRST_US = 110;
const FIRST_US_PER_PAGE = 2.7;
const FIRST_OURS = 1.3;
/** A probe need not be as exact as what is reported. */
const PROBE_WARM_UP_MS = 600;
/** Where the fill was just not enough in the long runs, the interval is raised so often, by this. */
const RETRIES = 2;
const RAISE = 1.06;

/** The interval at which most full epochs a second were made; undefined when there is none. */
export async function searchPeak(
  run: Runner,
  kind: 'floor' | 'ours',
  pages: number,
  changedBytes: number,
  options: HighestOptions,
  say: (text: string) => void,
): Promise<{ best: Probe | undefined; probes: Probe[] }> {
  const probes: Probe[] = [];
  const probe = async (intervalUs: number): Promise<Probe> => {
    const one = await run(
      kind,
      pages,
      changedBytes,
      intervalUs,
      options.probeSeconds,
      PROBE_WARM_UP_MS,
    ).catch((thrown: unknown) => {
      if (thrown instanceof StarvedGuest) return NO_FIGURES;
      throw thrown;
    });
    const { committedEpochsPerSecond: epochsPerSecond, dirtyPagesPerEpoch } = one;
    const found = { intervalUs, epochsPerSecond, dirtyPagesPerEpoch };
    probes.push(found);
    say(`  ${kind} every ${figure(intervalUs)} us: ${probeText(found)}`);
    return found;
  };
  // What a page costs beside its fault grows with the bytes that are changed in it.
  const perPage = FIRST_US_PER_PAGE + changedBytes / 4096;
  const best = await findHighestRate(probe, {
    pages,
    firstUs: (FIRST_US + perPage * pages) * (kind === 'ours' ? FIRST_OURS : 1),
    leastUs: INTERVAL_US_MIN,
    mostUs: INTERVAL_US_MAX,
    probesMax: options.probesMax,
  });
  return { best, probes };
}

function probeText({ epochsPerSecond, dirtyPagesPerEpoch }: Probe): string {
  if (epochsPerSecond === 0) return 'the guest gets nowhere';
  return `${figure(epochsPerSecond)}/s of ${figure(dirtyPagesPerEpoch, 1)} pages`;
}

/** Both searches and the turns; undefined when either never makes full epochs. */
export async function measureHighest(
  run: Runner,
  pages: number,
  changedBytes: number,
  options: HighestOptions,
  say: (text: string) => void,
): Promise<Highest | undefined> {
  const floor = await searchPeak(run, 'floor', pages, changedBytes, options, say);
  const ours = await searchPeak(run, 'ours', pages, changedBytes, options, say);
  if (floor.best === undefined || ours.best === undefined) return undefined;
  let floorUs = floor.best.intervalUs;
  let oursUs = ours.best.intervalUs;
  for (let retry = 0; ; retry++) {
    const floors: Run[] = [];
    const protectedOnes: Run[] = [];
    for (let turn = 0; turn < options.turns; turn++) {
      floors.push(await run('floor', pages, changedBytes, floorUs, options.seconds));
      protectedOnes.push(await run('ours', pages, changedBytes, oursUs, options.seconds));
    }
    const found: Highest = {
      dirtyPages: pages,
      changedBytes,
      floor: peakOf(floors, pages),
      ours: peakOf(protectedOnes, pages),
      oursVsFloor: ratioOf(floors, protectedOnes),
      probes: { floor: floor.probes, ours: ours.probes },
      violations: [...floors, ...protectedOnes].reduce((sum, one) => sum + one.violations, 0),
    };
    if ((found.floor.full && found.ours.full) || retry === RETRIES) return found;
    if (!found.floor.full) floorUs = Math.ceil(floorUs * RAISE);
    if (!found.ours.full) oursUs = Math.ceil(oursUs * RAISE);
  }
}

function peakOf(runs: readonly Run[], pages: number): Peak {
  const dirtyPagesPerEpoch = median(runs.map((one) => one.dirtyPagesPerEpoch));
  return {
    intervalUs: runs[0]?.intervalUs ?? 0,
    epochsPerSecond: median(runs.map((one) => one.committedEpochsPerSecond)),
    dirtyPagesPerEpoch,
    guestGapUsP50: median(runs.map((one) => one.gapUsP50)),
    guestGapUsP99: median(runs.map((one) => one.gapUsP99)),
    full: isFull(dirtyPagesPerEpoch, pages),
    eachEpochsPerSecond: runs.map((one) => one.committedEpochsPerSecond),
  };
}

function ratioOf(floors: readonly Run[], ours: readonly Run[]): number {
  const ratios = ours.flatMap((one, turn) => {
    const floor = floors[turn]?.committedEpochsPerSecond ?? 0;
    return floor > 0 ? [one.committedEpochsPerSecond / floor] : [];
  });
  return median(ratios);
}

export const HIGHEST_HEADS = [
  'dirty pages',
  'floor/s',
  'its pages',
  'its us',
  'ours/s',
  'its pages',
  'its us',
  'ours/floor',
] as const;

export function highestCells(one: Highest): string[] {
  const peak = (of: Peak): string[] => [
    `${figure(of.epochsPerSecond)}${of.full ? '' : ' (not full)'}`,
    figure(of.dirtyPagesPerEpoch, 1),
    figure(of.intervalUs),
  ];
  return [
    `${figure(one.dirtyPages)} x ${figure(one.changedBytes)} B`,
    ...peak(one.floor),
    ...peak(one.ours),
    `${figure(one.oursVsFloor * 100, 1)} %`,
  ];
}

/**
 * What the floor can reach at all: its time for an epoch as a + b × pages, fitted to what was
 * measured in this run. Undefined when fewer than two numbers of pages were.
 */
export function fitFloor(measured: readonly Highest[]): ((pages: number) => number) | undefined {
  const points = measured.map((one) => ({ x: one.dirtyPages, y: 1e6 / one.floor.epochsPerSecond }));
  const meanX = points.reduce((sum, { x }) => sum + x, 0) / points.length;
  const meanY = points.reduce((sum, { y }) => sum + y, 0) / points.length;
  const spread = points.reduce((sum, { x }) => sum + (x - meanX) ** 2, 0);
  if (!(spread > 0)) return undefined;
  const slope = points.reduce((sum, { x, y }) => sum + (x - meanX) * (y - meanY), 0) / spread;
  return (pages) => 1e6 / Math.max(INTERVAL_US_MIN, meanY + slope * (pages - meanX));
}
