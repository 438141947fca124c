/**
 * The witness that is none: nobody promotes itself; a person decides.
 *
 * The very first claim of a boot (from generation 0) is granted, once per process and pair: without
 * it no pair could ever start, and at that moment there is nothing to decide between. It is no
 * test-and-set: nothing outside this process remembers it. Whoever runs without a witness must
 * therefore make sure that a primary is not booted while its former standby runs the guest, which
 * also means: no automatic restart of a primary that died.
 *
 * Every later claim needs `allow`, the operator's word, which serves for one claim.
 */
import { FtError } from '../common/errors';
import type { ClaimResult, GenerationRecord, NewestGeneration, Witness } from './witness';

interface Known extends GenerationRecord {
  readonly pair: string;
}

export class NoneWitness implements Witness {
  readonly description = 'none';
  readonly asksPerson = true;
  private readonly known = new Map<string, Known>();
  private readonly allowed = new Map<string, number>();

  /**
   * The operator vouches that no other node runs the guest of `pair` any more: the next claim from
   * `fromGeneration` is granted. Never call this on a guess of the program's own.
   */
  allow(pair: string, fromGeneration: number): void {
    this.allowed.set(pair, fromGeneration);
  }

  /** What this process itself was granted; it knows of no other. */
  current(pair: string): Promise<NewestGeneration | undefined> {
    const known = this.known.get(pair);
    if (known === undefined) return Promise.resolve(undefined);
    const { generation, owner } = known;
    return Promise.resolve({ generation, owner, claimant: 'self', origin: '' });
  }

  /** Rejects with FT_ERR_WITNESS_NONE whenever a person would have to decide. */
  claim(pair: string, fromGeneration: number, nodeId: string): Promise<ClaimResult> {
    const known = this.known.get(pair);
    const generation = fromGeneration + 1;
    if (known !== undefined && known.generation >= generation) {
      const { owner } = known;
      const ours = known.generation === generation && owner === nodeId;
      return Promise.resolve(
        ours
          ? { outcome: 'won', generation }
          : { outcome: 'lost', current: { generation: known.generation, owner } },
      );
    }
    const first = fromGeneration === 0 && known === undefined;
    if (!first && this.allowed.get(pair) !== fromGeneration) {
      return Promise.reject(undecided(pair, fromGeneration));
    }
    this.allowed.delete(pair);
    this.known.set(pair, { pair, generation, owner: nodeId });
    return Promise.resolve({ outcome: 'won', generation });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

function undecided(pair: string, fromGeneration: number): FtError {
  return new FtError(
    'FT_ERR_WITNESS_NONE',
    `Pair ${pair} has no witness, so this node does not take over from generation ` +
      `${fromGeneration} by itself. Make sure that the other node is stopped, then decide.`,
    { pair, fromGeneration },
  );
}
