/**
 * Quantiles of a few values that are all there, by the nearest rank: what is told is a value that
 * occurred. Of many values, on the hot path: histogram.ts, which ranks them in the same way.
 */

/** Fewer values have no 99th percentile: the nearest rank is the greatest of them. */
export const P99_VALUES_MIN = 100;

/** The least value that a part `p` (0…1) of the values, which ascend, do not exceed; 0 of none. */
export function quantile(ascending: ArrayLike<number>, p: number): number {
  const rank = Math.ceil(p * ascending.length);
  return ascending[Math.max(rank, 1) - 1] ?? 0;
}

/** The same of values in any order; sorts a copy. */
export function quantileOf(values: readonly number[], p: number): number {
  return quantile(Float64Array.from(values).sort(), p);
}
