/**
 * Whether what is on its way into the images of the disks gets there.
 *
 *   look ── smaller than before ──▶ moves on
 *     └──── not smaller in STUCK_MS of looks ──▶ FT_ERR_DISK_STUCK
 *
 * A disk that hangs for good (a network mount whose server is gone) returns no error, and whoever
 * waits for it would wait for ever; so it counts as one that failed. Looks are counted, not time: a
 * process that was stopped for a while has not seen its disks hang.
 */
import { FtError } from '../common/errors';
import type { Machine } from '../machine/machine';

/** Between two looks of whoever waits. */
export const LOOK_MS = 1;
const STUCK_MS = 10_000;

export class DiskProgress {
  /** As of the newest look, or of the body applied last. */
  private bytes = 0;
  /** Looks in a row that found the backlog no smaller than it was before. */
  private inVain = 0;

  constructor(private readonly machine: Pick<Machine, 'diskBacklogBytes'>) {}

  /** So much was on its way when it was last heard of. */
  get backlogBytes(): number {
    return this.bytes;
  }

  /** So much is on its way, as the machine said by itself. */
  note(bytes: number): void {
    if (bytes < this.bytes) this.inVain = 0;
    this.bytes = bytes;
  }

  /** Looks; FT_ERR_DISK_STUCK when it was in vain for too long. */
  look(): FtError | undefined {
    const before = this.bytes;
    this.bytes = this.machine.diskBacklogBytes();
    this.inVain = this.bytes < before ? 0 : this.inVain + 1;
    return this.inVain * LOOK_MS < STUCK_MS ? undefined : stuck(this.bytes);
  }

  /** Nobody waits any more: the next look is the first again. */
  rest(): void {
    this.inVain = 0;
  }
}

function stuck(backlogBytes: number): FtError {
  const message =
    `Nothing of ${backlogBytes} bytes has reached the disk images here for ` +
    `${STUCK_MS / 1000} s: their storage hangs. See to the device, mount or network ` +
    'that they lie on.';
  return new FtError('FT_ERR_DISK_STUCK', message, { backlogBytes });
}
