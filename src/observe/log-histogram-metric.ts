/**
 * Shows a common/histogram.ts to Prometheus as its histogram type: cumulative buckets at powers of
 * two, which are edges of its own buckets, so the counts are exact. Several histograms can share a
 * name; a label tells them apart then.
 *
 *   µs     le = 2^k µs, in seconds; a value of exactly 2^k µs counts in the bucket above
 *   whole  le = 2^k − 1, since whole numbers below 2^k are at most that
 */
import { Histogram as PromHistogram, type Registry } from 'prom-client';
import type { Histogram } from '../common/histogram';

/** 8 µs … 2^23 µs (8.4 s). */
const BOUNDS_US: readonly number[] = Array.from({ length: 21 }, (_, i) => 2 ** (i + 3));

type Shown = Awaited<ReturnType<PromHistogram<string>['get']>>;

export interface LogHistogramOptions {
  readonly name: string;
  readonly help: string;
  readonly registers: Registry[];
  /** Of the label whose values `read` gives as keys; without, `read` gives one histogram. */
  readonly label?: string;
  /** Upper edges of the buckets, powers of two. */
  readonly bounds?: readonly number[];
  /** Values are whole numbers and not µs. */
  readonly whole?: boolean;
  /** Asked at each scrape. */
  readonly read: () => Histogram | ReadonlyMap<string, Histogram>;
}

export class LogHistogramMetric extends PromHistogram<string> {
  private readonly shown: LogHistogramOptions;
  /** Of each bucket: where ours ends, and what Prometheus is told. */
  private readonly edges: readonly { readonly end: number; readonly le: number }[];

  constructor(options: LogHistogramOptions) {
    const { name, help, registers, label, bounds = BOUNDS_US, whole = false } = options;
    const edges = bounds.map((end) => ({ end, le: whole ? end - 1 : end / 1e6 }));
    const labelNames = label === undefined ? [] : [label];
    super({ name, help, registers, labelNames, buckets: edges.map(({ le }) => le) });
    this.shown = options;
    this.edges = edges;
  }

  /** What the registry asks for when it writes the text page. */
  getForPromString(): Promise<Shown> {
    return this.get();
  }

  override get(): Promise<Shown> {
    const { name, help, label } = this.shown;
    const values: Shown['values'] = [];
    const read = this.shown.read();
    if (label === undefined || !(read instanceof Map)) this.show(values, read as Histogram, {});
    else for (const [key, one] of read) this.show(values, one, { [label]: key });
    const template: Omit<Shown, 'values'> = {
      name,
      help,
      type: 'histogram' as unknown as Shown['type'],
      aggregator: 'sum',
      collect() {},
    };
    return Promise.resolve({ ...template, values });
  }

  private show(
    values: Shown['values'],
    histogram: Histogram,
    labels: Readonly<Record<string, string>>,
  ): void {
    const { name, whole = false } = this.shown;
    const bucket = `${name}_bucket`;
    for (const { end, le } of this.edges) {
      values.push({
        labels: { ...labels, le },
        value: histogram.countUpTo(end),
        metricName: bucket,
      });
    }
    const { count, sumUs } = histogram;
    values.push(
      { labels: { ...labels, le: '+Inf' }, value: count, metricName: bucket },
      { labels, value: whole ? sumUs : sumUs / 1e6, metricName: `${name}_sum` },
      { labels, value: count, metricName: `${name}_count` },
    );
  }
}
