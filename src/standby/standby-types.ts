/** What a standby is made of and what it says: its states, what it is given, how it ends. */
import type { Clock } from '../common/clock';
import type { FtError } from '../common/errors';
import type { Logger } from '../common/logger';
import type { GuestEnd, Machine } from '../machine/machine';
import type { Witness } from '../witness/witness';
import type { BodyDecompressor } from './checkpoint-applier';

export type StandbyState =
  | 'joining'
  | 'syncing'
  | 'ready'
  | 'suspecting'
  | 'promoting'
  | 'active'
  | 'ended'
  | 'fenced'
  | 'stopped';

export interface StandbyOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly machine: Machine;
  readonly witness: Witness;
  readonly decompressor: BodyDecompressor;
  readonly pair: string;
  readonly nodeId: string;
  readonly heartbeatIntervalMs: number;
  readonly suspectAfterMs: number;
  /** "pause": a guest that is promoted here stands still until a standby holds it. */
  readonly onStandbyLoss: 'continue' | 'pause';
  /** The newest generation that is known when this side begins; 0: none. */
  readonly newestGeneration?: number;
}

export interface StandbyHandlers {
  onState(from: StandbyState, to: StandbyState): void;
  /** The guest runs here now, in `generation`; this side goes on as a primary. */
  onActive(generation: number): void;
  /** The witness was won and the guest cannot be resumed here. */
  onPromotionFailed(error: FtError): void;
  /** The guest ended itself, and the primary is done with it: there is nothing to resume. */
  onGuestEnded(end: GuestEnd): void;
}
