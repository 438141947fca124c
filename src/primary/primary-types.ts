/** What a primary is made of and what it says: its states, what it is given, how it ends. */
import type { Clock } from '../common/clock';
import type { FtError } from '../common/errors';
import type { Logger } from '../common/logger';
import type { CutSettings, GuestEnd, Machine } from '../machine/machine';
import type { FrameBufferPool } from '../wire/buffer-pool';
import type { GenerationRecord, Witness } from '../witness/witness';
import type { BodyCompressor } from './frame-sender';
import type { StandbyLossPolicy } from './guest-halt';
import type { LinkOptions } from './link-types';
import type { SwitchoverDone } from './switchover';
import type { WitnessLossPolicy } from './witness-loss';

export type PrimaryState =
  | 'starting'
  | 'solo'
  | 'syncing'
  | 'protected'
  | 'switching'
  | 'suspended'
  | 'fenced'
  | 'ended'
  | 'stopped';

export interface PrimaryOptions
  extends Omit<
    LinkOptions,
    'machine' | 'diskSyncIds' | 'catchUpFrom' | 'generation' | 'epoch' | 'clock' | 'logger'
  > {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly machine: Machine;
  readonly witness: Witness;
  readonly policy: CutSettings;
  readonly pool: FrameBufferPool;
  readonly compressor: BodyCompressor | undefined;
  readonly onStandbyLoss: StandbyLossPolicy;
  readonly onWitnessLoss: WitnessLossPolicy;
}

/** What may be changed while the role is played. */
export interface PrimaryChange {
  readonly onStandbyLoss: StandbyLossPolicy;
  readonly onWitnessLoss: WitnessLossPolicy;
  readonly intervalUs: number;
}

/** Why a primary came to its end. */
export type PrimaryEnd =
  | {
      readonly kind: 'fenced';
      readonly current: GenerationRecord;
      /** The guest was handed over in order. */
      readonly switchover?: SwitchoverDone;
    }
  /** --on-witness-loss stop. */
  | { readonly kind: 'witness-lost'; readonly error: FtError }
  | { readonly kind: 'guest-ended'; readonly end: GuestEnd }
  | { readonly kind: 'machine-error'; readonly error: FtError };

export interface PrimaryHandlers {
  onState(from: PrimaryState, to: PrimaryState): void;
  onEnd(end: PrimaryEnd): void;
  onRefused(error: FtError): void;
}
