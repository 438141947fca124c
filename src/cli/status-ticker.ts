/** Status lines on stdout at an interval that can be changed while the node runs. */
import { systemClock } from '../common/clock';
import type { RunningNode } from '../node/running-node';
import { StatusReporter } from '../node/status';
import type { StatusLines } from '../node/status-lines';

export class StatusTicker {
  private timer: NodeJS.Timeout | undefined;
  private reporter: StatusReporter | undefined;

  constructor(
    private readonly node: RunningNode,
    private readonly lines: StatusLines,
  ) {}

  /** A line every so many ms from now on; undefined: none, and none about states either. */
  set(intervalMs: number | undefined): void {
    this.stop();
    this.lines.on = intervalMs !== undefined;
    if (intervalMs === undefined) return;
    const reporter = this.reporter ?? new StatusReporter(this.node, systemClock);
    this.reporter = reporter;
    this.timer = setInterval(() => this.lines.status(reporter.next()), intervalMs);
  }

  stop(): void {
    clearInterval(this.timer);
  }
}
