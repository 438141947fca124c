/**
 * The first claim of a fresh primary: may this node begin a new generation by booting a guest?
 *
 *   newest      owner        its process       outcome
 *   none        –            –                 claim 1
 *   g           this node    ended, or self    claim g + 1 (its guest died with its process)
 *   g           this node    elsewhere         refused: another host has this name, or had it;
 *                                              --force-claim overrides
 *   g           another      ended, elsewhere  refused: the guest may run there;
 *                                              --force-claim overrides
 *   g           another      running here      refused, whatever the operator says
 *   g           this node    running here      refused, too, but asked again for two seconds before,
 *                                              as a killed process takes a moment to go
 *
 * A node that can be a standby takes a refusal for another node's sake as its cue to join that one
 * (otherOwner): so a host that comes back never boots a guest that lives elsewhere. When both hosts
 * died, only the last owner boots the guest anew, and the other one waits for it.
 *
 * The name alone decides nothing: two hosts may have been given the same one, and then the second
 * would take the first one's guest for its own dead one.
 */
import type { Clock } from '../common/clock';
import { FtError } from '../common/errors';
import type { GenerationRecord, NewestGeneration, Witness } from '../witness/witness';

export interface BootClaim {
  readonly clock: Clock;
  readonly witness: Witness;
  readonly pair: string;
  readonly nodeId: string;
  readonly force: boolean;
}

const DYING_TRIES = 20;
const DYING_WAIT_MS = 100;

/**
 * Resolves with the generation won. Rejects with FT_ERR_GENERATION_OWNED, or with the witness's
 * FT_ERR_WITNESS_… when it cannot be asked.
 */
export async function claimBoot(boot: BootClaim): Promise<number> {
  const current = await settled(boot);
  if (current !== undefined) {
    if (current.claimant === 'running') throw stillRunning(boot, current);
    const ours = current.owner === boot.nodeId;
    if (ours && current.claimant === 'elsewhere' && !boot.force) throw sameName(boot, current);
    if (!ours && !boot.force) throw owned(boot, current.generation, current.owner);
  }
  const result = await boot.witness.claim(boot.pair, current?.generation ?? 0, boot.nodeId);
  if (result.outcome === 'won') return result.generation;
  throw owned(boot, result.current.generation, result.current.owner);
}

/**
 * From an error of claimBoot to the node that owns the newest generation, if that is the reason and
 * the node is another one than `nodeId`.
 */
export function otherOwner(thrown: unknown, nodeId: string): GenerationRecord | undefined {
  if (!(thrown instanceof FtError) || thrown.code !== 'FT_ERR_GENERATION_OWNED') return undefined;
  const { generation, owner } = thrown.facts;
  if (typeof generation !== 'number' || typeof owner !== 'string') return undefined;
  return owner === nodeId ? undefined : { generation, owner };
}

/** The newest generation, once its process here, if it matters, had time to end. */
async function settled(boot: BootClaim): Promise<NewestGeneration | undefined> {
  const { clock, witness, pair, nodeId, force } = boot;
  for (let tries = 1; ; tries += 1) {
    const current = await witness.current(pair);
    // Another node's generation is refused either way, unless the operator overrules it.
    const matters = force || current?.owner === nodeId;
    if (current?.claimant !== 'running' || !matters || tries === DYING_TRIES) return current;
    await new Promise<void>((resolve) => clock.after(DYING_WAIT_MS, resolve));
  }
}

function stillRunning(boot: BootClaim, current: NewestGeneration): FtError {
  const { generation, owner, origin } = current;
  const message =
    `Generation ${generation} of pair ${boot.pair} belongs to node ${owner}, which runs on this ` +
    `very host (${origin}). End that process first.`;
  return new FtError('FT_ERR_GENERATION_OWNED', message, {
    ...{ pair: boot.pair, generation, owner, origin },
  });
}

function sameName(boot: BootClaim, current: NewestGeneration): FtError {
  const { generation, owner, origin } = current;
  const where = origin === '' ? 'a host that is not known' : origin;
  const message =
    `Generation ${generation} of pair ${boot.pair} was claimed under this node's own name, ` +
    `${owner}, but from elsewhere (${where}), where the guest may be running. Give each host a ` +
    '--node of its own; add --force-claim if that process is known to be gone.';
  return new FtError('FT_ERR_GENERATION_OWNED', message, {
    ...{ pair: boot.pair, generation, owner, origin },
  });
}

function owned(boot: BootClaim, generation: number, owner: string): FtError {
  const message =
    `Generation ${generation} of pair ${boot.pair} belongs to node ${owner}, which may be ` +
    `running the guest. Start this node with --listen (or as ft-standby) to protect it, or add ` +
    `--force-claim if ${owner} is known to be off.`;
  return new FtError('FT_ERR_GENERATION_OWNED', message, { pair: boot.pair, generation, owner });
}
