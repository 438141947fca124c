/**
 * An image that could not be written: from then on it is no copy, and no primary is taken for a while.
 *
 *   none ── failed ──▶ resting ── rest over, and a disk that hung moves again ──▶ may be synced
 *     ▲                   │                                                          │
 *     └──── a sync begins ┴──────────────────────────────────────────────────────────┘
 *
 * The rest is doubled each time, since a sync is work for both hosts, until one was good.
 */
import type { Clock } from '../common/clock';
import type { FtError } from '../common/errors';
import type { Logger } from '../common/logger';
import type { Machine } from '../machine/machine';
import type { StandbyStats } from './standby-stats';

const REST_MS_MIN = 5_000;
const REST_MS_MAX = 60_000;

export interface DiskTroubleParts {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly machine: Pick<Machine, 'diskBacklogBytes'>;
}

export class DiskTrouble {
  private current: FtError | undefined;
  private untilUs = 0;
  private nextMs = REST_MS_MIN;

  constructor(
    private readonly parts: DiskTroubleParts,
    private readonly stats: StandbyStats,
  ) {}

  /** Why an image here is no copy any more; undefined from the next sync on. */
  get error(): FtError | undefined {
    return this.current;
  }

  /** An image failed: the rest begins. */
  failed(error: FtError): void {
    this.stats.diskFailures += 1;
    this.current = error;
    const { clock, logger } = this.parts;
    const restMs = this.nextMs;
    this.untilUs = clock.nowUs() + restMs * 1000;
    this.nextMs = Math.min(REST_MS_MAX, restMs * 2);
    const facts = { ...error.facts, code: error.code, restMs };
    logger.error(`${error.message} This node protects nobody until it is synced anew.`, facts);
  }

  /** Why no primary is taken now. A disk that hung is tried again when it moves: a sync would only
   * stall the guest once more. */
  get refusal(): FtError | undefined {
    const { current } = this;
    const { clock, machine } = this.parts;
    if (current === undefined || clock.nowUs() < this.untilUs) return current;
    const hangs = current.code === 'FT_ERR_DISK_STUCK' && machine.diskBacklogBytes() > 0;
    return hangs ? current : undefined;
  }

  /** A sync begins: what was is no longer of interest. */
  forget(): void {
    this.current = undefined;
  }

  /** A sync was good: the next failure is the first again. */
  reset(): void {
    this.nextMs = REST_MS_MIN;
  }
}
