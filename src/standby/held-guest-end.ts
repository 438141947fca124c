/**
 * The end of a guest that ended itself, as this side knows of it: from then on nothing is resumed.
 *
 *   none ── heard ──▶ known ── finish: what the guest wrote last is on the disks here ──▶ onWritten
 *     ▲                 │        └ a disk failed, or hangs (disk-progress.ts): onDisksStuck ──▲
 *     └──── forget ─────┘  the operator ended this side, or a primary may start the guest anew
 */
import type { Clock, Timer } from '../common/clock';
import type { FtError } from '../common/errors';
import type { GuestEnd, Machine } from '../machine/machine';
import { DiskProgress, LOOK_MS } from './disk-progress';

export interface HeldGuestEndHandlers {
  /** An image here lacks what was promised to be in it, and there is nothing to wait for. */
  diskFailed(): boolean;
  /** FT_ERR_DISK_STUCK: from now on diskFailed() is true. */
  onDisksStuck(error: FtError): void;
  onWritten(end: GuestEnd): void;
}

export class HeldGuestEnd {
  private end: GuestEnd | undefined;
  private timer: Timer | undefined;
  private readonly progress: DiskProgress;

  constructor(
    private readonly clock: Clock,
    machine: Pick<Machine, 'diskBacklogBytes'>,
    private readonly handlers: HeldGuestEndHandlers,
  ) {
    this.progress = new DiskProgress(machine);
  }

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
    this.timer?.cancel();
    this.progress.rest();
  }

  /** What the guest wrote last belongs on the disks here, too; then onWritten follows, once. Asked
   * again while that is awaited, it looks again. */
  readonly finish = (): void => {
    const { end, handlers, progress } = this;
    if (end === undefined) return;
    this.timer?.cancel();
    if (!handlers.diskFailed()) {
      const stuck = progress.look();
      if (stuck !== undefined) {
        handlers.onDisksStuck(stuck);
        return;
      }
      if (progress.backlogBytes > 0) {
        this.timer = this.clock.after(LOOK_MS, this.finish);
        return;
      }
    }
    handlers.onWritten(end);
  };
}
