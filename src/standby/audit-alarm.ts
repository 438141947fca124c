/** Says that the audit found pages which differ: they may be found with every epoch, so seldom. */
import type { Clock } from '../common/clock';
import { type Logger, Seldom } from '../common/logger';
import type { StandbyStats } from './standby-stats';

const EVERY_MS = 1000;

export class AuditAlarm {
  private readonly seldom = new Seldom(EVERY_MS);

  constructor(
    private readonly clock: Clock,
    private readonly logger: Logger,
    private readonly stats: StandbyStats,
  ) {}

  found(epoch: number, gfns: readonly number[]): void {
    if (!this.seldom.due(this.clock.nowUs())) return;
    this.logger.error('audit: pages differ from the primary; they are asked for again', {
      epoch,
      pages: gfns.length,
      firstGfn: gfns[0],
      pagesSoFar: this.stats.auditMismatches,
    });
  }
}
