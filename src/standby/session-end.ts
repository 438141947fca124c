/**
 * What the ends of a session's two connections prove, and from when on they allow a claim.
 *
 *   whole ── one connection ends ──▶ half ── the other ends, and both were closed ──▶ closed: claim
 *                                      │       by the peer's kernel                    at once
 *                                      └── so long after this that no sign of ours ──▶ lapsed: claim
 *                                          can serve the primary any more
 *
 * Why both, closed by the peer's kernel (a FIN, or a reset), mean that nothing leaves the primary any
 * more: its kernel closes them by itself only when the last thread of the process is gone; and the
 * process closes them in the turn of its event loop in which it has stopped to release output, and
 * releases none after that without the witness. One of them alone proves less, since anything on the
 * way may cut a single connection; so does an error of the path (a time-out, no route), which says
 * something about the way there and nothing about who is at its end. A primary that still runs, or
 * was only stopped, may then hold signs of ours, and release by them until they are too old: see
 * docs/adr/031. So in `half` no further sign is given, and the claim waits.
 * Assumed: nobody on the way resets both connections of a session in the primary's name.
 */
import type { Clock, Timer } from '../common/clock';
import type { FtError } from '../common/errors';
import { closedByPeer } from '../transport/connection';

export interface SessionEndHandlers {
  /** The first connection ended: no sign may be given from here on. */
  onHalf(error: FtError | undefined): void;
  /** Both were closed by the peer's kernel. */
  onClosed(): void;
  /** The last sign is so old that the primary cannot use it any more. */
  onLapsed(): void;
}

export class SessionEnd {
  private timer: Timer | undefined;
  private count = 0;
  private provenCount = 0;

  constructor(
    private readonly clock: Clock,
    /** How long a sign of this side may serve the primary, with some to spare. */
    private readonly signMs: number,
    private readonly handlers: SessionEndHandlers,
  ) {}

  /** One of the two connections ended; each says so once. */
  ended(error: FtError | undefined): void {
    this.count += 1;
    if (closedByPeer(error)) this.provenCount += 1;
    if (this.provenCount === 2) {
      this.stop();
      this.handlers.onClosed();
    } else if (this.count === 1) {
      // No sign was given later than now.
      this.waitUntil(this.clock.nowUs() + this.signMs * 1000);
      this.handlers.onHalf(error);
    }
  }

  stop(): void {
    this.timer?.cancel();
    this.timer = undefined;
  }

  private waitUntil(dueUs: number): void {
    const leftMs = (dueUs - this.clock.nowUs()) / 1000;
    this.timer = this.clock.after(Math.max(0, leftMs), () => {
      if (this.clock.nowUs() < dueUs) this.waitUntil(dueUs);
      else this.handlers.onLapsed();
    });
  }
}
