/** What the clients measure: latencies between two samples, and when answers came. */
import { quantile } from '../../common/quantile';

export interface LatencySummary {
  readonly count: number;
  readonly usP50: number;
  readonly usP99: number;
  readonly usMax: number;
}

/** A stretch without any answer, monotonic µs. */
export interface Silence {
  readonly fromUs: number;
  readonly toUs: number;
}

const LATENCIES_MAX = 1 << 20;
const ARRIVALS_MAX = 1 << 17;

/** Latencies since the last `take`, exact up to a million of them (then the newest are dropped). */
export class LatencyLog {
  private readonly us = new Float32Array(LATENCIES_MAX);
  private count = 0;

  add(us: number): void {
    if (this.count < LATENCIES_MAX) this.us[this.count++] = us;
  }

  take(): LatencySummary {
    const taken = this.us.slice(0, this.count).sort();
    this.count = 0;
    return {
      count: taken.length,
      usP50: quantile(taken, 0.5),
      usP99: quantile(taken, 0.99),
      usMax: taken[taken.length - 1] ?? 0,
    };
  }
}

/** When the last 131,072 answers came. */
export class ArrivalLog {
  private readonly us = new Float64Array(ARRIVALS_MAX);
  private total = 0;

  add(us: number): void {
    this.us[this.total++ % ARRIVALS_MAX] = us;
  }

  /**
   * The longest stretch without an answer that touches [fromUs, fromUs + withinMs]. Undefined when
   * no answer came after it began. A stretch that began before `fromUs` counts from its beginning.
   */
  longestSilence(fromUs: number, withinMs: number): Silence | undefined {
    const untilUs = fromUs + withinMs * 1000;
    let longest: Silence | undefined;
    const oldest = Math.max(1, this.total - ARRIVALS_MAX + 1);
    for (let n = oldest; n < this.total; n++) {
      const before = this.us[(n - 1) % ARRIVALS_MAX] ?? 0;
      const after = this.us[n % ARRIVALS_MAX] ?? 0;
      if (after < fromUs || before > untilUs) continue;
      if (longest === undefined || after - before > longest.toUs - longest.fromUs) {
        longest = { fromUs: before, toUs: after };
      }
    }
    return longest;
  }
}
