/**
 * Looks for the interval at which most epochs a second are made that are still full. Cutting
 * sooner gives epochs with less in them, or a guest so busy with being stopped that fewer are made;
 * cutting later gives fewer. So the rate of full epochs has one peak, which is climbed in ever
 * smaller steps. Pure: each probe is the caller's.
 */

/** What a guest did at one interval. */
export interface Probe {
  readonly intervalUs: number;
  readonly epochsPerSecond: number;
  readonly dirtyPagesPerEpoch: number;
}

export interface SearchOptions {
  /** Pages that a full epoch holds. */
  readonly pages: number;
  /** Where to begin, and the limits, µs. */
  readonly firstUs: number;
  readonly leastUs: number;
  readonly mostUs: number;
  readonly probesMax: number;
}

/** An epoch counts as full with this share of its pages. */
export const FULL_SHARE = 0.9;
/** Each step is this factor of the interval; the next smaller one when neither way is better. */
const STEPS = [1.35, 1.13, 1.05];
/** What is better by less may be noise. */
const BETTER = 1.01;

export function isFull(dirtyPagesPerEpoch: number, pages: number): boolean {
  return dirtyPagesPerEpoch >= FULL_SHARE * pages;
}

/**
 * The best probe, or undefined when no interval up to the most gives full epochs. Each interval is
 * probed once.
 */
export async function findHighestRate(
  probe: (intervalUs: number) => Promise<Probe>,
  options: SearchOptions,
): Promise<Probe | undefined> {
  const { pages, leastUs, mostUs, probesMax } = options;
  const within = (us: number): number => Math.round(Math.min(mostUs, Math.max(leastUs, us)));
  const known = new Map<number, Probe>();
  const ask = async (us: number): Promise<Probe | undefined> => {
    const before = known.get(us);
    if (before !== undefined || known.size >= probesMax) return before;
    const found = await probe(us);
    known.set(us, found);
    return found;
  };
  const score = (one: Probe | undefined): number =>
    one !== undefined && isFull(one.dirtyPagesPerEpoch, pages) ? one.epochsPerSecond : 0;

  let best = await ask(within(options.firstUs));
  const coarse = STEPS[0] ?? 2;
  while (best !== undefined && score(best) === 0 && best.intervalUs < mostUs) {
    best = await ask(within(best.intervalUs * coarse));
  }
  if (best === undefined || score(best) === 0) return undefined;
  for (const step of STEPS) {
    // The way that was better is gone on as long as it pays; then the steps get smaller.
    for (const factor of [1 / step, step]) {
      const start: Probe = best;
      let next = await ask(within(best.intervalUs * factor));
      while (next !== undefined && score(next) > score(best) * BETTER) {
        best = next;
        next = await ask(within(best.intervalUs * factor));
      }
      if (best !== start) break;
    }
  }
  return best;
}
