/**
 * The first claim of a fresh primary: may this node begin a new generation by booting a guest?
 *
 *   newest generation      owner        outcome
 *   none                   –            claim 1
 *   g                      this node    claim g + 1 (its guest died with its process)
 *   g                      another      refused: the guest may run there; --force-claim overrides
 */
import { FtError } from '../common/errors';
import type { Witness } from '../witness/witness';

export interface BootClaim {
  readonly witness: Witness;
  readonly pair: string;
  readonly nodeId: string;
  readonly force: boolean;
}

/**
 * Resolves with the generation won. Rejects with FT_ERR_GENERATION_OWNED, or with the witness's
 * FT_ERR_WITNESS_… when it cannot be asked.
 */
export async function claimBoot(boot: BootClaim): Promise<number> {
  const current = await boot.witness.current(boot.pair);
  if (current !== undefined && current.owner !== boot.nodeId && !boot.force) {
    throw owned(boot, current.generation, current.owner);
  }
  const result = await boot.witness.claim(boot.pair, current?.generation ?? 0, boot.nodeId);
  if (result.outcome === 'won') return result.generation;
  throw owned(boot, result.current.generation, result.current.owner);
}

function owned(boot: BootClaim, generation: number, owner: string): FtError {
  const message =
    `Generation ${generation} of pair ${boot.pair} belongs to node ${owner}, which may be ` +
    `running the guest. Start this host with ft-standby, or add --force-claim if ${owner} is ` +
    'known to be off.';
  return new FtError('FT_ERR_GENERATION_OWNED', message, { pair: boot.pair, generation, owner });
}
