/**
 * Shows a common/histogram.ts to Prometheus as its histogram type: cumulative buckets at powers of
 * two microseconds, which are edges of its own buckets, so the counts are exact.
 */
import { Histogram as PromHistogram, type Registry } from 'prom-client';
import type { Histogram } from '../common/histogram';

/** 8 µs … 2^23 µs (8.4 s). */
const BOUNDS_US: readonly number[] = Array.from({ length: 21 }, (_, i) => 2 ** (i + 3));

type Shown = Awaited<ReturnType<PromHistogram<string>['get']>>;

export class LogHistogramMetric extends PromHistogram<string> {
  private readonly metricName: string;
  private readonly metricHelp: string;
  private readonly read: () => Histogram;

  constructor(name: string, help: string, registers: Registry[], read: () => Histogram) {
    super({ name, help, registers, buckets: BOUNDS_US.map((us) => us / 1e6) });
    this.metricName = name;
    this.metricHelp = help;
    this.read = read;
  }

  /** What the registry asks for when it writes the text page. */
  getForPromString(): Promise<Shown> {
    return this.get();
  }

  override get(): Promise<Shown> {
    const histogram = this.read();
    const bucket = `${this.metricName}_bucket`;
    const values: Shown['values'] = BOUNDS_US.map((us) => ({
      labels: { le: us / 1e6 },
      value: histogram.countUpTo(us),
      metricName: bucket,
    }));
    values.push(
      { labels: { le: '+Inf' }, value: histogram.count, metricName: bucket },
      { labels: {}, value: histogram.sumUs / 1e6, metricName: `${this.metricName}_sum` },
      { labels: {}, value: histogram.count, metricName: `${this.metricName}_count` },
    );
    const template: Omit<Shown, 'values'> = {
      name: this.metricName,
      help: this.metricHelp,
      type: 'histogram' as unknown as Shown['type'],
      aggregator: 'sum',
      collect() {},
    };
    return Promise.resolve({ ...template, values });
  }
}
