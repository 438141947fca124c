/**
 * When an acknowledgement may leave: at once, or when the images of the disks have caught up.
 *
 * Acks wait while more than DISK_BACKLOG_BYTES_MAX is on its way into the images. So a disk that is
 * slower than the primary's slows the primary down, and memory does not fill up here:
 *
 *   held ──▶ backlog small ──────────────────────────────▶ ack
 *              └ large ─▶ looked at every BACKLOG_POLL_MS ─┤ (the newest epoch held, once)
 *                            └ not smaller in BACKLOG_STUCK_MS of looks ──▶ onDisksStuck, no ack
 *
 * A disk that hangs for good (a network mount whose server is gone) returns no error, and a healthy
 * primary's guest would wait for its acks for ever; so it counts as one that failed. Looks are
 * counted, not time: a process that was stopped for a while has not seen its disks hang.
 */
import type { Clock, Timer } from '../common/clock';
import { FtError } from '../common/errors';
import type { Machine } from '../machine/machine';
import type { StandbyStats } from './standby-stats';

export interface AckHandlers {
  /** `epoch`, and all before it, may be acknowledged. */
  onHeld(epoch: number): void;
  /** See ApplierHandlers. */
  onDisksStuck(error: FtError): void;
}

const DISK_BACKLOG_BYTES_MAX = 16 * 1024 * 1024;
const BACKLOG_POLL_MS = 1;
const BACKLOG_STUCK_MS = 10_000;

export class AckGate {
  /** As of the body applied last, or of the last look. */
  private backlogBytes = 0;
  /** The newest epoch whose ack waits for the disks; 0 for none. */
  private due = 0;
  private timer: Timer | undefined;
  /** Looks in a row that found the backlog no smaller than it was before. */
  private looksInVain = 0;

  constructor(
    private readonly clock: Clock,
    private readonly machine: Pick<Machine, 'diskBacklogBytes'>,
    private readonly stats: StandbyStats,
    private readonly handlers: AckHandlers,
  ) {}

  /** Acknowledges now, or when the disks have caught up; acks are cumulative. */
  ack(epoch: number): void {
    if (this.backlogBytes <= DISK_BACKLOG_BYTES_MAX) {
      this.due = 0;
      this.rest();
      this.handlers.onHeld(epoch);
      return;
    }
    if (this.due === 0) this.stats.acksDeferred += 1;
    this.due = epoch;
    this.timer ??= this.clock.after(BACKLOG_POLL_MS, this.look);
  }

  /** A body was applied; so much is on its way into the images now. */
  noteBacklog(bytes: number): void {
    if (bytes < this.backlogBytes) this.looksInVain = 0;
    this.backlogBytes = bytes;
  }

  /** What waits is acknowledged when it may be, after a rest. */
  resume(): void {
    if (this.due !== 0) this.ack(this.due);
  }

  /** Looks no more for now. */
  rest(): void {
    this.timer?.cancel();
    this.timer = undefined;
    this.looksInVain = 0;
  }

  /** What waits is never acknowledged. */
  forget(): void {
    this.due = 0;
    this.rest();
  }

  /** A new sync: nothing is on its way. */
  begin(): void {
    this.forget();
    this.backlogBytes = 0;
  }

  private readonly look = (): void => {
    this.timer = undefined;
    const before = this.backlogBytes;
    this.backlogBytes = this.machine.diskBacklogBytes();
    this.looksInVain = this.backlogBytes < before ? 0 : this.looksInVain + 1;
    if (this.looksInVain * BACKLOG_POLL_MS < BACKLOG_STUCK_MS) {
      this.ack(this.due);
      return;
    }
    this.rest();
    this.handlers.onDisksStuck(this.stuck());
  };

  private stuck(): FtError {
    const { backlogBytes } = this;
    const message =
      `Nothing of ${backlogBytes} bytes has reached the disk images here for ` +
      `${BACKLOG_STUCK_MS / 1000} s: their storage hangs. See to the device, mount or network ` +
      'that they lie on.';
    return new FtError('FT_ERR_DISK_STUCK', message, { backlogBytes });
  }
}
