/**
 * Drain: a node gets rid of its work, for the maintenance of its host, and its process ends with
 * success.
 *
 *   primary, protected         switchover: the guest goes on at the other host ──▶ over, no rejoining
 *   primary, handing over      waits for how that ends, and goes on from there
 *   primary, suspended         refused: the witness decides who has the guest; ask again. With force it
 *                              ends here
 *   primary, any other state   refused: the guest would end with this node. With force it does
 *   primary, its guest ended   over
 *   standby, taking over       refused: the guest is about to run here; ask again
 *   standby, ready, and loss   refused: its primary's guest would stand still. With force it does
 *     of a standby is a pause
 *   standby, any other state   says good-bye: its primary goes on alone at once, and by intention
 *
 * Whoever drains means to end the process, and systemd does so after a refusal, too. So a node that is
 * ended soon after one does not say that its guest ends with it (RunningNode.stop): the standby, if it
 * holds the guest, takes it over as from a host that died.
 *
 * A drained primary does not join as standby, whatever --on-fenced says: that is the difference to a
 * switchover. Asked twice, both get the same answer.
 */
import { FtError, toFtError } from '../common/errors';
import type { Logger } from '../common/logger';
import type { StandbyLossPolicy } from '../primary/guest-halt';
import type { PrimaryEnd, PrimaryState } from '../primary/primary-types';
import type { SwitchoverDone } from '../primary/switchover';
import type { StandbyState } from '../standby/standby-types';

/** What of a node this needs. */
export interface DrainableNode {
  readonly state: {
    readonly role: 'primary' | 'standby';
    readonly state: PrimaryState | StandbyState;
  };
  readonly settings: { readonly onStandbyLoss: StandbyLossPolicy };
  readonly claiming: boolean;
  /** The outcome of the switchover that was asked for, until it is known. Never rejects. */
  readonly switchoverUnderWay: Promise<SwitchoverDone | FtError> | undefined;
  switchover(): Promise<SwitchoverDone | FtError>;
  /** The guest of this life is another node's now: how the primary here ended. */
  readonly lost: PrimaryEnd | undefined;
}

export interface DrainHandlers {
  /** The node has nothing left to do: its process is to end. */
  onDrained(drained: Drained): void;
  /** The node goes on. */
  onRefused(): void;
}

export interface Drained {
  readonly drained: true;
  readonly role: 'primary' | 'standby';
  /** What became of the guest: at the other host, ended with this node, or not here anyway. */
  readonly guest: 'handed-over' | 'ended' | 'elsewhere';
  /** Of the switchover. */
  readonly generation?: number;
  readonly blackoutUs?: number;
}

export class Drain {
  /** From the beginning of a drain until it is over or has failed. */
  private under: Promise<Drained | FtError> | undefined;

  constructor(
    private readonly node: DrainableNode,
    private readonly logger: Logger,
    private readonly handlers: DrainHandlers,
  ) {}

  /** True from when this node must not take on work any more. */
  get active(): boolean {
    return this.under !== undefined;
  }

  /** Never rejects; an FtError (FT_ERR_DRAIN_…, FT_ERR_SWITCHOVER_…) says why the node goes on. */
  make(force: boolean): Promise<Drained | FtError> {
    this.under ??= this.begin(force)
      .catch((thrown: unknown) => toFtError(thrown))
      .then((result) => {
        this.settled(result);
        return result;
      });
    return this.under;
  }

  private settled(result: Drained | FtError): void {
    if (result instanceof FtError) {
      this.under = undefined;
      const facts = { event: 'drain', code: result.code };
      this.logger.warn(`drain refused: ${result.message}`, facts);
      this.handlers.onRefused();
      return;
    }
    const facts = { event: 'drain', guest: result.guest };
    this.logger.info('drained: this node has no work left, and ends', facts);
    this.handlers.onDrained(result);
  }

  private async begin(force: boolean): Promise<Drained | FtError> {
    this.logger.info('a drain was asked for', { event: 'drain', force });
    if (this.node.state.state === 'protected' || this.node.state.state === 'switching') {
      // Somebody else asked for it; where the guest is then decides.
      const before = await this.node.switchoverUnderWay;
      if (before !== undefined && this.node.lost !== undefined) return handedOver(before);
    }
    const { role, state } = this.node.state;
    if (role === 'standby') return this.ofStandby(state, force);
    if (state === 'switching' || state === 'fenced') return refusedWhileMoving(state);
    if (state === 'ended') return { drained: true, role, guest: 'ended' };
    if (state !== 'protected') {
      if (force) return { drained: true, role, guest: 'ended' };
      return state === 'suspended' ? refusedWhileAsking(state) : refusedUnprotected(state);
    }
    const done = await this.node.switchover();
    // Nobody heard how it went, and the witness said afterwards that the guest is there.
    const gone = !(done instanceof FtError) || this.node.lost !== undefined;
    return gone ? handedOver(done) : done;
  }

  private ofStandby(state: string, force: boolean): Drained | FtError {
    if (this.node.claiming) return refusedWhileClaiming(state);
    const { onStandbyLoss } = this.node.settings;
    if (state === 'ready' && onStandbyLoss === 'pause' && !force) return refusedSincePaused();
    return { drained: true, role: 'standby', guest: 'elsewhere' };
  }
}

function handedOver(done: SwitchoverDone | FtError): Drained {
  const moved = { drained: true, role: 'primary', guest: 'handed-over' } as const;
  if (done instanceof FtError) return moved;
  return { ...moved, generation: done.generation, blackoutUs: done.blackoutUs };
}

function refusedSincePaused(): FtError {
  const message =
    'The guest would stand still for as long as no standby holds it (--on-standby-loss pause). ' +
    'Drain the primary instead, which hands the guest over, or halt it with --force.';
  return new FtError('FT_ERR_DRAIN_PAUSE', message);
}

function refusedUnprotected(state: string): FtError {
  const message =
    `No standby holds the guest (${state}), so it would end with this node. Wait until it is ` +
    'protected (ftctl status --wait protected), or end the guest with --force.';
  return new FtError('FT_ERR_DRAIN_UNPROTECTED', message, { state });
}

function refusedWhileMoving(state: string): FtError {
  const message =
    `The guest is on its way to the other host (${state}). Ask again in a moment: then it is clear ` +
    'where it runs.';
  return new FtError('FT_ERR_DRAIN_BUSY', message, { state });
}

function refusedWhileAsking(state: string): FtError {
  const message =
    `The witness is being asked whether the guest runs here or at the other host (${state}). Ask ` +
    'again in a moment, or end the guest with --force.';
  return new FtError('FT_ERR_DRAIN_BUSY', message, { state });
}

function refusedWhileClaiming(state: string): FtError {
  const message =
    `This standby is about to take the guest over (${state}). Ask again in a moment: then it runs ` +
    'the guest, or is a standby as before.';
  return new FtError('FT_ERR_DRAIN_BUSY', message, { state });
}
