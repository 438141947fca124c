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
 */
import type { Clock, Timer } from '../common/clock';
import { FtError } from '../common/errors';
import type { Logger } from '../common/logger';
import type { GuestHalt } from './guest-halt';

export type WitnessLossPolicy = 'hold' | 'pause' | 'stop';

/** A witness that takes longer to answer is out of reach for the guest's clients. */
const ANSWER_MS = 1000;

export class WitnessLoss {
  private timer: Timer | undefined;
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
    this.timer = this.clock.after(ANSWER_MS, () => {
      const message = `The witness did not answer within ${ANSWER_MS} ms.`;
      this.unknown(new FtError('FT_ERR_WITNESS_SLOW', message, { waitMs: ANSWER_MS }), 1);
    });
  }

  /** The witness decided, or nobody asks any more. */
  end(): void {
    this.timer?.cancel();
    this.outOfReach = undefined;
  }

  /** A claim's outcome is unknown, after so many tries. */
  unknown(error: FtError, tries: number): void {
    this.timer?.cancel();
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

  private act(error: FtError): void {
    if (this.policy === 'stop') this.onStop(error);
    else if (this.policy === 'pause') this.halts.halt('witness-loss');
    // A guest that stood still to be handed over need not wait for a witness that is away.
    else this.halts.resume('switchover', 'witness-loss');
  }
}
