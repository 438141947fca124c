/**
 * A witness in memory, with the faults a witness can have: it is slow, it cannot be reached by some
 * or by all, the answer to a claim that succeeded is lost, or a claim takes effect after its caller
 * was told that the outcome is unknown.
 *
 *   claim ──half the delay──▶ takes effect ──half the delay──▶ answer
 *             └ unreachable: rejected    └ answer lost: rejected
 *             └ late: rejected at once, and takes effect LATE_MS afterwards, unless the caller has
 *               heard an answer to `current` by then (the promise of the Witness interface)
 */
import type { Clock } from '../../src/common/clock';
import { FtError } from '../../src/common/errors';
import type { ClaimResult, NewestGeneration, Witness } from '../../src/witness/witness';
import type { HostGate } from './host-gate';

const LATE_MS = 30;

export class SimWitness implements Witness {
  readonly description = 'memory';
  /** Every generation ever won, in order: index 0 is generation 1. */
  readonly owners: string[] = [];
  delayMs = 1;
  /** Nodes that cannot reach it. */
  readonly unreachableFor = new Set<string>();
  /** Nodes whose next claim takes effect while its answer is lost. */
  readonly loseAnswerFor = new Set<string>();
  /** Nodes whose next claim takes effect when nobody waits for it any more. */
  readonly lateFor = new Set<string>();
  /** A promise was settled since somebody looked. */
  answered = false;
  /** Told when a generation is won. */
  onWon: (owner: string, generation: number) => void = () => undefined;
  /** Counts each node's answers to `current`, which no earlier claim of its outlives. */
  private readonly asked = new Map<string, number>();

  constructor(private readonly clock: Clock) {}

  /** The witness as one node sees it. */
  seenBy(nodeId: string, gate: HostGate): Witness {
    return {
      description: this.description,
      current: (pair) =>
        this.reach(nodeId, gate, () => {
          this.asked.set(nodeId, (this.asked.get(nodeId) ?? 0) + 1);
          return this.newest(pair);
        }),
      claim: (pair, from, claimant) => {
        const decide = (): ClaimResult => this.decide(pair, from, claimant);
        if (this.lateFor.delete(nodeId)) return this.claimLate(nodeId, gate, decide);
        return this.reach(nodeId, gate, decide);
      },
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
      this.onWon(nodeId, this.owners.length);
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
      if (!gate.effect()) return;
      const lost = (): void => {
        this.answered = true;
        reject(unreachable());
      };
      this.clock.after(this.delayMs / 2, () => {
        if (this.unreachableFor.has(nodeId)) {
          gate.pass(lost);
          return;
        }
        const result = act();
        const answerLost = this.loseAnswerFor.delete(nodeId);
        this.clock.after(this.delayMs / 2, () => {
          gate.pass(() => {
            this.answered = true;
            if (answerLost) lost();
            else resolve(result);
          });
        });
      });
    });
  }

  private claimLate(nodeId: string, gate: HostGate, decide: () => void): Promise<ClaimResult> {
    return new Promise((_resolve, reject) => {
      if (!gate.effect()) return;
      const asked = this.asked.get(nodeId);
      this.clock.after(this.delayMs / 2, () =>
        gate.pass(() => {
          this.answered = true;
          reject(unreachable());
        }),
      );
      this.clock.after(LATE_MS, () => {
        if (this.asked.get(nodeId) === asked) decide();
      });
    });
  }
}

function unreachable(): FtError {
  return new FtError('FT_ERR_WITNESS_UNREACHABLE', 'The witness cannot be reached.');
}
