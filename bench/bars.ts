/**
 * What the product is to reach, said openly for each: reached, NOT reached (with the figure), or
 * not measured in this run. Pure.
 */
import { figure } from '../src/drill/report/report';
import { GROWTH_MIB_MAX, type Growth, growthText } from './growth';
import type { Highest } from './highest';
import { GUEST_MEMORY_MIB } from './measure';
import { cellName, keptUp, type Row } from './rows';
import { isFull } from './search';

export interface Bar {
  readonly what: string;
  /** undefined: nothing in this run answers it. */
  readonly reached: boolean | undefined;
  readonly figures: string;
}

export interface Measured {
  readonly rows: readonly Row[];
  readonly highest: readonly Highest[];
  /** A guest that does little, protected as by default. */
  readonly light: Row | undefined;
  readonly growth: Growth | undefined;
}

const RATES: readonly (readonly [number, number])[] = [
  [1, 10_000],
  [16, 10_000],
  [64, 4_000],
];
const FLOOR_SHARE = 0.85;
const PROGRESS_SHARE = 0.9;
const MEMORY_MORE_MIB = 256;
const EVENT_LOOP_US_MAX = 5000;
const GROWTH_SECONDS = 600;
const BAR_CHANGED_BYTES = 8;

export function judgeBars(measured: Measured): Bar[] {
  return [
    ...RATES.flatMap(([pages, rate]) => rateBars(measured.highest, pages, rate)),
    ...pauseBars(measured.rows),
    ...latencyBars(measured.light),
    ...wireBars(measured.rows),
    ...resourceBars(measured),
    growthBar(measured.growth),
  ];
}

function rateBars(highest: readonly Highest[], pages: number, rate: number): Bar[] {
  const found = highest.find(
    (one) => one.dirtyPages === pages && one.changedBytes === BAR_CHANGED_BYTES,
  );
  const rateWhat = `at least ${figure(rate)} committed epochs/s with ${pages} dirty pages`;
  const shareWhat = `at least ${figure(FLOOR_SHARE * 100)} % of the floor's highest rate with ${pages}`;
  if (found === undefined) return [notMeasured(rateWhat), notMeasured(shareWhat)];
  const { ours, floor, oursVsFloor } = found;
  const full = ours.full ? '' : ', epochs not full';
  return [
    {
      what: rateWhat,
      reached: ours.full && ours.epochsPerSecond >= rate,
      figures: `${figure(ours.epochsPerSecond)}/s of ${figure(ours.dirtyPagesPerEpoch, 1)} pages; the floor alone ${figure(floor.epochsPerSecond)}/s${full}`,
    },
    {
      what: shareWhat,
      reached: ours.full && oursVsFloor >= FLOOR_SHARE,
      figures: `${figure(oursVsFloor * 100, 1)} %${full}`,
    },
  ];
}

function pauseBars(rows: readonly Row[]): Bar[] {
  const row = rows.find(
    (one) =>
      one.dirtyPages === 64 &&
      one.changedBytes === BAR_CHANGED_BYTES &&
      one.targetEpochsPerSecond === 2500,
  );
  const progress = "at least 90 % of the floor's progress at 2,500 epochs/s of 64 pages";
  const gap = 'guest-visible pause with 64 pages: p50 at most 50 us, p99 at most 100 us';
  const work = 'work inside the pause with 64 pages: p50 at most 20 us';
  if (row === undefined) return [progress, gap, work].map(notMeasured);
  const full = isFull(row.dirtyPagesPerEpoch, row.dirtyPages) && keptUp(row);
  return [
    {
      what: progress,
      reached:
        row.floorEpochsPerSecond === 0
          ? undefined
          : full && row.guestProgressVsFloor >= PROGRESS_SHARE,
      figures:
        `${figure(row.guestProgressVsFloor * 100, 1)} % at ` +
        `${figure(row.committedEpochsPerSecond)}/s of ${figure(row.dirtyPagesPerEpoch, 1)} pages`,
    },
    {
      what: gap,
      reached: row.guestGapUsP50 <= 50 && row.guestGapUsP99 <= 100,
      figures:
        `${figure(row.guestGapUsP50, 1)} / ${figure(row.guestGapUsP99, 1)} us; ` +
        `the floor's ${figure(row.floorGapUsP50, 1)} / ${figure(row.floorGapUsP99, 1)} us`,
    },
    { what: work, reached: row.pauseUsP50 <= 20, figures: `${figure(row.pauseUsP50, 1)} us` },
  ];
}

function latencyBars(light: Row | undefined): Bar[] {
  const what = 'added to an incr at light load: p50 at most 200 us, p99 at most 1 ms';
  if (light === undefined) return [notMeasured(what)];
  return [
    {
      what,
      reached: light.addedLatencyUsP50 <= 200 && light.addedLatencyUsP99 <= 1000,
      figures: `${figure(light.addedLatencyUsP50)} / ${figure(light.addedLatencyUsP99)} us`,
    },
  ];
}

function wireBars(rows: readonly Row[]): Bar[] {
  const worst = (of: readonly Row[], what: string, bound: number): Bar => {
    const row = of.reduce<Row | undefined>(
      (most, one) =>
        most === undefined || one.wireBytesPerDirtyByte > most.wireBytesPerDirtyByte ? one : most,
      undefined,
    );
    if (row === undefined) return notMeasured(what);
    return {
      what,
      reached: row.wireBytesPerDirtyByte <= bound,
      figures: `at most ${figure(row.wireBytesPerDirtyByte * 100, 2)} % (${cellName(row)})`,
    };
  };
  const sparse = rows.filter((row) => row.changedBytes === BAR_CHANGED_BYTES);
  return [
    worst(sparse, 'wire bytes at most 5 % of dirty bytes with 8 bytes changed a page', 0.05),
    worst(rows, 'wire bytes never more than 101 % of dirty bytes', 1.01),
  ];
}

function resourceBars({ rows, light }: Measured): Bar[] {
  const all = light === undefined ? rows : [...rows, light];
  const most = (of: (row: Row) => number): number => Math.max(0, ...all.map(of));
  const primary = most((row) => row.primaryMemoryMiB);
  const standby = most((row) => row.standbyMemoryMiB);
  const loop = most((row) => row.eventLoopUsMax);
  const mixed = all.some((row) => row.dirtyPages === 4096);
  return [
    {
      what: 'memory: guest x 2 + 256 MiB on the primary, guest x 1 + 256 MiB on the standby',
      reached:
        primary === 0
          ? undefined
          : primary <= GUEST_MEMORY_MIB * 2 + MEMORY_MORE_MIB &&
            standby <= GUEST_MEMORY_MIB + MEMORY_MORE_MIB,
      figures: `${figure(primary)} and ${figure(standby)} MiB with a guest of ${GUEST_MEMORY_MIB} MiB`,
    },
    {
      what: 'event loops never blocked longer than 5 ms, with epochs of 4,096 pages in the mix',
      reached: loop === 0 || !mixed ? undefined : loop <= EVENT_LOOP_US_MAX,
      figures: `${figure(loop / 1000, 2)} ms`,
    },
  ];
}

function growthBar(growth: Growth | undefined): Bar {
  const what = 'neither process grows over 10 minutes';
  if (growth === undefined) return notMeasured(what);
  const flat = Math.max(growth.primaryMiB, growth.standbyMiB) <= GROWTH_MIB_MAX;
  // A shorter run can show growth, and cannot show that there is none.
  const long = growth.seconds >= GROWTH_SECONDS;
  return { what, reached: flat && !long ? undefined : flat, figures: growthText(growth) };
}

function notMeasured(what: string): Bar {
  return { what, reached: undefined, figures: '' };
}

/** One line for each. */
export function tellBars(bars: readonly Bar[]): string {
  const width = 'not measured'.length;
  return bars
    .map(({ what, reached, figures }) => {
      const word = reached === undefined ? 'not measured' : reached ? 'reached' : 'NOT reached';
      return `${word.padEnd(width)}  ${what}${figures === '' ? '' : ` (${figures})`}`;
    })
    .join('\n');
}
