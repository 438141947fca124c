/**
 * Prepares claims for a node. While a pair is protected, either side may have to claim the next
 * generation at any moment, with a guest that stands still or is not heard until the witness has
 * answered: what can be done for that beforehand is done as soon as the pair is whole.
 */
import { toFtError } from '../common/errors';
import type { Logger } from '../common/logger';
import type { Witness } from './witness';

export interface Claimer {
  readonly witness: Witness;
  readonly pair: string;
  readonly nodeId: string;
  readonly logger: Logger;
}

/** To be called with each state that a role enters; failing is said in the log, and no harm. */
export function prepareClaim(
  { witness, pair, nodeId, logger }: Claimer,
  state: string,
  generation: number,
): void {
  if (state !== 'ready' && state !== 'protected') return;
  witness.prepare?.(pair, generation, nodeId).catch((thrown: unknown) => {
    const { code, message } = toFtError(thrown, 'FT_ERR_WITNESS_UNKNOWN');
    logger.warn(`a claim could not be prepared at the witness: ${message}`, { code });
  });
}
