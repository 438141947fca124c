/**
 * Catch-up: what is remembered of a standby that was lost, so that it need not be sent all of memory
 * when it comes back.
 *
 *   protected ── link lost ─▶ noting ── hello: (session, epoch) ─▶ welcome: catchUp ─▶ map · sync of
 *                               │                                   │                  what changed
 *                               └ too much changed ─▶ nothing ◀─────┴ not: a full sync
 *
 * Let D be every page of an epoch after `epoch`, acknowledged or not, and every page that changed
 * since. The standby's image is that of an epoch not before `epoch`, whole; so outside of D it equals
 * the guest's memory as it is now. The standby clears D, the machine takes D as zero there, and an
 * ordinary sync follows whose scan visits D alone. Pages of D that were equal after all are sent for
 * nothing; none is left out.
 *
 * Whether a guest runs alone by a claim that was won or is still waiting for it makes no difference
 * here: who loses the claim never asks.
 */
import type { Clock } from '../common/clock';
import type { Logger } from '../common/logger';
import { PAGE_MAP_BYTES_MAX, pagesIn } from '../common/page-map';
import { PAGE_BYTES } from '../common/units';
import type { CutPolicy, Machine } from '../machine/machine';
import type { Connection } from '../transport/connection';
import { allocFrameBuffer } from '../wire/buffer-pool';
import { FRAME_HEADER_BYTES, FrameType } from '../wire/frame';
import type { CatchUpFrom } from '../wire/messages';
import type { LinkPeer } from './link-types';
import { diskSyncFacts } from './peer-disks';
import type { PrimaryStats } from './primary-stats';

export class CatchUp {
  /** The session whose last epochs a lost standby holds; "" for none. */
  private from = '';
  /** The session that goes on, once its base epoch is acknowledged; before, and without one, "". */
  private held = '';
  private beganUs = 0;
  private bytesBefore = 0;

  constructor(
    private readonly clock: Clock,
    private readonly logger: Logger,
    private readonly machine: Machine,
    private readonly stats: PrimaryStats,
  ) {}

  /** Replication ends. A standby that is lost, and not gone, may come back with its image, if it had
   * come to one: then changes are noted from here on. */
  ended(lost: boolean): void {
    const noting = lost && this.held !== '';
    this.machine.endReplication(noting);
    this.from = noting ? this.held : '';
    this.held = '';
  }

  /** For a hello: the image from which this side could go on. */
  offer(): CatchUpFrom | undefined {
    if (this.from === '') return undefined;
    const epoch = this.machine.notedSince();
    if (epoch !== undefined) return { session: this.from, epoch };
    this.from = '';
    return undefined;
  }

  /** A session is up: replication begins, and the bytes of its sync count from here. Throws what
   * beginReplication() throws. */
  begin(
    connection: Connection,
    generation: number,
    policy: CutPolicy,
    firstEpoch: number,
    peer: LinkPeer,
  ): void {
    const { machine, stats } = this;
    this.from = '';
    this.beganUs = this.clock.nowUs();
    this.stats.syncBeganUs = this.beganUs;
    this.bytesBefore = stats.wireBytes;
    stats.syncKind = 'full';
    stats.syncPages = machine.description.memoryBytes / PAGE_BYTES;
    machine.beginReplication(policy, firstEpoch, peer.diskMaps, peer.catchUp);
    if (peer.catchUp) this.sendMap(connection, generation);
    this.logger.info('standby joined, sync begins', {
      event: 'sync',
      standby: peer.standbyId,
      sync: stats.syncKind,
      pages: stats.syncPages,
      ...diskSyncFacts(machine.description.disks, peer.diskMaps),
    });
  }

  /** Before anything else: the pages that the standby clears. */
  private sendMap(connection: Connection, generation: number): void {
    const buffer = allocFrameBuffer(PAGE_MAP_BYTES_MAX);
    const bytes = this.machine.catchUpMap(buffer.body);
    const pages = pagesIn(buffer.body.subarray(0, bytes));
    // Too much may have changed since the hello: then all of memory is in the map.
    if (pages < this.stats.syncPages) this.stats.syncKind = 'catch-up';
    this.stats.syncPages = pages;
    this.stats.wireBytes += FRAME_HEADER_BYTES + bytes;
    connection.send({ type: FrameType.catchUp, flags: 0, generation, epoch: 0 }, buffer, bytes);
  }

  /** The base epoch is acknowledged: memory and disks are in step. */
  synced(session: string): void {
    const { stats } = this;
    this.held = session;
    this.machine.inStep(session);
    stats.syncsDone += 1;
    if (stats.syncKind === 'catch-up') stats.catchUpsDone += 1;
    stats.syncWireBytes = stats.wireBytes - this.bytesBefore;
    stats.syncUs = this.clock.nowUs() - this.beganUs;
    this.logger.info('sync done: the standby holds the guest', {
      ...{ event: 'sync', sync: stats.syncKind },
      ...{ wireBytes: stats.syncWireBytes, ms: Math.round(stats.syncUs / 1000) },
    });
  }
}
