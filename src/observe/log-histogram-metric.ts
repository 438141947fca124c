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
import { type Labels, SeriesText } from './series-text';
import type { WritesText } from './value-metrics';

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

/** One line of the page: its name, its labels without those that stand at every series. */
interface Line {
  readonly suffix: '_bucket' | '_sum' | '_count';
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: (histogram: Histogram) => number;
}

export class LogHistogramMetric extends PromHistogram<string> implements WritesText {
  private readonly shown: LogHistogramOptions;
  /** Of one histogram, in the order of the page. */
  private readonly lines: readonly Line[];
  private readonly series: SeriesText;

  constructor(options: LogHistogramOptions) {
    const { name, help, registers, label, bounds = BOUNDS_US, whole = false } = options;
    const edges = bounds.map((end) => ({ end, le: whole ? end - 1 : end / 1e6 }));
    const labelNames = label === undefined ? [] : [label];
    super({ name, help, registers, labelNames, buckets: edges.map(({ le }) => le) });
    this.shown = options;
    this.series = new SeriesText(name, help, 'histogram');
    const buckets = edges.map(({ end, le }): Line => {
      return { suffix: '_bucket', labels: { le }, value: (histogram) => histogram.countUpTo(end) };
    });
    const count = ({ count: all }: Histogram): number => all;
    const sum = ({ sumUs }: Histogram): number => (whole ? sumUs : sumUs / 1e6);
    this.lines = [
      ...buckets,
      { suffix: '_bucket', labels: { le: '+Inf' }, value: count },
      { suffix: '_sum', labels: {}, value: sum },
      { suffix: '_count', labels: {}, value: count },
    ];
  }

  /** What the registry asks for when it writes the text page. */
  getForPromString(): Promise<Shown> {
    return this.get();
  }

  override get(): Promise<Shown> {
    const { name, help } = this.shown;
    const values: Shown['values'] = [];
    for (const [key, histogram] of this.histograms()) {
      const more = this.labelOf(key);
      for (const { suffix, labels, value } of this.lines) {
        const all = { ...more, ...labels };
        values.push({ labels: all, value: value(histogram), metricName: `${name}${suffix}` });
      }
    }
    const template: Omit<Shown, 'values'> = {
      name,
      help,
      type: 'histogram' as unknown as Shown['type'],
      aggregator: 'sum',
      collect() {},
    };
    return Promise.resolve({ ...template, values });
  }

  /** The same as the registry would write; most of a page is lines of histograms. */
  text(common: Labels): string {
    const { series, lines } = this;
    let text = series.begin();
    for (const [key, histogram] of this.histograms()) {
      for (let index = 0; index < lines.length; index += 1) {
        const line = lines[index];
        if (line === undefined) break;
        const labels = (): Labels => ({ ...line.labels, ...this.labelOf(key), ...common });
        text += series.line(`${index} ${key}`, line.value(histogram), labels, line.suffix);
      }
    }
    return text;
  }

  private histograms(): Iterable<readonly [string, Histogram]> {
    const read = this.shown.read();
    return read instanceof Map ? read : [['', read as Histogram]];
  }

  private labelOf(key: string): Record<string, string> {
    const { label } = this.shown;
    return label === undefined ? {} : { [label]: key };
  }
}
