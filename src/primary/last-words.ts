/**
 * A guest that ends itself, while a standby protects it: when it is over.
 *
 *   runs ── its last epoch N is sent ──▶ announced ── N acked, and its output out ──▶ over
 *                                          │  ▲ acked, but the lease keeps the output back: each echo
 *                                          │  └ of the standby may give it free, so it is asked again
 *                                link lost │
 *                                          ▼
 *                             the witness decides whose guest it is, and whether it ended
 */
import type { GuestEnd, Machine } from '../machine/machine';

export class LastWords {
  /** Set once the guest has ended itself. */
  end: GuestEnd | undefined;
  /** Its last epoch; 0 until that is on its way to the standby. */
  private epoch = 0;

  constructor(private readonly machine: Pick<Machine, 'stats'>) {}

  /** `epoch`, about to be sent, is the guest's last. */
  announced(epoch: number, end: GuestEnd): void {
    this.epoch = epoch;
    this.end ??= end;
  }

  /** Nobody over there will acknowledge anything. */
  linkLost(): void {
    this.epoch = 0;
  }

  /** The standby holds the last epoch, and all that the guest said has left. */
  allLeft(acked: number): boolean {
    if (this.epoch === 0 || acked < this.epoch) return false;
    return this.machine.stats().outboxFrames === 0;
  }
}
