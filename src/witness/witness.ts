/**
 * The witness: who may run is decided here, by an atomic test-and-set, never by a timeout alone.
 *
 * A pair's generations are numbered from 1. Each has exactly one owner for ever: the node whose
 * claim created it. `claim` is idempotent for the Witness object that made it, so a claim whose
 * answer was lost can be made again without harm. Another process of the same node is not that
 * owner: the guest died with the process that claimed, and it must claim a generation of its own.
 */

/**
 * What became of the process that made a claim, as far as this process can tell. A node's name says
 * nothing about that: two hosts may have been given the same one (process-identity.ts).
 *
 *   self        this very Witness object made it
 *   running     a process of this host made it, and it still runs
 *   ended       a process of this host made it, and it runs no more
 *   elsewhere   another host made it, or nobody here can tell
 */
export type Claimant = 'self' | 'running' | 'ended' | 'elsewhere';

export interface GenerationRecord {
  readonly generation: number;
  readonly owner: string;
}

/** The newest generation, and who is behind its owner's name. */
export interface NewestGeneration extends GenerationRecord {
  readonly claimant: Claimant;
  /** Where the claim came from, for messages: "host-a, process 4711"; empty when not known. */
  readonly origin: string;
}

export type ClaimResult =
  /** The generation is ours: newly, or because an earlier try of ours succeeded. */
  | { readonly outcome: 'won'; readonly generation: number }
  /** Somebody else owns it, or the pair has moved past `fromGeneration`. */
  | { readonly outcome: 'lost'; readonly current: GenerationRecord };

export interface Witness {
  /** One line for logs: "file:/var/lib/romulus/witness". */
  readonly description: string;
  /** Only a person decides here: of the claims that nodes make by themselves, none is won but the
   * first of a pair. */
  readonly asksPerson?: true;
  /** The newest generation, or undefined for a pair that never ran. Rejects with an FtError
   * (`FT_ERR_WITNESS_…`) when the witness cannot be reached or its content makes no sense.
   * No earlier claim of this object whose outcome was unknown can take effect after the answer. */
  current(pair: string): Promise<NewestGeneration | undefined>;
  /**
   * Atomically makes `nodeId` the owner of `fromGeneration + 1`, if the newest generation is
   * `fromGeneration` (0: the pair never ran). Rejects with an FtError when the outcome is unknown;
   * the caller then does not open its output, and may ask again. A witness that knows less than
   * `fromGeneration` is not the one that was asked before: it rejects as well.
   */
  claim(pair: string, fromGeneration: number, nodeId: string): Promise<ClaimResult>;
  /**
   * Does beforehand what a claim with these arguments would otherwise have to do first, so that the
   * claim, which a failover waits for, takes less time. Decides nothing and promises nothing: the
   * generation may be anybody's afterwards, and `claim` means the same with it, without it, and with
   * other arguments. Any number of times; one preparation for a pair is kept, the newest. Rejects
   * with an FtError when the witness cannot be reached; the caller goes on all the same. Absent
   * where there is nothing to prepare.
   */
  prepare?(pair: string, fromGeneration: number, nodeId: string): Promise<void>;
  close(): Promise<void>;
}
