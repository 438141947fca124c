/**
 * A takeover as it is measured: what led to the claim, and how long it took from there until the
 * guest ran here.
 */
import type { Clock } from '../common/clock';
import type { GuestClock } from '../machine/machine';
import type { SuspicionCause } from './peer-session';
import type { StandbyStats } from './standby-stats';

export type TakeoverCause = SuspicionCause | 'switchover';

export class Takeover {
  cause: TakeoverCause = 'closed';
  /** When that was known here. */
  private causeUs = 0;

  constructor(
    private readonly clock: Clock,
    private readonly stats: StandbyStats,
  ) {}

  /** A claim begins. */
  begin(cause: TakeoverCause): void {
    this.cause = cause;
    this.causeUs = this.clock.nowUs();
    this.stats.claims += 1;
  }

  /**
   * The guest runs here, resumed from what was held `heldAgoUs` ago: counts it, and returns how long
   * that took since its cause, µs.
   */
  done(guest: GuestClock, heldAgoUs: number): number {
    const { cause, stats } = this;
    stats.guestClockStepUs = guest.resumedUs - guest.cutUs;
    stats.takeoverUs = heldAgoUs;
    stats.failovers.set(cause, (stats.failovers.get(cause) ?? 0) + 1);
    return Math.round(this.clock.nowUs() - this.causeUs);
  }
}
