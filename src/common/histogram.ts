/**
 * A histogram of microseconds with fixed logarithmic buckets: made once, recorded into without
 * allocating, cheap enough for every epoch.
 *
 *   below 1 µs        32 buckets of 1/32 µs
 *   2^k … 2^(k+1) µs  32 buckets each, k = 0…25; a bucket is at most 1/32 (3.2 %) of its value wide
 *   from 67.1 s       one bucket
 */

/** Buckets in each doubling of the value. */
const PER_OCTAVE = 32;
const PER_OCTAVE_BITS = 5;
const OCTAVES = 26;
const OVERFLOW = PER_OCTAVE * (OCTAVES + 1);
const BUCKETS = OVERFLOW + 1;
/** 2^26 µs, about 67 s. */
const LIMIT_US = 2 ** OCTAVES;

function indexOf(us: number): number {
  if (!(us < LIMIT_US)) return OVERFLOW;
  const scaled = us > 0 ? (us * PER_OCTAVE) | 0 : 0;
  if (scaled < PER_OCTAVE) return scaled;
  const octave = 31 - Math.clz32(scaled) - PER_OCTAVE_BITS;
  return (octave + 1) * PER_OCTAVE + ((scaled >>> octave) & (PER_OCTAVE - 1));
}

/** The least value that belongs to a bucket, µs. */
function lowerUs(index: number): number {
  if (index < PER_OCTAVE) return index / PER_OCTAVE;
  const octave = Math.floor(index / PER_OCTAVE) - 1;
  return ((PER_OCTAVE + (index % PER_OCTAVE)) * 2 ** octave) / PER_OCTAVE;
}

export class Histogram {
  private readonly buckets = new Float64Array(BUCKETS);
  private total = 0;
  private sum = 0;
  private least = Number.POSITIVE_INFINITY;
  private most = 0;

  /** Values recorded. */
  get count(): number {
    return this.total;
  }

  /** Sum of all values, µs. */
  get sumUs(): number {
    return this.sum;
  }

  /** Smallest and largest value, exact; 0 while empty. */
  get minUs(): number {
    return this.total === 0 ? 0 : this.least;
  }
  get maxUs(): number {
    return this.most;
  }

  get meanUs(): number {
    return this.total === 0 ? 0 : this.sum / this.total;
  }

  /** Counts one value. Negative ones and NaN count as 0: a clock may step. */
  record(us: number): void {
    const value = Number.isNaN(us) ? 0 : Math.max(us, 0);
    const index = indexOf(value);
    this.buckets[index] = (this.buckets[index] as number) + 1;
    this.total++;
    this.sum += value;
    if (value < this.least) this.least = value;
    if (value > this.most) this.most = value;
  }

  /**
   * The value that `p` (0…1) of all values do not exceed: the middle of its bucket, so off by at
   * most 1.6 %; 0 and 1 give the exact extremes. 0 while empty.
   */
  percentile(p: number): number {
    if (this.total === 0) return 0;
    if (p <= 0) return this.least;
    const rank = Math.ceil(Math.min(p, 1) * this.total);
    if (rank >= this.total) return this.most;
    let seen = 0;
    for (let index = 0; index < OVERFLOW; index++) {
      seen += this.buckets[index] as number;
      if (seen < rank) continue;
      const middle = (lowerUs(index) + lowerUs(index + 1)) / 2;
      return Math.min(Math.max(middle, this.least), this.most);
    }
    return this.most;
  }

  /** How many values lie in buckets that end at or below `us` (exact for powers of two). */
  countUpTo(us: number): number {
    const end = indexOf(us);
    let seen = 0;
    for (let index = 0; index < end; index++) seen += this.buckets[index] as number;
    return seen;
  }

  /** Adds all that `other` counted. */
  merge(other: Histogram): void {
    for (let index = 0; index < BUCKETS; index++) {
      this.buckets[index] = (this.buckets[index] as number) + (other.buckets[index] as number);
    }
    this.total += other.total;
    this.sum += other.sum;
    this.least = Math.min(this.least, other.least);
    this.most = Math.max(this.most, other.most);
  }

  reset(): void {
    this.buckets.fill(0);
    this.total = 0;
    this.sum = 0;
    this.least = Number.POSITIVE_INFINITY;
    this.most = 0;
  }
}

/**
 * Counts since each reader last looked, and since the start. A value is recorded once, on the hot
 * path; whoever looks, seldom, brings the rest up to date:
 *
 *   record ──▶ window ── look(a) ──▶ settled          all of the start
 *                          ├───────▶ pending of b     what b, who looks less often, has not seen
 *                          └───────▶ a sees: its pending and the window
 */
export class WindowedHistogram {
  private readonly window = new Histogram();
  private readonly settled = new Histogram();
  private readonly pending = new Map<object, Histogram>();

  record(us: number): void {
    this.window.record(us);
  }

  /** All that was ever recorded, as a histogram of the caller's own. */
  get total(): Histogram {
    const total = new Histogram();
    total.merge(this.settled);
    total.merge(this.window);
    return total;
  }

  /**
   * Hands `use` what was recorded since this reader's last look (its first: since anybody's). The
   * histogram is good until `use` returns. A reader that looked is remembered until `forget`.
   */
  look<T>(reader: object, use: (seen: Histogram) => T): T {
    const { window } = this;
    let own = this.pending.get(reader);
    if (own === undefined) {
      own = new Histogram();
      this.pending.set(reader, own);
    }
    for (const pending of this.pending.values()) pending.merge(window);
    this.settled.merge(window);
    window.reset();
    const result = use(own);
    own.reset();
    return result;
  }

  /** This reader looks no more. */
  forget(reader: object): void {
    this.pending.delete(reader);
  }
}
