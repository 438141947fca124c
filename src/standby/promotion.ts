/**
 * From suspicion to certainty: claims the next generation until the witness has said who owns it.
 *
 *   claiming ── won ──▶ onWon            lost ──▶ onLost
 *      ▲  │ rejected: the outcome is unknown
 *      │  ▼
 *      │ waiting ──▶ looking ── somebody else's ────────────────────────────────▶ onLost
 *      │                │   ├── not claimed, and the primary alive, or the guest
 *      │                │   │   could not be run here ──────────────────────────▶ onNotClaimed
 *      │                │   └── rejected ──▶ waiting
 *      └────────────────┴── not claimed and primary silent, or owned by this node's name
 *
 * A claim whose answer was lost may have succeeded. Going back to `ready` on a guess could leave a
 * generation that is ours with nobody running in it, so that is done only when the witness says
 * that nobody claimed it: no earlier claim of ours can take effect after that (witness.ts).
 */
import type { Clock, Timer } from '../common/clock';
import { type FtError, toFtError } from '../common/errors';
import type { ClaimResult, GenerationRecord, Witness } from '../witness/witness';

export interface PromotionOptions {
  readonly clock: Clock;
  readonly witness: Witness;
  readonly pair: string;
  readonly nodeId: string;
  /** The generation the lost primary ran in. */
  readonly generation: number;
  /** Whether a claim still makes sense, when the witness says that nobody has made one. */
  readonly mayClaim: () => boolean;
  readonly onWon: (generation: number) => void;
  readonly onLost: (current: GenerationRecord) => void;
  readonly onNotClaimed: () => void;
  readonly onUnknown: (error: FtError, tries: number) => void;
}

const RETRY_MS_MIN = 20;
/** Of a guest that waits for a witness which is back already; asking costs next to nothing. */
const RETRY_MS_MAX = 250;

export class Promotion {
  private timer: Timer | undefined;
  private stopped = false;
  private tries = 0;
  private waitMs = RETRY_MS_MIN;

  constructor(private readonly options: PromotionOptions) {
    this.claim();
  }

  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
  }

  private claim(): void {
    const { witness, pair, generation, nodeId } = this.options;
    witness.claim(pair, generation, nodeId).then(
      (result) => this.claimed(result),
      (thrown: unknown) => this.unknown(thrown),
    );
  }

  private claimed(result: ClaimResult): void {
    if (this.stopped) return;
    this.stop();
    if (result.outcome === 'won') this.options.onWon(result.generation);
    else this.options.onLost(result.current);
  }

  private unknown(thrown: unknown): void {
    if (this.stopped) return;
    this.tries += 1;
    this.options.onUnknown(toFtError(thrown, 'FT_ERR_WITNESS_UNKNOWN'), this.tries);
    this.timer = this.options.clock.after(this.waitMs, () => this.look());
    this.waitMs = Math.min(RETRY_MS_MAX, this.waitMs * 2);
  }

  private look(): void {
    const { witness, pair } = this.options;
    witness.current(pair).then(
      (current) => this.looked(current),
      (thrown: unknown) => this.unknown(thrown),
    );
  }

  private looked(current: GenerationRecord | undefined): void {
    if (this.stopped) return;
    const { generation, nodeId, mayClaim } = this.options;
    const newest = current?.generation ?? 0;
    if (current !== undefined && newest > generation) {
      // A name alone is no proof that this very process won: the claim, made again, says so.
      if (current.owner === nodeId) this.claim();
      else this.claimed({ outcome: 'lost', current });
    } else if (mayClaim()) {
      this.claim();
    } else {
      this.stop();
      this.options.onNotClaimed();
    }
  }
}
