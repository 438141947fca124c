/**
 * One running node: a machine, the role it plays at the moment, and what both need from outside.
 *
 *   startPrimary ──▶ primary ── fenced ──▶ the machine is closed ──▶ standby, on a new machine
 *        │              ▲                                               ▲       │
 *        │              └────────────── promoted, same machine ─────────┼───────┘
 *        └── the newest generation is another node's: nothing is booted ┘
 *   startStandby ─────────────────────────────▶ standby
 *
 * Each way through this picture from a new machine to its end is a life; lives are numbered from 1.
 * Whoever has no listener, or was told so (`onFenced: "exit"`), has one life alone and ends with it.
 * A life's machine is closed before the next one is made: a TAP, an image and a console can be had
 * once. Nothing of a life reaches into the next but the generation that ended it.
 *
 * Nothing here is global: any number of nodes can live in one process, as the simulator has it.
 */
import { assert } from '../common/assert';
import type { Clock } from '../common/clock';
import { FtError, toFtError } from '../common/errors';
import type { Logger } from '../common/logger';
import type { CutSettings, GuestEnd, Machine } from '../machine/machine';
import { otherOwner } from '../primary/boot-claim';
import type { BodyCompressor } from '../primary/frame-sender';
import type { StandbyLossPolicy } from '../primary/guest-halt';
import type { Dial } from '../primary/link-types';
import { PrimaryRole } from '../primary/primary-role';
import type { PrimaryChange, PrimaryEnd, PrimaryState } from '../primary/primary-types';
import type { SwitchoverDone } from '../primary/switchover';
import type { WitnessLossPolicy } from '../primary/witness-loss';
import type { BodyDecompressor } from '../standby/checkpoint-applier';
import { StandbyRole } from '../standby/standby-role';
import type { StandbyState } from '../standby/standby-types';
import type { Connection } from '../transport/connection';
import { FrameBufferPool } from '../wire/buffer-pool';
import { CHUNK_BYTES } from '../wire/frame';
import { prepareClaim } from '../witness/prepare';
import type { GenerationRecord, Witness } from '../witness/witness';
import { ClosedDoor } from './closed-door';
import { Drain, type Drained } from './drain';
import { Tally } from './tally';

/** Who is ended so soon after a drain that was refused is ended for the same reason: systemd does. */
const DRAIN_COUNTS_MS = 10_000;

/** Send buffers that are kept: twice what the queue of the connection holds when it is full. */
const IDLE_BUFFERS_MAX = 16;

export type NodeRole = 'primary' | 'standby';

export interface NodeSettings {
  readonly pair: string;
  readonly nodeId: string;
  readonly policy: CutSettings;
  readonly heartbeatIntervalMs: number;
  readonly suspectAfterMs: number;
  /** Whether a standby whose guest ended itself waits for the next primary ("hold"). */
  readonly onGuestEnd: 'exit' | 'hold';
  /** What a guest that was protected does while no standby holds it: run on, or stand still. */
  readonly onStandbyLoss: StandbyLossPolicy;
  /** What it does while it may not speak, since the witness cannot be asked: docs/policies.md. */
  readonly onWitnessLoss: WitnessLossPolicy;
  /** Whether a node whose guest lives on elsewhere joins as standby, or ends. */
  readonly onFenced: 'rejoin' | 'exit';
}

/** What may be changed of a node that runs. */
export interface NodeChange extends PrimaryChange {
  readonly onGuestEnd: NodeSettings['onGuestEnd'];
}

export interface NodeParts {
  readonly clock: Clock;
  readonly logger: Logger;
  /**
   * Makes the machine of a life that begins in `role`; called once per life, when the machine of the
   * life before is closed. The node owns it. Throws an FtError that says what this host lacks.
   */
  readonly makeMachine: (role: NodeRole) => Machine;
  readonly witness: Witness;
  /** Standbys that this node dials while it is the primary. */
  readonly dials: readonly Dial[];
  readonly compressor: BodyCompressor | undefined;
  /** Where frames with a body are written; without, each primary has a pool of its own. */
  readonly pool?: FrameBufferPool;
  readonly decompressor: BodyDecompressor;
  /** A fresh, unpredictable session name. */
  readonly drawSession: () => string;
}

/** A change of state, with what a drill wants to know of that moment. */
export interface StateEvent {
  readonly role: NodeRole;
  readonly from: PrimaryState | StandbyState;
  readonly to: PrimaryState | StandbyState;
  readonly generation: number;
  /** The newest epoch that is safe: acknowledged (primary) or held (standby). */
  readonly epoch: number;
  /** Which life of the node this is; 1 until it joins anew. */
  readonly life: number;
  /** With `to: "active"`: by how much the guest's clock went on, and real time meanwhile, µs. */
  readonly guestClockStepUs?: number;
  readonly takeoverUs?: number;
}

/** On either side, "guest-ended" need not end the process: that is the command's decision. */
export type NodeEnd =
  | PrimaryEnd
  /** An operator took this node's work away; nothing is left to do here. */
  | { readonly kind: 'drained'; readonly drained: Drained }
  | { readonly kind: 'promotion-failed'; readonly error: FtError }
  /** The guest goes on at `current`'s owner, and no machine to protect it could be made here. */
  | { readonly kind: 'rejoin-failed'; readonly error: FtError; readonly current: GenerationRecord };

export interface NodeHandlers {
  onState(event: StateEvent): void;
  onEnd(end: NodeEnd): void;
  /** The standby refuses this node. */
  onRefused(error: FtError): void;
}

export class RunningNode {
  primary: PrimaryRole | undefined;
  standby: StandbyRole | undefined;
  /** The life that this node is in; 0 before it was started. */
  life = 0;
  /** What is counted over all lives. */
  readonly tally = new Tally();
  private currentMachine: Machine | undefined;
  private door: ClosedDoor | undefined;
  private stopped = false;
  /** The guest of this life is another node's, and a drain is what it was handed over for. */
  lost: PrimaryEnd | undefined;
  private readonly drains: Drain;
  private drainRefusedAtUs: number | undefined;
  /** Why the newest standby that was dialled is none; undefined since one joined. */
  refusal: string | undefined;
  /** As NodeParts has it, until setDials(). */
  private dials: readonly Dial[];

  constructor(
    private currentSettings: NodeSettings,
    readonly parts: NodeParts,
    private readonly handlers: NodeHandlers,
  ) {
    this.drains = new Drain(this, parts.logger, {
      onDrained: (drained) => this.handlers.onEnd({ kind: 'drained', drained }),
      onRefused: () => this.drainRefused(),
    });
    this.dials = parts.dials;
  }

  get settings(): NodeSettings {
    return this.currentSettings;
  }

  /** Takes over other policies, and another time between cuts, at once and for later lives. */
  change({ onGuestEnd, onStandbyLoss, onWitnessLoss, intervalUs }: NodeChange): void {
    const policy = { ...this.settings.policy, intervalUs };
    const policies = { onGuestEnd, onStandbyLoss, onWitnessLoss };
    this.currentSettings = { ...this.settings, ...policies, policy };
    this.standby?.change({ onStandbyLoss });
    this.primary?.change({ onStandbyLoss, onWitnessLoss, intervalUs });
  }

  /** Other standbys to dial, now and in later lives. */
  setDials(dials: readonly Dial[]): void {
    this.dials = dials;
    this.primary?.setDials(dials);
  }

  /**
   * Boots the guest, or, where the newest generation is another node's and this one rejoins, waits
   * for that one as its standby. Rejects when neither is possible here: see PrimaryRole.start and
   * NodeParts.makeMachine.
   */
  async startPrimary(forceClaim: boolean): Promise<void> {
    assert(this.life === 0, 'a node starts once');
    this.beginLife('primary');
    try {
      await this.makePrimary().start(forceClaim);
    } catch (thrown) {
      const current = this.rejoins ? otherOwner(thrown, this.settings.nodeId) : undefined;
      if (current === undefined) throw thrown;
      this.joinAsStandby(current, 'starting');
    }
  }

  /** Throws what NodeParts.makeMachine throws. */
  startStandby(): void {
    assert(this.life === 0, 'a node starts once');
    this.beginLife('standby');
    this.makeStandby(0);
  }

  /** A connection came in at this node's listener. */
  accept(connection: Connection): void {
    if (this.primary === undefined && this.standby !== undefined) this.standby.accept(connection);
    else if (this.door !== undefined) this.door.accept(connection);
    else connection.close();
  }

  /** The machine of this life; undefined before the node is started. */
  get machine(): Machine | undefined {
    return this.currentMachine;
  }

  /** The role in charge and its state. */
  get state(): { role: NodeRole; state: PrimaryState | StandbyState } {
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

  /** The outcome of the switchover that was asked for, until it is known. Never rejects. */
  get switchoverUnderWay(): Promise<SwitchoverDone | FtError> | undefined {
    return this.primary?.switchoverUnderWay;
  }

  /**
   * Hands the guest over to the standby, in order: nothing is lost, and it stands still for some
   * milliseconds. Never rejects: an FtError (FT_ERR_SWITCHOVER_…) says why the guest goes on here, or
   * that nobody here knows how it went.
   * Done: this node is fenced next, and goes on as for any other end of that kind (see above).
   */
  async switchover(): Promise<SwitchoverDone | FtError> {
    const outcome = (await this.primary?.switchover()) ?? this.noPrimary();
    this.tally.switchover(outcome);
    return outcome;
  }

  private noPrimary(): FtError {
    const { nodeId } = this.settings;
    const { state } = this.state;
    const message = `Node ${nodeId} is a standby (${state}); ask the node that runs the guest.`;
    return new FtError('FT_ERR_SWITCHOVER_ROLE', message, { nodeId, state });
  }

  /** Hands on this node's work, then ends with "drained": drain.ts. Never rejects. */
  drain(force: boolean): Promise<Drained | FtError> {
    return this.drains.make(force);
  }

  /**
   * Ends in order: peers are told, the guest (if it runs here) ends. The machine is closed. With
   * `leave`, and soon after a drain that was refused, nobody is told: a standby that holds the guest
   * shall take it over. It hears the connections end when this turn is over, and the machine closes
   * in this turn; where that takes long (much memory to free, disks to sync), silence tells it first.
   * Returns what the disks could not be closed with: what was under way to them may be lost.
   */
  stop(reason: string, leave = false): FtError | undefined {
    this.stopped = true;
    const why = this.drains.active ? 'drained by its operator' : reason;
    if (this.primary === undefined) this.standby?.stop(why);
    else if (leave || this.shallLeave) this.primary.leave(why);
    else this.primary.stop(why);
    return this.closeMachine();
  }

  private closeMachine(): FtError | undefined {
    const error = this.currentMachine?.close();
    this.currentMachine = undefined;
    if (error !== undefined) {
      const { code, message } = error;
      this.parts.logger.error(`the disks could not be closed: ${message}`, { event: 'disk', code });
    }
    return error;
  }

  private get shallLeave(): boolean {
    const { drainRefusedAtUs: atUs } = this;
    return atUs !== undefined && this.parts.clock.nowUs() - atUs <= DRAIN_COUNTS_MS * 1000;
  }

  // ── lives ──────────────────────────────────────────────────────────────────────────────────────

  private get rejoins(): boolean {
    return this.settings.onFenced === 'rejoin' && !this.stopped;
  }

  private beginLife(role: NodeRole): Machine {
    this.tally.lifeEnds(this);
    this.primary = undefined;
    this.standby = undefined;
    const error = this.closeMachine();
    // Another machine would only be told that the image is in use.
    if (error?.code === 'FT_ERR_DISK_STUCK') throw error;
    this.life += 1;
    const machine = this.parts.makeMachine(role);
    this.currentMachine = machine;
    return machine;
  }

  /** The guest of this life is another node's now: a new life, as that one's standby. */
  private joinAsStandby(current: GenerationRecord, from: PrimaryState): void {
    const { generation, owner } = current;
    this.parts.logger.info(
      from === 'starting'
        ? 'the guest is another node’s: nothing is booted here, this node joins as its standby and ' +
            'waits to be dialled (--force-claim boots, if that node is known to be off for good)'
        : 'this node lets go of its guest and joins as standby of the node that runs it now',
      {
        ...{ event: 'state', role: 'standby', from, to: 'joining', generation, epoch: 0 },
        ...{ owner, life: this.life + 1 },
      },
    );
    this.beginLife('standby');
    this.makeStandby(generation);
    const { life } = this;
    this.changed({ role: 'standby', from, to: 'joining', generation, epoch: 0, life });
  }

  private changed(event: StateEvent): void {
    this.tally.entered(event.to);
    this.handlers.onState(event);
  }

  private primaryEnded(end: PrimaryEnd): void {
    if (end.kind === 'fenced') this.tally.wasFenced(end.switchover);
    if (end.kind === 'fenced' && this.drains.active) {
      // What was asked for: the drain says so, and ends this node.
      this.lost = end;
      return;
    }
    this.goOnAfter(end);
  }

  private drainRefused(): void {
    this.drainRefusedAtUs = this.parts.clock.nowUs();
    const { lost } = this;
    this.lost = undefined;
    if (lost !== undefined) this.goOnAfter(lost);
  }

  private goOnAfter(end: PrimaryEnd): void {
    if (end.kind !== 'fenced' || !this.rejoins) {
      this.handlers.onEnd(end);
      return;
    }
    // Later: the role that says so is still at work, and its machine is about to be closed.
    this.parts.clock.soon(() => {
      if (this.stopped) return;
      try {
        this.joinAsStandby(end.current, 'fenced');
      } catch (thrown) {
        const error = toFtError(thrown);
        this.handlers.onEnd({ kind: 'rejoin-failed', error, current: end.current });
      }
    });
  }

  // ── roles ──────────────────────────────────────────────────────────────────────────────────────

  private get ownMachine(): Machine {
    assert(this.currentMachine !== undefined, 'a role has a machine');
    return this.currentMachine;
  }

  private makeStandby(generation: number): void {
    const { life } = this;
    const standby = new StandbyRole(
      { ...this.settings, ...this.parts, machine: this.ownMachine, newestGeneration: generation },
      {
        onState: (from, to) => {
          const { generation, stats } = standby;
          const { epochHeld: epoch, guestClockStepUs, takeoverUs } = stats;
          const event = { role: 'standby', from, to, generation, epoch, life } as const;
          const clocks = to === 'active' ? { guestClockStepUs, takeoverUs } : {};
          this.changed({ ...event, ...clocks });
          prepareClaim({ ...this.settings, ...this.parts }, to, generation);
        },
        onActive: (generation) => {
          this.makePrimary().adopt(generation);
          const { takeoverUs, failovers } = standby.stats;
          const [cause = 'unknown'] = failovers.keys();
          const facts = {
            event: 'failover',
            cause,
            generation,
            takeoverUs: Math.round(takeoverUs),
          };
          this.parts.logger.info('this node took the guest over', facts);
        },
        onPromotionFailed: (error) => this.handlers.onEnd({ kind: 'promotion-failed', error }),
        onGuestEnded: (end) => this.guestEnded(standby, end),
      },
    );
    this.standby = standby;
  }

  private guestEnded(standby: StandbyRole, end: GuestEnd): void {
    this.handlers.onEnd({ kind: 'guest-ended', end });
    if (this.settings.onGuestEnd === 'hold') standby.joinAgain();
  }

  private makePrimary(): PrimaryRole {
    const pool = this.parts.pool ?? new FrameBufferPool(CHUNK_BYTES, IDLE_BUFFERS_MAX);
    const { life } = this;
    const machine = this.ownMachine;
    const primary = new PrimaryRole(
      { ...this.settings, ...this.parts, dials: this.dials, machine, pool },
      {
        onState: (from, to) => {
          if (to !== 'solo') this.refusal = undefined;
          const { generation } = primary;
          const epoch = primary.stats.epochCommitted;
          this.changed({ role: 'primary', from, to, generation, epoch, life });
          prepareClaim({ ...this.settings, ...this.parts }, to, generation);
        },
        onEnd: (end) => this.primaryEnded(end),
        onRefused: (error) => {
          this.refusal = error.message;
          this.handlers.onRefused(error);
        },
      },
    );
    this.primary = primary;
    const { clock, logger } = this.parts;
    const { pair, nodeId, suspectAfterMs } = this.settings;
    const door = { clock, logger, pair, nodeId, suspectAfterMs, machine: machine.description };
    this.door = new ClosedDoor(door, primary, () => this.tally.doorRefused());
    return primary;
  }
}
