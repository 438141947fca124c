/**
 * Drain: a node gets rid of its work, for the maintenance of its host, and its process ends with
 * success.
 *
 *   primary, protected         switchover: the guest goes on at the other host ──▶ over, no rejoining
 *   primary, handing over      refused, with force too: ask again when it is clear where the guest is
 *   primary, any other state   refused: the guest would end with this node. With force it does
 *   primary, its guest ended   over
 *   standby, taking over       refused: the guest is about to run here; ask again
 *   standby, any other state   says good-bye: its primary goes on alone at once, and by intention
 *
 * A drained primary does not join as standby, whatever --on-fenced says: that is the difference to a
 * switchover. Asked twice, both get the same answer.
 */
import { FtError } from '../common/errors';
import type { Logger } from '../common/logger';
import type { PrimaryState } from '../primary/primary-types';
import type { SwitchoverDone } from '../primary/switchover';
import type { StandbyState } from '../standby/standby-types';

/** What of a node this needs. */
export interface DrainableNode {
  readonly state: {
    readonly role: 'primary' | 'standby';
    readonly state: PrimaryState | StandbyState;
  };
  readonly claiming: boolean;
  switchover(): Promise<SwitchoverDone | FtError>;
  /** The guest of this life is another node's now. */
  readonly lost: boolean;
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
    /** The node has nothing left to do: its process is to end. */
    private readonly onDrained: (drained: Drained) => void,
  ) {}

  /** True from when this node must not take on work any more. */
  get active(): boolean {
    return this.under !== undefined;
  }

  /** Never rejects; an FtError (FT_ERR_DRAIN_…, FT_ERR_SWITCHOVER_…) says why the node goes on. */
  make(force: boolean): Promise<Drained | FtError> {
    this.under ??= this.begin(force).then((result) => {
      if (result instanceof FtError) {
        this.under = undefined;
        const facts = { event: 'drain', code: result.code };
        this.logger.warn(`drain refused: ${result.message}`, facts);
      } else {
        this.logger.info('drained: this node has no work left, and ends', {
          ...{ event: 'drain', guest: result.guest },
        });
        this.onDrained(result);
      }
      return result;
    });
    return this.under;
  }

  private async begin(force: boolean): Promise<Drained | FtError> {
    const { role, state } = this.node.state;
    this.logger.info('a drain was asked for', { event: 'drain', force });
    if (role === 'standby') {
      if (this.node.claiming) return refusedWhileClaiming(state);
      return { drained: true, role, guest: 'elsewhere' };
    }
    if (state === 'switching' || state === 'fenced') return refusedWhileMoving(state);
    if (state === 'ended') return { drained: true, role, guest: 'ended' };
    if (state !== 'protected') {
      return force ? { drained: true, role, guest: 'ended' } : refusedUnprotected(state);
    }
    const done = await this.node.switchover();
    if (!(done instanceof FtError)) {
      const { generation, blackoutUs } = done;
      return { drained: true, role, guest: 'handed-over', generation, blackoutUs };
    }
    // Nobody heard how it went, and the witness said afterwards that the guest is there.
    return this.node.lost ? { drained: true, role, guest: 'handed-over' } : done;
  }
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

function refusedWhileClaiming(state: string): FtError {
  const message =
    `This standby is about to take the guest over (${state}). Ask again in a moment: then it runs ` +
    'the guest, or is a standby as before.';
  return new FtError('FT_ERR_DRAIN_BUSY', message, { state });
}
