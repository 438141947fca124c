/** The histogram: accuracy, extremes, merging. */
import { Histogram, WindowedHistogram } from '../../src/common/histogram';

describe('Histogram', () => {
  test('is zero while empty', () => {
    const histogram = new Histogram();
    expect([histogram.count, histogram.percentile(0.5), histogram.minUs, histogram.maxUs]).toEqual([
      0, 0, 0, 0,
    ]);
  });

  test('every value from 10 µs to 60 s comes back within 2 %', () => {
    for (let us = 10; us < 60e6; us *= 1.013) {
      const histogram = new Histogram();
      // Two neighbours far off keep the value from being an exact extreme.
      histogram.record(1);
      histogram.record(us);
      histogram.record(us * 3);
      const median = histogram.percentile(0.5);
      expect(Math.abs(median - us) / us).toBeLessThan(0.02);
    }
  });

  test('percentiles of 1 to 10,000', () => {
    const histogram = new Histogram();
    for (let us = 10_000; us >= 1; us--) histogram.record(us);
    expect(histogram.count).toBe(10_000);
    expect(histogram.meanUs).toBeCloseTo(5000.5);
    expect(histogram.percentile(0)).toBe(1);
    expect(histogram.percentile(1)).toBe(10_000);
    for (const p of [0.01, 0.1, 0.5, 0.9, 0.99]) {
      expect(Math.abs(histogram.percentile(p) / (p * 10_000) - 1)).toBeLessThan(0.02);
    }
  });

  test('0, negative values, NaN and ages beyond the last bucket are counted somewhere sane', () => {
    const histogram = new Histogram();
    for (const us of [0, -5, Number.NaN]) histogram.record(us);
    expect([histogram.count, histogram.maxUs, histogram.percentile(0.5)]).toEqual([3, 0, 0]);
    histogram.record(3600e6);
    histogram.record(Number.POSITIVE_INFINITY);
    expect(histogram.count).toBe(5);
    expect(histogram.percentile(0.99)).toBe(Number.POSITIVE_INFINITY);
  });

  test('countUpTo is exact at powers of two', () => {
    const histogram = new Histogram();
    for (let us = 1; us <= 4096; us++) histogram.record(us);
    for (let bound = 2; bound <= 4096; bound *= 2) {
      expect(histogram.countUpTo(bound)).toBe(bound - 1);
    }
    expect(histogram.countUpTo(2 ** 23)).toBe(4096);
    expect(histogram.countUpTo(2 ** 30)).toBe(4096);
  });

  test('merging two equals recording into one; reset empties', () => {
    const [a, b, whole] = [new Histogram(), new Histogram(), new Histogram()];
    for (let i = 0; i < 1000; i++) {
      const us = ((i * 7919) % 1000) * 13.7;
      (i % 3 === 0 ? a : b).record(us);
      whole.record(us);
    }
    a.merge(b);
    for (const p of [0, 0.1, 0.5, 0.99, 1]) expect(a.percentile(p)).toBe(whole.percentile(p));
    expect([a.count, a.minUs, a.maxUs]).toEqual([whole.count, whole.minUs, whole.maxUs]);
    expect(a.sumUs).toBeCloseTo(whole.sumUs);
    a.reset();
    expect([a.count, a.percentile(0.5), a.maxUs, a.countUpTo(2 ** 26)]).toEqual([0, 0, 0, 0]);
  });
});

describe('WindowedHistogram', () => {
  test('each reader sees all since its own last look, and the total keeps everything', () => {
    const histogram = new WindowedHistogram();
    const [often, seldom] = [{}, {}];
    const look = (reader: object): [number, number] =>
      histogram.look(reader, (seen) => [seen.count, seen.maxUs]);
    expect([look(often), look(seldom)]).toEqual([
      [0, 0],
      [0, 0],
    ]);
    histogram.record(500);
    expect(look(often)).toEqual([1, 500]);
    histogram.record(20);
    expect(look(often)).toEqual([1, 20]);
    expect(look(often)).toEqual([0, 0]);
    expect(look(seldom)).toEqual([2, 500]);
    expect(look(seldom)).toEqual([0, 0]);
    histogram.forget(seldom);
    histogram.record(7);
    expect(look(often)).toEqual([1, 7]);
    expect([histogram.total.count, histogram.total.maxUs]).toEqual([3, 500]);
  });
});
