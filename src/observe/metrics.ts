/**
 * The metrics of one node. Whoever counts bumps plain numbers and histograms of its own;
 * prom-client sees them only when somebody scrapes. Nothing here runs per epoch.
 *
 *   roles, machine ── count in place ──▶ read at scrape: refresh ──▶ NodeFigures ──▶ Registry ──▶ page
 *
 * A page is made in slices of a millisecond with turns of the event loop between them, so that the
 * epochs go on meanwhile; who asks while one is made gets the same one. Every series says which node
 * of which pair it is of.
 */
import { Registry } from 'prom-client';
import { LogHistogramMetric } from './log-histogram-metric';
import { COUNTERS, GAUGES, HISTOGRAMS } from './metric-table';
import { type NodeFigures, newNodeFigures } from './node-figures';
import { FigureCounter, FigureGauge, type WritesText } from './value-metrics';

const SLICE_MS = 1;

export class NodeMetrics {
  readonly registry = new Registry();
  readonly figures: NodeFigures;
  /** Called before each scrape: copies into the figures what others count elsewhere. */
  refresh: () => void = () => {};
  /** All that is registered, in the order of the page. */
  private readonly own: WritesText[] = [];
  private making: Promise<string> | undefined;

  /** `labels` stand at every series. */
  constructor(
    figures: NodeFigures = newNodeFigures(),
    private readonly labels: Readonly<Record<string, string>> = {},
  ) {
    this.figures = figures;
    this.registry.setDefaultLabels({ ...labels });
    const registers = [this.registry];
    for (const row of COUNTERS) this.own.push(new FigureCounter(row, figures, registers));
    for (const row of GAUGES) this.own.push(new FigureGauge(row, figures, registers));
    for (const { read, ...row } of HISTOGRAMS) {
      this.own.push(new LogHistogramMetric({ ...row, registers, read: () => read(figures) }));
    }
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  /** The page that Prometheus reads. */
  text(): Promise<string> {
    this.making ??= this.make().finally(() => {
      this.making = undefined;
    });
    return this.making;
  }

  private async make(): Promise<string> {
    this.refresh();
    const parts: string[] = [];
    let endMs = performance.now() + SLICE_MS;
    for (const metric of this.own) {
      parts.push(metric.text(this.labels));
      if (performance.now() < endMs) continue;
      await new Promise((resolve) => setImmediate(resolve));
      endMs = performance.now() + SLICE_MS;
    }
    return `${parts.join('\n')}\n`;
  }
}
