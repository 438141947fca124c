/** What a standby's report of differing pages leads to: counted, said aloud (seldom), sent again. */
import type { Clock } from '../common/clock';
import { FtError } from '../common/errors';
import { type Logger, Seldom } from '../common/logger';
import { PAGE_BYTES } from '../common/units';
import type { Machine } from '../machine/machine';
import type { Frame } from '../wire/frame';
import { unpackAuditMismatch } from '../wire/messages';
import type { PrimaryStats } from './primary-stats';

/** Differing pages may be found with every epoch; they are said so seldom. */
const AUDIT_LOG_MS = 1000;

export class AuditReport {
  private readonly log = new Seldom(AUDIT_LOG_MS);

  constructor(
    private readonly clock: Clock,
    private readonly logger: Logger,
    private readonly machine: Machine,
    private readonly stats: PrimaryStats,
  ) {}

  /** Takes an auditMismatch frame. Errors: FT_ERR_MESSAGE; the session is then over. */
  take(frame: Frame): FtError | undefined {
    const found = unpackAuditMismatch(frame.body);
    if (found instanceof FtError) return found;
    const pages = this.machine.description.memoryBytes / PAGE_BYTES;
    const beyond = found.gfns.find((gfn) => gfn >= pages);
    if (beyond !== undefined) {
      const message = `The standby reports page ${beyond}, and the guest has ${pages} pages.`;
      return new FtError('FT_ERR_MESSAGE', message, { gfn: beyond, pages });
    }
    this.stats.auditMismatches += found.gfns.length;
    this.machine.heal(found.gfns);
    if (!this.log.due(this.clock.nowUs())) return undefined;
    this.logger.error('audit: pages differ on the standby; they are sent again', {
      epoch: frame.epoch,
      pages: found.gfns.length,
      firstGfn: found.gfns[0],
      pagesSoFar: this.stats.auditMismatches,
    });
    return undefined;
  }
}
