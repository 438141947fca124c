/**
 * Whether a switchover may begin: asked before the guest is halted and before any right is given up.
 *
 *   asked for ── not protected · one is being asked for already ──────────▶ refused
 *       │
 *       ▼ the witness is looked at; the guest runs on, protected
 *   looking ── it is away · knows another generation · is none ───────────▶ refused
 *       │
 *       ▼ looked at again: the link, the guest and this node went on meanwhile
 *   may begin ── not protected any more ──────────────────────────────────▶ refused
 *
 * After handOver neither side runs the guest before somebody has won a claim. A witness that can be
 * asked now may still be gone in a moment; then both sides ask again until it is back, as after any
 * lost link. What is refused here is what nobody would come out of: a pair without a witness would
 * wait for ever, and one whose witness is away for as long as it is.
 */
import type { Clock } from '../common/clock';
import { FtError, toFtError } from '../common/errors';
import type { NewestGeneration, Witness } from '../witness/witness';
import { type SwitchoverDone, SwitchoverError } from './switchover';

export interface SwitchoverAsker {
  readonly clock: Clock;
  readonly witness: Witness;
  readonly pair: string;
  readonly nodeId: string;
  /** Why there is nothing to hand over at this moment; undefined: a protected guest that runs. */
  readonly unable: () => FtError | undefined;
  /** In which the guest runs here. */
  readonly generation: () => number;
  /** Begins it; called in the very turn in which `unable` said nothing. Never rejects. */
  readonly begin: () => Promise<SwitchoverDone | FtError>;
}

/** A witness that takes longer would take longer over the claim, too. */
const LOOK_MS_MAX = 2000;

export class SwitchoverRequest {
  private asked: Promise<SwitchoverDone | FtError> | undefined;

  constructor(private readonly asker: SwitchoverAsker) {}

  /** The outcome of the one that was asked for, from then until it is known. Never rejects. */
  get underWay(): Promise<SwitchoverDone | FtError> | undefined {
    return this.asked;
  }

  /** Begins a switchover, or says why not. Never rejects. */
  make(): Promise<SwitchoverDone | FtError> {
    const before =
      this.asker.unable() ??
      (this.asked === undefined ? undefined : SwitchoverError.state('about to switch over'));
    if (before !== undefined) return Promise.resolve(before);
    this.asked = this.lookAndBegin();
    return this.asked;
  }

  private async lookAndBegin(): Promise<SwitchoverDone | FtError> {
    try {
      const undecided = await this.look();
      return this.asker.unable() ?? undecided ?? (await this.asker.begin());
    } catch (thrown) {
      return toFtError(thrown);
    } finally {
      this.asked = undefined;
    }
  }

  /** Why the witness would not decide a claim from the generation that runs here. */
  private async look(): Promise<FtError | undefined> {
    const { witness, pair, nodeId, generation } = this.asker;
    if (witness.asksPerson === true) {
      return refused('this pair has none, and without one no node takes a guest over', {});
    }
    const seen = await this.inTime(witness.current(pair));
    if (seen instanceof FtError) {
      return refused(`it cannot be asked now (${seen.message})`, { code: seen.code });
    }
    const ours = generation();
    if (seen?.generation === ours && seen.owner === nodeId) return undefined;
    const newest = seen === undefined ? 'no generation' : `generation ${seen.generation}`;
    const owner = seen === undefined ? '' : ` of ${seen.owner}`;
    const facts = { theirs: seen?.generation ?? 0, ours };
    return refused(`it knows ${newest}${owner}, and the guest here runs in ${ours}`, facts);
  }

  private inTime(
    asked: Promise<NewestGeneration | undefined>,
  ): Promise<NewestGeneration | FtError | undefined> {
    return new Promise((resolve) => {
      const timer = this.asker.clock.after(LOOK_MS_MAX, () => {
        const message = `The witness did not answer within ${LOOK_MS_MAX} ms.`;
        resolve(new FtError('FT_ERR_WITNESS_UNKNOWN', message, { waitMs: LOOK_MS_MAX }));
      });
      const settle = (answer: NewestGeneration | FtError | undefined): void => {
        timer.cancel();
        resolve(answer);
      };
      asked.then(settle, (thrown: unknown) => settle(toFtError(thrown, 'FT_ERR_WITNESS_UNKNOWN')));
    });
  }
}

function refused(why: string, facts: Record<string, string | number>): FtError {
  const message =
    `A switchover needs a witness that decides: ${why}. The guest runs on here, as before; ` +
    'see that both nodes reach the same witness, then ask again.';
  return new FtError('FT_ERR_SWITCHOVER_WITNESS', message, facts);
}
