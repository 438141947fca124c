/** The search for the highest rate of full epochs, and what the floor can reach. */
import { fitFloor, type Highest, highestCells, type Peak } from '../../bench/highest';
import { reachable } from '../../bench/matrix';
import { findHighestRate, isFull, type Probe } from '../../bench/search';

/** A guest that needs `perPageUs` for each page and stands still for `pauseUs`. */
function guest(pages: number, pauseUs: number, perPageUs: number): (us: number) => Promise<Probe> {
  return async (intervalUs) => {
    const room = Math.max(0, intervalUs - pauseUs);
    // Stopped so often that it is always being stopped: fewer, and emptier, epochs.
    const epochsPerSecond = 1e6 / Math.max(intervalUs, 2 * pauseUs - intervalUs);
    return { intervalUs, epochsPerSecond, dirtyPagesPerEpoch: Math.min(pages, room / perPageUs) };
  };
}

const limits = { leastUs: 20, mostUs: 1_000_000, probesMax: 25 };

test.each([
  [1, 60],
  [16, 110],
  [64, 300],
  [512, 1000],
  [4096, 20_000],
])('%i pages, begun at %i us: the shortest interval that is still full', async (pages, firstUs) => {
  const pauseUs = 33;
  const perPageUs = 2.2;
  const best = await findHighestRate(guest(pages, pauseUs, perPageUs), {
    ...limits,
    pages,
    firstUs,
  });
  const ideal = pauseUs + 0.9 * pages * perPageUs;
  expect(best?.intervalUs).toBeGreaterThanOrEqual(Math.floor(ideal));
  expect(best?.intervalUs).toBeLessThan(ideal * 1.08);
  expect(isFull(best?.dirtyPagesPerEpoch ?? 0, pages)).toBe(true);
});

test('a pipeline that is full at any interval: the peak of the rate, not the shortest', async () => {
  const asked: number[] = [];
  const best = await findHighestRate(
    async (intervalUs) => {
      asked.push(intervalUs);
      // Asking sooner than every 150 us only disturbs.
      const epochsPerSecond = 1e6 / (intervalUs > 150 ? intervalUs : 300 - intervalUs);
      return { intervalUs, epochsPerSecond, dirtyPagesPerEpoch: 2 };
    },
    { ...limits, pages: 1, firstUs: 60 },
  );
  expect(best?.intervalUs).toBeGreaterThan(140);
  expect(best?.intervalUs).toBeLessThan(160);
  expect(new Set(asked).size).toBe(asked.length);
});

test('never full: nothing is found, and the search ends', async () => {
  let probes = 0;
  const best = await findHighestRate(
    async (intervalUs) => {
      probes++;
      return { intervalUs, epochsPerSecond: 100, dirtyPagesPerEpoch: 3 };
    },
    { ...limits, pages: 64, firstUs: 200 },
  );
  expect(best).toBeUndefined();
  expect(probes).toBeLessThanOrEqual(limits.probesMax);
});

test('no more probes than allowed', async () => {
  let probes = 0;
  const probe = guest(64, 33, 2.2);
  await findHighestRate(
    async (intervalUs) => {
      probes++;
      return probe(intervalUs);
    },
    { ...limits, pages: 64, firstUs: 5000, probesMax: 4 },
  );
  expect(probes).toBe(4);
});

const peak = (epochsPerSecond: number, full = true): Peak => ({
  intervalUs: 100,
  epochsPerSecond,
  dirtyPagesPerEpoch: 16,
  guestGapUsP50: 40,
  guestGapUsP99: 80,
  full,
  eachEpochsPerSecond: [epochsPerSecond],
});

const highest = (dirtyPages: number, floorRate: number): Highest => ({
  dirtyPages,
  changedBytes: 8,
  floor: peak(floorRate),
  ours: peak(floorRate * 0.9, false),
  oursVsFloor: 0.9,
  probes: { floor: [], ours: [] },
  violations: 0,
});

describe('what the floor can reach', () => {
  const perEpochUs = (pages: number): number => 40 + 2.5 * pages;
  const measured = [1, 16, 64].map((pages) => highest(pages, 1e6 / perEpochUs(pages)));

  test('is as measured, else fitted, else unknown', () => {
    const fitted = fitFloor(measured);
    expect(reachable(64, measured, fitted)).toBeCloseTo(1e6 / perEpochUs(64), 5);
    expect(reachable(512, measured, fitted)).toBeCloseTo(1e6 / perEpochUs(512), 5);
    expect(reachable(512, [], undefined)).toBe(Number.POSITIVE_INFINITY);
  });

  test('needs two numbers of pages to be fitted', () => {
    expect(fitFloor([])).toBeUndefined();
    expect(fitFloor([highest(16, 5000)])).toBeUndefined();
  });
});

test('a rate of epochs that are not full says so', () => {
  const cells = highestCells(highest(16, 10_000));
  expect(cells[0]).toBe('16 x 8 B');
  expect(cells[1]).toBe('10,000');
  expect(cells[4]).toBe('9,000 (not full)');
  expect(cells[7]).toBe('90.0 %');
});
