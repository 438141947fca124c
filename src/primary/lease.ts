/**
 * This side of the lease on the release path: until when output that is acknowledged may leave.
 *
 *   beat k leaves at t ──▶ the standby takes note of it, later than t ──▶ echo k ──▶ extendLease(t)
 *   epoch N is cut at t ─▶ the standby holds it, later than t ──────────▶ ack N ───▶ commit(N)
 *
 *   lease    t ├──────── leaseUs ────────┤        output may leave only before this end
 *   standby        h ├────── suspectAfterMs ──────┤ suspicion, not before this; then a claim
 *
 * Whatever the standby answers, it heard it after it was sent (h > t), and it does not suspect this
 * side on silence before suspectAfterMs have passed since it heard that. So the lease has ended
 * before anybody else can be promoted, also where this process, or its whole host, stood still in
 * between and finds acks in its socket when it goes on. The clock of the lease counts such times.
 * The margin covers clocks that do not run at quite the same speed.
 *
 * The moments are this side's own: a standby can only name a beat that it was sent.
 */
import { FtError } from '../common/errors';
import type { Logger } from '../common/logger';
import type { Machine } from '../machine/machine';

/** Clocks of two hosts differ by far less than this part; and rounding is far less than 0.5 ms. */
const MARGIN_RATIO = 0.01;
const MARGIN_US_MIN = 500;
/** Beats whose moments are known; a power of two. An echo that is older extends nothing. */
const BEATS_REMEMBERED = 1024;
/** So many echoes in a row that came when their lease had ended are no chance. */
const LATE_ECHOES = 20;

/** How long output may leave after a sign to a standby that waits for `suspectAfterMs`, µs. */
export function leaseUsOf(suspectAfterMs: number): number {
  const waitUs = suspectAfterMs * 1000;
  return Math.floor(waitUs - Math.max(MARGIN_US_MIN, waitUs * MARGIN_RATIO));
}

export class Lease {
  private leaseUs = 0;
  private suspectAfterMs = 0;
  private sequence = 0;
  private lastEcho = 0;
  private lateInARow = 0;
  private saidLate = false;
  private readonly sentAtUs = new Float64Array(BEATS_REMEMBERED);

  constructor(
    private readonly machine: Pick<Machine, 'leaseNowUs' | 'extendLease'>,
    private readonly logger: Logger,
  ) {}

  /** A session begins with a standby that waits so long; returns the policy's leaseUs. */
  begin(suspectAfterMs: number): number {
    this.suspectAfterMs = suspectAfterMs;
    this.leaseUs = leaseUsOf(suspectAfterMs);
    this.sequence = 0;
    this.lastEcho = 0;
    this.lateInARow = 0;
    this.saidLate = false;
    return this.leaseUs;
  }

  /** The number of the heartbeat that is sent now. */
  nextBeat(): number {
    this.sequence += 1;
    this.sentAtUs[this.sequence % BEATS_REMEMBERED] = this.machine.leaseNowUs();
    return this.sequence;
  }

  /** The standby has heard the beat of this number. FT_ERR_ECHO when none such was sent. */
  echoed(sequence: number): FtError | undefined {
    if (sequence > this.sequence) {
      const message =
        `The standby echoes heartbeat ${sequence}, and ${this.sequence} were sent; the link is ` +
        'dropped.';
      return new FtError('FT_ERR_ECHO', message, { echo: sequence, sent: this.sequence });
    }
    const known = sequence > this.sequence - BEATS_REMEMBERED;
    if (sequence <= this.lastEcho || !known) return undefined;
    this.lastEcho = sequence;
    const sentAtUs = this.sentAtUs[sequence % BEATS_REMEMBERED] ?? 0;
    this.machine.extendLease(sentAtUs);
    this.watch(this.machine.leaseNowUs() - sentAtUs);
    return undefined;
  }

  /** A link on which every sign comes too late holds all output for ever: that is said, once. */
  private watch(roundTripUs: number): void {
    if (roundTripUs < this.leaseUs) {
      this.lateInARow = 0;
      return;
    }
    this.lateInARow += 1;
    if (this.lateInARow < LATE_ECHOES || this.saidLate) return;
    this.saidLate = true;
    const roundTripMs = Math.ceil(roundTripUs / 1000);
    this.logger.error(
      `The way to the standby and back takes ${roundTripMs} ms, and the standby may take over ` +
        `${this.suspectAfterMs} ms after a sign of ours, so that output cannot leave in time and ` +
        'waits. Start the standby with --suspect-after-ms of at least twice the round trip.',
      { roundTripMs, suspectAfterMs: this.suspectAfterMs, leaseUs: this.leaseUs },
    );
  }
}
