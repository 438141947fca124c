/**
 * A witness in memory, with the faults a witness can have: it is slow, it cannot be reached, or the
 * answer to a claim that succeeded is lost.
 */
import type { Clock } from '../../src/common/clock';
import { FtError } from '../../src/common/errors';
import type { ClaimResult, NewestGeneration, Witness } from '../../src/witness/witness';
import type { HostGate } from './host-gate';

export class SimWitness implements Witness {
  readonly description = 'memory';
  /** Every generation ever won, in order: index 0 is generation 1. */
  readonly owners: string[] = [];
  delayMs = 1;
  /** Nodes that cannot reach it. */
  readonly unreachableFor = new Set<string>();
  /** Nodes whose next claim takes effect while its answer is lost. */
  readonly loseAnswerFor = new Set<string>();

  constructor(private readonly clock: Clock) {}

  /** The witness as one node sees it. */
  seenBy(nodeId: string, gate: HostGate): Witness {
    return {
      description: this.description,
      current: (pair) => this.reach(nodeId, gate, () => this.newest(pair)),
      claim: (pair, from, claimant) =>
        this.reach(nodeId, gate, () => this.decide(pair, from, claimant)),
      close: () => Promise.resolve(),
    };
  }

  current(pair: string): Promise<NewestGeneration | undefined> {
    return Promise.resolve(this.newest(pair));
  }

  claim(pair: string, fromGeneration: number, nodeId: string): Promise<ClaimResult> {
    return Promise.resolve(this.decide(pair, fromGeneration, nodeId));
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** Names are never given twice here, so a host that finds its own name was restarted. */
  private newest(_pair: string): NewestGeneration | undefined {
    const owner = this.owners.at(-1);
    if (owner === undefined) return undefined;
    return { generation: this.owners.length, owner, claimant: 'ended', origin: owner };
  }

  private decide(_pair: string, fromGeneration: number, nodeId: string): ClaimResult {
    if (this.owners.length === fromGeneration) {
      this.owners.push(nodeId);
      return { outcome: 'won', generation: fromGeneration + 1 };
    }
    const generation = fromGeneration + 1;
    if (this.owners.length === generation && this.owners[fromGeneration] === nodeId) {
      return { outcome: 'won', generation };
    }
    const owner = this.owners.at(-1) ?? '';
    return { outcome: 'lost', current: { generation: this.owners.length, owner } };
  }

  /** The request travels, takes effect, and the answer travels back, each half of the delay. */
  private reach<T>(nodeId: string, gate: HostGate, act: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const lost = (): void => {
        reject(new FtError('FT_ERR_WITNESS_UNREACHABLE', 'The witness cannot be reached.'));
      };
      this.clock.after(this.delayMs / 2, () => {
        if (this.unreachableFor.has(nodeId)) {
          gate.pass(lost);
          return;
        }
        const result = act();
        const answerLost = this.loseAnswerFor.delete(nodeId);
        this.clock.after(this.delayMs / 2, () => {
          gate.pass(() => (answerLost ? lost() : resolve(result)));
        });
      });
    });
  }
}
