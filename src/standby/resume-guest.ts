/** From a generation that was won to a guest that runs in it, or to the reason why it does not. */
import { type FtError, toFtError } from '../common/errors';
import type { GuestClock, Machine } from '../machine/machine';
import type { CheckpointApplier } from './checkpoint-applier';

/**
 * Applies what is held and starts the guest. An FtError means that no vCPU has run here and that
 * nothing of the guest has left (see Machine.promote), so a primary that stands still may be told.
 */
export function resumeGuest(
  applier: CheckpointApplier,
  machine: Machine,
  onStandbyLoss: 'continue' | 'pause',
): GuestClock | FtError {
  try {
    applier.drain();
    if (onStandbyLoss === 'pause') machine.haltGuest();
    return machine.promote();
  } catch (thrown) {
    return toFtError(thrown, 'FT_ERR_PROMOTE');
  }
}

/** For the log. */
export function resumedWords(epoch: number, clockStepUs: number, passedUs: number): string {
  const ms = (us: number): string => (us / 1000).toFixed(3);
  const clocks = `its clock by ${ms(clockStepUs)} ms in the ${ms(passedUs)} ms that passed`;
  return `the guest goes on from epoch ${epoch}, ${clocks}`;
}
