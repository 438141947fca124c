/**
 * The end of a guest that ended itself, as this side knows of it: from then on nothing is resumed.
 *
 *   none ── heard ──▶ known ── finish: what the guest wrote last is on the disks here ──▶ onWritten
 *     ▲                 │
 *     └──── forget ─────┘  the operator ended this side, or a primary may start the guest anew
 */
import type { Clock } from '../common/clock';
import type { GuestEnd, Machine } from '../machine/machine';

const POLL_MS = 1;

export class HeldGuestEnd {
  private end: GuestEnd | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly machine: Pick<Machine, 'diskBacklogBytes'>,
    /** An image here lacks what was promised to be in it, and there is nothing to wait for. */
    private readonly diskFailed: () => boolean,
    private readonly onWritten: (end: GuestEnd) => void,
  ) {}

  get known(): boolean {
    return this.end !== undefined;
  }

  /** False when it was known before. */
  heard(end: GuestEnd): boolean {
    if (this.end !== undefined) return false;
    this.end = end;
    return true;
  }

  forget(): void {
    this.end = undefined;
  }

  /** What the guest wrote last belongs on the disks here, too; then onWritten follows. */
  readonly finish = (): void => {
    const { end } = this;
    if (end === undefined) return;
    if (!this.diskFailed() && this.machine.diskBacklogBytes() > 0) {
      this.clock.after(POLL_MS, this.finish);
      return;
    }
    this.onWritten(end);
  };
}
