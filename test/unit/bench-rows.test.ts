/** Rows of the benchmark of epochs: comparison, medians, bars, stages, status lines. */
import { type Bar, judgeBars, tellBars } from '../../bench/bars';
import { compareRuns } from '../../bench/compare';
import { growthOf } from '../../bench/growth';
import type { Highest, Peak } from '../../bench/highest';
import type { MemoryLook, Run } from '../../bench/measure';
import { type Options, readOptions } from '../../bench/options';
import { cellName, compare, makeRow, median, type Row } from '../../bench/rows';
import { readStages, stagesTable } from '../../bench/stages';
import { NO_FIGURES, readFloor, readReplication } from '../../bench/status-figures';
import type { Line } from '../../src/drill/process/process';

const run = (more: Partial<Run>): Run => ({
  ...NO_FIGURES,
  kind: 'ours',
  intervalUs: 400,
  seconds: 5,
  progressPerSecond: 100,
  latencyUsP50: 100,
  latencyUsP99: 200,
  latencyUsMax: 300,
  gapUsP50: 40,
  gapUsP99: 80,
  gapUsMax: 90,
  primaryMemoryMiB: 100,
  standbyMemoryMiB: 90,
  violations: 0,
  ...more,
});

const cell = { dirtyPages: 64, changedBytes: 8, targetEpochsPerSecond: 2500 };

describe('compare', () => {
  const row = compare({
    ours: run({ progressPerSecond: 45, latencyUsP50: 450, latencyUsP99: 1200 }),
    floors: [run({ progressPerSecond: 40 }), run({ progressPerSecond: 60 })],
    bares: [run({ progressPerSecond: 100 }), run({ progressPerSecond: 80, latencyUsP50: 120 })],
  });

  test('against the means of what stood around it', () => {
    expect(row.guestProgressVsFloor).toBeCloseTo(0.9, 10);
    expect(row.floorProgressSpread).toBeCloseTo(0.4, 10);
    expect(row.guestProgressVsUnprotected).toBeCloseTo(0.5, 10);
    expect(row.addedLatencyUsP50).toBe(340);
    expect(row.addedLatencyUsP99).toBe(1000);
  });

  test('without a floor there is nothing to compare with', () => {
    const alone = compare({ ours: run({}), floors: [], bares: [run({})] });
    expect(alone.guestProgressVsFloor).toBe(0);
    expect(alone.floorEpochsPerSecond).toBe(0);
  });
});

test('median', () => {
  expect([median([]), median([3]), median([3, 1]), median([9, 1, 5])]).toEqual([0, 3, 2, 5]);
  expect(median([7, 1, 2, 100, 3, 4, 5])).toBe(4);
});

test('two trees in turns: the median of the ratios, not the ratio of the medians', () => {
  const a = [100, 200, 400].map((progressPerSecond) => run({ progressPerSecond }));
  const b = [110, 220, 200].map((progressPerSecond) => run({ progressPerSecond }));
  const lines = compareRuns(a, b);
  expect(lines.find((line) => line[0]?.startsWith('progress'))).toEqual([
    'progress of the guest /s',
    '200',
    '200',
    '1.100 (0.50-1.10)',
  ]);
  expect(lines.find((line) => line[0] === 'violations')?.[3]).toBe('-');
});

test('a row has the medians, and counts every violation once', () => {
  const shared = run({ violations: 1 });
  const sample = (epochs: number): Parameters<typeof makeRow>[1][number] => ({
    ours: run({ committedEpochsPerSecond: epochs, auditMismatches: 1 }),
    floors: [shared],
    bares: [shared, shared],
  });
  const row = makeRow(cell, [sample(10), sample(30), sample(20)]);
  expect(row.committedEpochsPerSecond).toBe(20);
  expect(row.samples.map((one) => one.committedEpochsPerSecond)).toEqual([10, 30, 20]);
  expect([row.runs, row.violations, row.auditMismatches]).toEqual([3, 1, 3]);
  expect(cellName(row)).toBe('64 x 8 B, 2,500/s');
});

describe('status lines', () => {
  const line = (atMs: number, fields: Record<string, unknown>): Line => ({
    atUs: atMs * 1000,
    fields: { atUs: atMs * 1000, ...fields },
  });

  test('rates over all, and of the worst second', () => {
    const epochs = [0, 500, 1000, 1200, 1400, 1900, 2400];
    const lines = epochs.map((epochCommitted, at) =>
      line(at * 500, { epochCommitted, rawBytesPerSecond: 100, wireBytesPerSecond: 3 }),
    );
    const found = readReplication([...lines, line(9000, { event: 'state' })], []);
    expect(found.committedEpochsPerSecond).toBeCloseTo(800, 6);
    expect(found.committedEpochsPerSecondMin).toBeCloseTo(400, 6);
    expect(found.wireBytesPerDirtyByte).toBeCloseTo(0.03, 10);
  });

  test('the floor', () => {
    const lines = [0, 1, 2].map((at) =>
      line(at * 1000, { floorEpochs: 100 + at * 3000, floorPages: 50 + at * 48_000 }),
    );
    const found = readFloor(lines);
    expect(found.committedEpochsPerSecond).toBeCloseTo(3000, 6);
    expect(found.dirtyPagesPerEpoch).toBeCloseTo(16, 10);
    expect(readFloor([]).committedEpochsPerSecond).toBe(0);
  });

  test('stages of both nodes, in the order of an epoch', () => {
    const stage = (name: string, p50: number): Record<string, number> => ({
      [`stage${name}UsP50`]: p50,
      [`stage${name}UsP99`]: p50 * 2,
      [`stage${name}UsMax`]: p50 * 9,
    });
    const primary = [1, 2, 3].map((n) =>
      line(n, { ...stage('Wire', 50 * n), ...stage('Copy', n) }),
    );
    const standby = [line(1, stage('Apply', 7))];
    const stages = readStages(primary, standby);
    expect(stages).toEqual([
      { stage: 'copy', usP50: 2, usP99: 4, usMax: 27 },
      { stage: 'wire', usP50: 100, usP99: 200, usMax: 1350 },
      { stage: 'apply', usP50: 7, usP99: 14, usMax: 63 },
    ]);
    const text = stagesTable([
      { name: 'a', stages },
      { name: 'none', stages: [] },
    ]);
    expect(text).toMatch(/pause: copy +2\.0 \/ 4\.0/);
    expect(text).not.toMatch(/none/);
    expect(stagesTable([{ name: 'none', stages: [] }])).toBe('');
  });
});

describe('bars', () => {
  const peak = (epochsPerSecond: number, full: boolean): Peak => ({
    intervalUs: 100,
    epochsPerSecond,
    dirtyPagesPerEpoch: 16,
    guestGapUsP50: 40,
    guestGapUsP99: 80,
    full,
    eachEpochsPerSecond: [],
  });
  const highest = (pages: number, ours: number, full = true): Highest => ({
    dirtyPages: pages,
    changedBytes: 8,
    floor: peak(12_000, true),
    ours: peak(ours, full),
    oursVsFloor: ours / 12_000,
    probes: { floor: [], ours: [] },
    violations: 0,
  });
  const good: Partial<Run> = {
    committedEpochsPerSecond: 2500,
    dirtyPagesPerEpoch: 64,
    pauseUsP50: 15,
    progressPerSecond: 95,
    wireBytesPerDirtyByte: 0.01,
    gapUsP50: 45,
    gapUsP99: 99,
  };
  const rowOf = (ours: Partial<Run>, of: Partial<Row> = {}): Row => {
    const floor = run({ kind: 'floor', committedEpochsPerSecond: 2500 });
    const sample = { ours: run(ours), floors: [floor, floor], bares: [run({})] };
    return { ...makeRow(cell, [sample]), ...of };
  };
  const verdicts = (bars: readonly Bar[], what: RegExp): (boolean | undefined)[] =>
    bars.filter((bar) => what.test(bar.what)).map((bar) => bar.reached);

  test('nothing measured, nothing claimed', () => {
    const bars = judgeBars({ rows: [], highest: [], light: undefined, growth: undefined });
    expect(bars.map((bar) => bar.reached)).toEqual(bars.map(() => undefined));
    expect(tellBars(bars)).not.toMatch(/^reached/m);
  });

  test('rates count only with full epochs', () => {
    const judged = [highest(1, 10_500), highest(16, 10_500, false), highest(64, 3999)];
    const bars = judgeBars({ rows: [], highest: judged, light: undefined, growth: undefined });
    expect(verdicts(bars, /committed epochs/)).toEqual([true, false, false]);
    expect(verdicts(bars, /of the floor's highest/)).toEqual([true, false, false]);
    expect(tellBars(bars)).toMatch(/^NOT reached .*16 dirty pages \(10,500\/s/m);
  });

  test('progress, pauses, work and wire of the row that they speak of', () => {
    const reached = judgeBars({
      rows: [rowOf(good)],
      highest: [],
      light: undefined,
      growth: undefined,
    });
    expect(verdicts(reached, /progress|pause|wire/)).toEqual([true, true, true, true, true]);
    const bad = {
      progressPerSecond: 89,
      gapUsP99: 101,
      pauseUsP50: 21,
      wireBytesPerDirtyByte: 1.02,
    };
    const missed = judgeBars({
      rows: [rowOf({ ...good, ...bad })],
      highest: [],
      light: undefined,
      growth: undefined,
    });
    expect(verdicts(missed, /progress|pause|wire/)).toEqual([false, false, false, false, false]);
  });

  test.each([
    ['are not full', { dirtyPagesPerEpoch: 40 }],
    ['are too few', { committedEpochsPerSecond: 2300 }],
  ])('progress with epochs that %s is no progress to compare', (_name, more) => {
    const rows = [rowOf({ ...good, ...more })];
    const bars = judgeBars({ rows, highest: [], light: undefined, growth: undefined });
    expect(verdicts(bars, /progress/)).toEqual([false]);
  });

  test('memory and event loops, over all rows', () => {
    const rows = [rowOf({ ...good, eventLoopUsMax: 4000 }), rowOf({}, { dirtyPages: 4096 })];
    const bars = judgeBars({ rows, highest: [], light: undefined, growth: undefined });
    expect(verdicts(bars, /memory|event loops/)).toEqual([true, true]);
    const fat = judgeBars({
      rows: [...rows, rowOf({ primaryMemoryMiB: 385, eventLoopUsMax: 5001 })],
      highest: [],
      light: undefined,
      growth: undefined,
    });
    expect(verdicts(fat, /memory|event loops/)).toEqual([false, false]);
  });

  test('growth: seen in any run, its absence only in a long one', () => {
    const looks = (perLook: number): MemoryLook[] =>
      Array.from({ length: 30 }, (_, n) => ({
        atSeconds: n * 2,
        primaryMiB: 100 + n * perLook,
        standbyMiB: 100 + (n % 2),
      }));
    const judged = (perLook: number, seconds: number): boolean | undefined =>
      verdicts(
        judgeBars({
          rows: [],
          highest: [],
          light: undefined,
          growth: { ...growthOf(looks(perLook)), seconds, violations: 0 },
        }),
        /grows/,
      )[0];
    expect(growthOf(looks(1)).primaryMiB).toBeCloseTo(10, 6);
    expect(growthOf(looks(1)).standbyMiB).toBeCloseTo(0, 6);
    expect([judged(1, 60), judged(0, 60), judged(0, 600)]).toEqual([false, undefined, true]);
    expect(growthOf(looks(1).slice(0, 5)).primaryMiB).toBe(0);
  });

  test('light load', () => {
    const light = rowOf({ latencyUsP50: 250, latencyUsP99: 1201 });
    const bars = judgeBars({ rows: [], highest: [], light, growth: undefined });
    expect(verdicts(bars, /incr/)).toEqual([false]);
  });
});

describe('options', () => {
  const options = (...args: string[]): Options => {
    const found = readOptions(args);
    if (found === undefined) throw new Error('the usage was asked for');
    return found;
  };

  test('by default some of the matrix, in short runs', () => {
    const { cells, seconds, runs, highestPages } = options();
    expect(cells.length).toBeLessThan(20);
    expect(cells).toContainEqual(cell);
    expect([seconds, runs, highestPages]).toEqual([6, 1, [1, 16, 64]]);
  });

  test('--full is the whole matrix, medians of five runs of 20 s', () => {
    const { cells, seconds, shortSeconds, runs } = options('--full');
    expect([cells.length, seconds, shortSeconds, runs]).toEqual([75, 20, 20, 5]);
  });

  test('what is asked for replaces what would be chosen', () => {
    expect(options('--pages', '16', '--rates', '2500,max').cells).toEqual([
      { dirtyPages: 16, changedBytes: 8, targetEpochsPerSecond: 2500 },
      { dirtyPages: 16, changedBytes: 8, targetEpochsPerSecond: null },
    ]);
    expect(
      options('--pages', '16', '--fixed-interval-us', '200').cells.map(
        (one) => one.targetEpochsPerSecond,
      ),
    ).toEqual([5000, null]);
    expect(options('--flags=--in-flight 4').flags).toEqual(['--in-flight', '4']);
  });

  test('help, and nonsense', () => {
    expect(readOptions(['--help'])).toBeUndefined();
    expect(() => options('--pages', '0')).toThrow('--pages is "0"');
    expect(() => options('--pages', '16,')).toThrow('--pages is ""');
    expect(() => options('--rates', 'fast')).toThrow('--rates is "fast"');
    expect(() => options('--seconds', '9e9')).toThrow('--seconds');
  });
});
