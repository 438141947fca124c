/** Quantiles by the nearest rank: values that occurred, and not one rank too high. */
import { Histogram } from '../../src/common/histogram';
import { quantile, quantileOf } from '../../src/common/quantile';

test('the nearest rank', () => {
  expect(quantileOf([], 0.5)).toBe(0);
  expect(quantileOf([3, 1, 2], 0.5)).toBe(2);
  // The half that is not above it has the lower one of two.
  expect(quantileOf([20, 10], 0.5)).toBe(10);
  expect(quantileOf([4, 3, 2, 1], 0.5)).toBe(2);
  const hundred = Array.from({ length: 100 }, (_, n) => n + 1);
  expect([0, 0.01, 0.5, 0.99, 1].map((p) => quantile(hundred, p))).toEqual([1, 1, 50, 99, 100]);
  expect(quantile(hundred.slice(0, 99), 0.99)).toBe(99);
});

test('is the rank of the histogram, too', () => {
  const values = [10, 20, 40, 80, 160, 320];
  const histogram = new Histogram();
  for (const value of values) histogram.record(value);
  for (const p of [0.2, 0.5, 0.6]) {
    expect(Math.abs(histogram.percentile(p) / quantile(values, p) - 1)).toBeLessThan(0.02);
  }
});
