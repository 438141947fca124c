/**
 * Whether either process grows: a long protected run whose memory is looked at again and again.
 * The first third is left to warming up; the median of the last third is held against that of the
 * second.
 */
import { figure } from '../src/drill/report/report';
import { type MemoryLook, measure, type RunOptions } from './measure';
import { median } from './rows';

/** Less is no growth: V8 collects when it likes. */
export const GROWTH_MIB_MAX = 8;
const LOOKS_MIN = 9;

export interface Growth {
  readonly seconds: number;
  readonly primaryMiB: number;
  readonly standbyMiB: number;
  readonly primaryMiBMax: number;
  readonly standbyMiBMax: number;
  readonly looks: readonly MemoryLook[];
  readonly violations: number;
}

export async function measureGrowth(options: RunOptions): Promise<Growth> {
  const looks: MemoryLook[] = [];
  const run = await measure(options, (look) => looks.push(look));
  return { ...growthOf(looks), seconds: options.seconds, violations: run.violations };
}

/** Pure. Zeros when there are too few looks to tell. */
export function growthOf(looks: readonly MemoryLook[]): Omit<Growth, 'seconds' | 'violations'> {
  const third = Math.floor(looks.length / 3);
  const grown = (of: (look: MemoryLook) => number): number => {
    if (looks.length < LOOKS_MIN) return 0;
    const middle = (some: readonly MemoryLook[]): number => median(some.map(of));
    return middle(looks.slice(-third)) - middle(looks.slice(third, 2 * third));
  };
  const most = (of: (look: MemoryLook) => number): number => Math.max(0, ...looks.map(of));
  return {
    primaryMiB: grown((look) => look.primaryMiB),
    standbyMiB: grown((look) => look.standbyMiB),
    primaryMiBMax: most((look) => look.primaryMiB),
    standbyMiBMax: most((look) => look.standbyMiB),
    looks,
  };
}

export function growthText(growth: Growth): string {
  return (
    `${figure(growth.primaryMiB, 1)} and ${figure(growth.standbyMiB, 1)} MiB in the last two ` +
    `thirds of ${figure(growth.seconds)} s`
  );
}
