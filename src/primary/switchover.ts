/**
 * A planned exchange of roles, on the side that gives the guest away: from the request to the word
 * of the other side that the guest runs there.
 *
 *   begin ─▶ halting ── the first epoch cut of the halted guest, N, the last that is sent ─▶ draining
 *               │ 2 s over, or the guest ended itself      N acked, its output has left │ │
 *               ▼                                                                       │ ▼
 *           cancelled: nothing was given up, the guest runs on here ◀── 2 s over ───────┘ handOver
 *                                                                                         │
 *   done ◀── bye with tookOver: the guest is fenced here ────────────────── handed over ◀─┘
 *                                                                    │ 2 s over
 *                                              link dropped ◀────────┘
 *
 * Until handOver is sent this is a protected primary whose guest stands still. From then on this
 * side has no right to run it, nor to let a byte of it leave, before the witness says so: whatever
 * comes instead of the word (silence, the end of the link) goes the way of every lost standby,
 * through a claim. So whichever side dies at whichever point, the witness decides as always, and the
 * only thing that this file adds is that the standby may claim at once.
 */
import type { Clock, Timer } from '../common/clock';
import { FtError } from '../common/errors';
import type { TookOver } from '../wire/messages';
import type { GenerationRecord } from '../witness/witness';

/** How a switchover went, as this side saw it. */
export interface SwitchoverDone {
  /** In which the guest runs over there. */
  readonly generation: number;
  /**
   * How long the guest stood still, at most, µs: from the request to halt it until the other side's
   * word was read here, which it sends when the guest runs.
   */
  readonly blackoutUs: number;
  /** Of these: until its last epoch was acknowledged and its output out, and handOver was sent. */
  readonly drainUs: number;
  /** Of these, by the other side's clock: from handOver read until the guest ran. */
  readonly takeoverUs: number;
}

export interface SwitchoverSteps {
  /** Sends handOver: `epoch` was the last. */
  handOver(epoch: number): void;
  /** What was acknowledged has left. */
  outputIsOut(): boolean;
  /** It took too long, and nothing was given up. */
  cancel(error: FtError): void;
  /** The other side says nothing; the witness must decide. */
  lose(error: FtError): void;
}

/** For each of the two waits; far above what either takes on a link that works. */
const WAIT_MS = 2000;
const LOOK_MS = 1;

export class Switchover {
  private readonly beganUs: number;
  private timer: Timer;
  private lookTimer: Timer | undefined;
  private last = 0;
  private handedUs = 0;
  private settledEpoch = 0;
  private resolve: (outcome: SwitchoverDone | FtError) => void = () => undefined;
  /** Never rejects: what kept the exchange from happening is a value. */
  readonly outcome = new Promise<SwitchoverDone | FtError>((resolve) => {
    this.resolve = resolve;
  });

  /** The caller halts the guest right after. */
  constructor(
    private readonly clock: Clock,
    private readonly steps: SwitchoverSteps,
  ) {
    this.beganUs = clock.nowUs();
    this.timer = clock.after(WAIT_MS, () => {
      const what = this.last === 0 ? 'did not come to a cut' : 'was not acknowledged';
      const message = `The guest's last epoch ${what} within ${WAIT_MS} ms; it goes on here.`;
      steps.cancel(new FtError('FT_ERR_SWITCHOVER_SLOW', message, { waitMs: WAIT_MS }));
    });
  }

  /** The right to run the guest was given up; only the other side's word or the witness counts. */
  get handedOver(): boolean {
    return this.handedUs !== 0;
  }

  /** Every piece of `epoch`, the guest's last here, was sent. */
  lastSent(epoch: number): void {
    this.last = epoch;
    this.settled(this.settledEpoch);
  }

  /** All epochs up to `epoch` are acknowledged, and their output may leave. */
  settled(epoch: number): void {
    this.settledEpoch = epoch;
    if (this.last === 0 || epoch < this.last || this.handedOver) return;
    this.lookTimer?.cancel();
    if (!this.steps.outputIsOut()) {
      this.lookTimer = this.clock.after(LOOK_MS, () => this.settled(epoch));
      return;
    }
    this.timer.cancel();
    this.timer = this.clock.after(WAIT_MS, () => {
      const message = `The standby did not say within ${WAIT_MS} ms whether it took the guest over.`;
      this.steps.lose(new FtError('FT_ERR_SWITCHOVER_SILENT', message, { waitMs: WAIT_MS }));
    });
    this.handedUs = this.clock.nowUs();
    this.steps.handOver(this.last);
  }

  /** The guest runs over there. */
  done({ generation, takeoverUs }: TookOver): SwitchoverDone {
    this.stop();
    const blackoutUs = this.clock.nowUs() - this.beganUs;
    const done = { generation, blackoutUs, drainUs: this.handedUs - this.beganUs, takeoverUs };
    this.resolve(done);
    return done;
  }

  /** It came to nothing, or to something that nobody here knows the figures of. */
  fail(error: FtError): undefined {
    this.stop();
    this.resolve(error);
  }

  /** Waits for nothing any more; the outcome is still open. */
  stop(): void {
    this.timer.cancel();
    this.lookTimer?.cancel();
  }
}

/** Codes of a switchover that was begun, and of which this node does not know how it ended: the guest
 * may be at the other host. After any other code it is where it was. */
export const SWITCHOVER_UNKNOWN: ReadonlySet<string> = new Set([
  'FT_ERR_SWITCHOVER_WORD',
  'FT_ERR_SWITCHOVER_ENDED',
]);

/** Why a guest was not handed over, or why nobody here knows how it went; for whoever asked. */
export const SwitchoverError = {
  /** It cannot begin. */
  state(state: string): FtError {
    const message =
      `A switchover needs a protected guest, and this node is ${state}; ask again when its state ` +
      'is "protected".';
    return new FtError('FT_ERR_SWITCHOVER_STATE', message, { state });
  },
  guestEnded(): FtError {
    const message = 'The guest ended itself, so it is handed over to nobody.';
    return new FtError('FT_ERR_SWITCHOVER_GUEST_ENDED', message);
  },
  goesOnHere(why: string): FtError {
    const message = `The guest was not handed over and goes on here: ${why}.`;
    return new FtError('FT_ERR_SWITCHOVER_FAILED', message, { why });
  },
  /** This node came to its end in the midst of it. */
  ended(why: string): FtError {
    const message =
      `This node ended in the midst of the switchover: ${why}. Where the guest runs is not known ` +
      'here; ask the other node for its status.';
    return new FtError('FT_ERR_SWITCHOVER_ENDED', message, { why });
  },
  /** The other side has the guest, and this one heard of it from the witness alone. */
  wordLost({ generation, owner }: GenerationRecord): FtError {
    const message =
      `Node ${owner} won the guest in generation ${generation}, as the witness says. How it goes on ` +
      'there is not known here, since the link was lost; ask that node for its status.';
    return new FtError('FT_ERR_SWITCHOVER_WORD', message, { generation, owner });
  },
} as const;
