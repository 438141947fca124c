/**
 * One running node: a machine, the role it plays at the moment, and what both need from outside.
 *
 *   startPrimary ─────────────────────────────▶ primary ──▶ end (fenced, guest ended, error)
 *   startStandby ──▶ standby ── promoted ──▶ standby that refuses + primary over the same machine
 *
 * Nothing here is global: any number of nodes can live in one process, as the simulator has it.
 */
import { assert } from '../common/assert';
import type { Clock } from '../common/clock';
import type { FtError } from '../common/errors';
import type { Logger } from '../common/logger';
import type { CutPolicy, GuestEnd, Machine } from '../machine/machine';
import type { BodyCompressor } from '../primary/frame-sender';
import type { Dial } from '../primary/link';
import { type PrimaryEnd, PrimaryRole, type PrimaryState } from '../primary/primary-role';
import type { BodyDecompressor } from '../standby/checkpoint-applier';
import { StandbyRole, type StandbyState } from '../standby/standby-role';
import type { Connection } from '../transport/connection';
import { FrameBufferPool } from '../wire/buffer-pool';
import { CHUNK_BYTES } from '../wire/frame';
import type { Witness } from '../witness/witness';

export interface NodeSettings {
  readonly pair: string;
  readonly nodeId: string;
  readonly policy: CutPolicy;
  readonly heartbeatIntervalMs: number;
  readonly suspectAfterMs: number;
  /** Whether a standby whose guest ended itself waits for the next primary ("hold"). */
  readonly onGuestEnd: 'exit' | 'hold';
}

export interface NodeParts {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly machine: Machine;
  readonly witness: Witness;
  /** Standbys that this node dials while it is the primary. */
  readonly dials: readonly Dial[];
  readonly compressor: BodyCompressor | undefined;
  readonly decompressor: BodyDecompressor;
  /** A fresh, unpredictable session name. */
  readonly drawSession: () => string;
}

/** A change of state, with what a drill wants to know of that moment. */
export interface StateEvent {
  readonly role: 'primary' | 'standby';
  readonly from: PrimaryState | StandbyState;
  readonly to: PrimaryState | StandbyState;
  readonly generation: number;
  /** The newest epoch that is safe: acknowledged (primary) or held (standby). */
  readonly epoch: number;
  /** With `to: "active"`: by how much the guest's clock went on, and real time meanwhile, µs. */
  readonly guestClockStepUs?: number;
  readonly takeoverUs?: number;
}

/** On either side, "guest-ended" need not end the process: that is the command's decision. */
export type NodeEnd = PrimaryEnd | { readonly kind: 'promotion-failed'; readonly error: FtError };

export interface NodeHandlers {
  onState(event: StateEvent): void;
  onEnd(end: NodeEnd): void;
  /** The standby refuses this node. */
  onRefused(error: FtError): void;
}

export class RunningNode {
  primary: PrimaryRole | undefined;
  standby: StandbyRole | undefined;

  constructor(
    readonly settings: NodeSettings,
    readonly parts: NodeParts,
    private readonly handlers: NodeHandlers,
  ) {}

  /** Rejects when the guest cannot be started here; see PrimaryRole.start. */
  async startPrimary(forceClaim: boolean): Promise<void> {
    assert(this.primary === undefined && this.standby === undefined, 'a node starts once');
    await this.makePrimary().start(forceClaim);
  }

  startStandby(): void {
    assert(this.primary === undefined && this.standby === undefined, 'a node starts once');
    const standby = new StandbyRole(
      { ...this.settings, ...this.parts },
      {
        onState: (from, to) => {
          const { generation, stats } = standby;
          const { epochHeld: epoch, guestClockStepUs, takeoverUs } = stats;
          const event = { role: 'standby', from, to, generation, epoch } as const;
          const clocks = to === 'active' ? { guestClockStepUs, takeoverUs } : {};
          this.handlers.onState({ ...event, ...clocks });
        },
        onActive: (generation) => this.makePrimary().adopt(generation),
        onPromotionFailed: (error) => this.handlers.onEnd({ kind: 'promotion-failed', error }),
        onGuestEnded: (end) => this.guestEnded(standby, end),
      },
    );
    this.standby = standby;
  }

  /** A connection came in at this node's listener. */
  accept(connection: Connection): void {
    assert(this.standby !== undefined, 'only a node that began as standby listens');
    this.standby.accept(connection);
  }

  /** The role in charge and its state. */
  get state(): { role: 'primary' | 'standby'; state: PrimaryState | StandbyState } {
    if (this.primary !== undefined) return { role: 'primary', state: this.primary.state };
    return { role: 'standby', state: this.standby?.state ?? 'joining' };
  }

  /**
   * True while this side's claim is under way. It may own the guest already, so ending now could
   * end the guest with it.
   */
  get claiming(): boolean {
    const { role, state } = this.state;
    return role === 'standby' && (state === 'suspecting' || state === 'promoting');
  }

  /** Ends in order: peers are told, the guest (if it runs here) ends. The machine is closed. */
  stop(reason: string): void {
    if (this.primary !== undefined) this.primary.stop(reason);
    else this.standby?.stop(reason);
    this.parts.machine.close();
  }

  private guestEnded(standby: StandbyRole, end: GuestEnd): void {
    this.handlers.onEnd({ kind: 'guest-ended', end });
    if (this.settings.onGuestEnd === 'hold') standby.joinAgain();
  }

  private makePrimary(): PrimaryRole {
    // Two buffers per epoch in flight would do; the pool keeps a few and makes more when needed.
    const pool = new FrameBufferPool(CHUNK_BYTES);
    const primary = new PrimaryRole(
      { ...this.settings, ...this.parts, pool },
      {
        onState: (from, to) => {
          const { generation } = primary;
          const epoch = primary.stats.epochCommitted;
          this.handlers.onState({ role: 'primary', from, to, generation, epoch });
        },
        onEnd: (end) => this.handlers.onEnd(end),
        onRefused: (error) => this.handlers.onRefused(error),
      },
    );
    this.primary = primary;
    return primary;
  }
}
