/**
 * What a suspended primary does while the witness cannot say who owns the guest (--on-witness-loss).
 *
 *   begin ─▶ asked ── answer ─▶ end
 *              │ an error, or no answer within a second
 *              ▼
 *           out of reach ─▶ hold:  the guest runs on, its output held, until the outbox is full
 *                           pause: the guest stands still at once
 *                           stop:  the guest is ended here, and the process with it
 *
 * None of them opens the output: that would be promise 2 given up. What each costs: docs/policies.md.
 *
 * A stall of this very process must not pass for a witness that is silent: timers run before waiting
 * input is read, and an answer that is read too late is an error to whoever asked, while the claim
 * may be won long since; "stop" would then end a guest that is this side's. So a second that ends on
 * time gives waiting input one turn of the loop, and one that ends late begins anew. The error of
 * the try that was under way then has no meaning either: the claim is made again, and finds out.
 */
import type { Clock, Timer } from '../common/clock';
import { FtError } from '../common/errors';
import type { Logger } from '../common/logger';
import type { GuestHalt } from './guest-halt';

export type WitnessLossPolicy = 'hold' | 'pause' | 'stop';

/** A witness that takes longer to answer is out of reach for the guest's clients. */
const ANSWER_MS = 1000;
/** A second that ends so late was none of the witness's. */
const STALL_MS = 100;

export class WitnessLoss {
  private timer: Timer | undefined;
  /** When the second ends. */
  private dueUs = 0;
  /** The newest try of the claim that ended in an error, and the newest whose error means nothing. */
  private tries = 0;
  private triesVoid = 0;
  /** What keeps the witness from answering; undefined while it is not known to be out of reach. */
  private outOfReach: FtError | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly logger: Logger,
    private policy: WitnessLossPolicy,
    private readonly halts: GuestHalt,
    /** "stop" is the policy: the guest shall end. */
    private readonly onStop: (error: FtError) => void,
  ) {}

  /** A claim is being made. */
  begin(): void {
    this.end();
    this.tries = 0;
    this.triesVoid = 0;
    this.wait();
  }

  /** The witness decided, or nobody asks any more. */
  end(): void {
    this.timer?.cancel();
    this.timer = undefined;
    this.outOfReach = undefined;
  }

  /** A claim's outcome is unknown, after so many tries. */
  unknown(error: FtError, tries: number): void {
    if (this.stalled) this.waitAnew();
    this.tries = tries;
    if (tries > this.triesVoid) this.away(error, tries);
  }

  private away(error: FtError, tries: number): void {
    this.timer?.cancel();
    this.timer = undefined;
    const known = this.outOfReach !== undefined;
    if (!known || (tries & (tries - 1)) === 0) {
      const facts = { code: error.code, cause: error.message, tries, policy: this.policy };
      const message = 'the witness cannot be reached; output stays held';
      this.logger.warn(message, { event: 'witness', ...facts });
    }
    if (known) return;
    this.outOfReach = error;
    this.act(error);
  }

  /** Another policy counts from now on, for a witness that is out of reach already too. */
  setPolicy(policy: WitnessLossPolicy): void {
    if (policy === this.policy) return;
    this.policy = policy;
    if (this.outOfReach !== undefined) this.act(this.outOfReach);
  }

  private wait(): void {
    this.timer?.cancel();
    this.dueUs = this.clock.nowUs() + ANSWER_MS * 1000;
    const timer = this.clock.after(ANSWER_MS, () => {
      const message = `The witness did not answer within ${ANSWER_MS} ms.`;
      const error = new FtError('FT_ERR_WITNESS_SLOW', message, { waitMs: ANSWER_MS });
      this.clock.soon(() => {
        if (this.timer !== timer) return;
        if (this.stalled) this.waitAnew();
        else this.away(error, this.tries + 1);
      });
    });
    this.timer = timer;
  }

  private waitAnew(): void {
    this.triesVoid = this.tries + 1;
    this.wait();
  }

  /** The second is over for so long that this process must have stood still. */
  private get stalled(): boolean {
    return this.timer !== undefined && this.clock.nowUs() - this.dueUs > STALL_MS * 1000;
  }

  private act(error: FtError): void {
    if (this.policy === 'stop') this.onStop(error);
    else if (this.policy === 'pause') this.halts.halt('witness-loss');
    // A guest that stood still to be handed over need not wait for a witness that is away.
    else this.halts.resume('switchover', 'witness-loss');
  }
}
