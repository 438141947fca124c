/** What a standby counts, bumped in place; read by whoever shows it. */
import { WindowedHistogram } from '../common/histogram';

/**
 * Where the time of an epoch goes on this side; one value a piece of an epoch and stage, µs.
 *
 *   decode   the piece is next in what was read ─▶ checksum, order and every record are sound
 *   ack      the epoch is held whole ─▶ its acknowledgement is with the system; acks of epochs that
 *            came together are one
 *   apply    its records are written to the image
 */
export class StandbyStages {
  readonly decode = new WindowedHistogram();
  readonly ack = new WindowedHistogram();
  readonly apply = new WindowedHistogram();
}

export class StandbyStats {
  /** The newest epoch held whole, and the newest applied to the image. */
  epochHeld = 0;
  epochApplied = 0;
  epochsHeld = 0;
  pagesApplied = 0;
  bodyBytes = 0;
  rawBytes = 0;
  syncBytes = 0;
  heldBytesMax = 0;
  auditMismatches = 0;
  /** Stretches in which acks waited for the disks to catch up. */
  acksDeferred = 0;
  /** Images that could not be written. */
  diskFailures = 0;
  sessions = 0;
  sessionsDropped = 0;
  refused = 0;
  suspicions = 0;
  claims = 0;
  /** Cause of the suspicion → how often this side took over for it. */
  readonly failovers = new Map<string, number>();
  /**
   * The takeover here, if there was one: by how much the guest's own clock went on between the state
   * it was resumed from and its first step here, and how much real time passed meanwhile, µs.
   */
  guestClockStepUs = 0;
  takeoverUs = 0;
  readonly stages = new StandbyStages();

  /** By how much the guest's clock fell behind real time in the takeover. */
  get guestClockBehindUs(): number {
    return this.takeoverUs - this.guestClockStepUs;
  }
}
