/**
 * Claims at the witness until the outcome is known. An unreachable witness means "unknown": the
 * claim is made again (it is idempotent for its owner), and meanwhile nothing is opened.
 */
import type { Clock, Timer } from '../common/clock';
import { type FtError, toFtError } from '../common/errors';
import type { GenerationRecord, Witness } from '../witness/witness';

export interface ClaimOptions {
  readonly clock: Clock;
  readonly witness: Witness;
  readonly pair: string;
  readonly nodeId: string;
}

export interface ClaimHandlers {
  onWon(generation: number): void;
  onLost(current: GenerationRecord): void;
  /** The outcome is unknown; another try follows. */
  onUnknown(error: FtError, tries: number): void;
}

const RETRY_MS_MIN = 20;
/** Of a guest that waits for a witness which is back already; asking costs next to nothing. */
const RETRY_MS_MAX = 250;

export class Claim {
  private timer: Timer | undefined;
  private stopped = false;
  private tries = 0;
  private waitMs = RETRY_MS_MIN;

  constructor(
    private readonly options: ClaimOptions,
    private readonly fromGeneration: number,
    private readonly handlers: ClaimHandlers,
  ) {
    this.attempt();
  }

  /** Nothing is called back any more. */
  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
  }

  private attempt(): void {
    this.tries += 1;
    const { clock, witness, pair, nodeId } = this.options;
    witness.claim(pair, this.fromGeneration, nodeId).then(
      (result) => {
        if (this.stopped) return;
        if (result.outcome === 'won') this.handlers.onWon(result.generation);
        else this.handlers.onLost(result.current);
      },
      (thrown: unknown) => {
        if (this.stopped) return;
        this.handlers.onUnknown(toFtError(thrown, 'FT_ERR_WITNESS_UNKNOWN'), this.tries);
        // Whoever heard that may have ended the guest: nothing more is claimed for it.
        if (this.stopped) return;
        this.timer = clock.after(this.waitMs, () => this.attempt());
        this.waitMs = Math.min(RETRY_MS_MAX, this.waitMs * 2);
      },
    );
  }
}
