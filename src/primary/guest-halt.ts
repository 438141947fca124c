/**
 * Why the guest stands still, when it does: it runs on when no reason is left.
 *
 *   switchover     it is being handed over
 *   standby-loss   --on-standby-loss pause: it was protected once, and is not now
 *   witness-loss   --on-witness-loss pause: nobody can say whether it may speak
 */
import type { Machine } from '../machine/machine';
import type { PrimaryState } from './primary-types';

export type HaltReason = 'switchover' | 'standby-loss' | 'witness-loss';

/** Whether a guest that was protected once stands still while it is not. */
export type StandbyLossPolicy = 'continue' | 'pause';

export class GuestHalt {
  private readonly reasons = new Set<HaltReason>();
  private wasProtected = false;
  private state: PrimaryState = 'starting';

  constructor(
    private readonly machine: Pick<Machine, 'haltGuest' | 'resumeGuest'>,
    private onStandbyLoss: StandbyLossPolicy,
  ) {}

  /** The reasons that hold, "" for a guest that runs. */
  get why(): string {
    return [...this.reasons].join(' ');
  }

  halt(reason: HaltReason): void {
    this.reasons.add(reason);
    this.machine.haltGuest();
  }

  resume(...reasons: readonly HaltReason[]): void {
    if (this.reasons.size === 0) return;
    for (const reason of reasons) this.reasons.delete(reason);
    if (this.reasons.size === 0) this.machine.resumeGuest();
  }

  /** Told of every state of the primary: the policy counts from the first "protected" on. */
  stateIs(state: PrimaryState): void {
    this.state = state;
    if (state === 'protected') {
      this.wasProtected = true;
      this.resume('standby-loss');
    } else if (state === 'solo' || state === 'suspended') {
      if (this.waitsForStandby) this.halt('standby-loss');
      else this.resume('standby-loss');
    }
  }

  /**
   * Another policy counts from now on. While a standby is being made nothing changes: a guest that
   * stands still runs on when the standby holds it, or is lost again.
   */
  setOnStandbyLoss(policy: StandbyLossPolicy): void {
    this.onStandbyLoss = policy;
    this.stateIs(this.state);
  }

  /** The policy says that nothing goes on, and nothing is said, before a standby holds the base. */
  get waitsForStandby(): boolean {
    return this.wasProtected && this.onStandbyLoss === 'pause';
  }

  /** What the log says that the guest does while no standby holds it. */
  get withoutStandby(): string {
    const waits = this.waitsForStandby;
    return waits ? 'The guest waits for a standby.' : 'The guest runs on unprotected.';
  }
}
