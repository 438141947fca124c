/**
 * When an acknowledgement may leave: at once, or when the images of the disks have caught up.
 *
 * Acks wait while more than DISK_BACKLOG_BYTES_MAX is on its way into the images. So a disk that is
 * slower than the primary's slows the primary down, and memory does not fill up here:
 *
 *   held ──▶ backlog small ──────────────────────────────▶ ack
 *              └ large ─▶ looked at every LOOK_MS ─────────┤ (the newest epoch held, once)
 *                            └ the disks hang (disk-progress.ts) ──▶ onDisksStuck, no ack
 */
import type { Clock, Timer } from '../common/clock';
import type { FtError } from '../common/errors';
import type { Machine } from '../machine/machine';
import { DiskProgress, LOOK_MS } from './disk-progress';
import type { StandbyStats } from './standby-stats';

export interface AckHandlers {
  /** `epoch`, and all before it, may be acknowledged. */
  onHeld(epoch: number): void;
  /** See ApplierHandlers. */
  onDisksStuck(error: FtError): void;
}

const DISK_BACKLOG_BYTES_MAX = 16 * 1024 * 1024;

export class AckGate {
  private readonly progress: DiskProgress;
  /** The newest epoch whose ack waits for the disks; 0 for none. */
  private due = 0;
  private timer: Timer | undefined;

  constructor(
    private readonly clock: Clock,
    machine: Pick<Machine, 'diskBacklogBytes'>,
    private readonly stats: StandbyStats,
    private readonly handlers: AckHandlers,
  ) {
    this.progress = new DiskProgress(machine);
  }

  /** Acknowledges now, or when the disks have caught up; acks are cumulative. */
  ack(epoch: number): void {
    if (this.progress.backlogBytes <= DISK_BACKLOG_BYTES_MAX) {
      this.due = 0;
      this.rest();
      this.handlers.onHeld(epoch);
      return;
    }
    if (this.due === 0) this.stats.acksDeferred += 1;
    this.due = epoch;
    this.timer ??= this.clock.after(LOOK_MS, this.look);
  }

  /** A body was applied; so much is on its way into the images now. */
  noteBacklog(bytes: number): void {
    this.progress.note(bytes);
  }

  /** What waits is acknowledged when it may be, after a rest. */
  resume(): void {
    if (this.due !== 0) this.ack(this.due);
  }

  /** Looks no more for now. */
  rest(): void {
    this.timer?.cancel();
    this.timer = undefined;
    this.progress.rest();
  }

  /** What waits is never acknowledged. */
  forget(): void {
    this.due = 0;
    this.rest();
  }

  /** A new sync: nothing is on its way. */
  begin(): void {
    this.forget();
    this.progress.note(0);
  }

  private readonly look = (): void => {
    this.timer = undefined;
    const error = this.progress.look();
    if (error === undefined) {
      this.ack(this.due);
      return;
    }
    this.rest();
    this.handlers.onDisksStuck(error);
  };
}
