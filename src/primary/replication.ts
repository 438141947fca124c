/**
 * One session of replication: from a link that is up to a standby that could take over, and to its
 * end. What the session means for the guest's output is the role's business; here is what it is made
 * of and in which order that begins and ends.
 *
 *   none ──open──▶ epochs flow ──begin──▶ sync ── scan through, disks in step ──▶ holding
 *     ▲               │                     │                                       │ the base is cut,
 *     │               │                     │                                       ▼ sent, and acked
 *     └─────drop──────┴─────────────────────┴───────────────────────────────────── held
 */

import { type FtError, toFtError } from '../common/errors';
import type { Connection } from '../transport/connection';
import { type Frame, FrameType } from '../wire/frame';
import { AuditReport } from './audit-report';
import { CatchUp } from './catch-up';
import { EpochPipeline, type PipelineHandlers } from './epoch-pipeline';
import { FrameSender } from './frame-sender';
import { faultOfFrame } from './inbound';
import { Lease } from './lease';
import type { LinkPeer } from './link-types';
import { OutputCommit } from './output-commit';
import type { PrimaryStats } from './primary-stats';
import type { PrimaryOptions } from './primary-types';
import { SyncDriver } from './sync';

/** What of it concerns the role; the rest is between these parts. */
export type ReplicationHandlers = Pick<PipelineHandlers, 'onFinal' | 'onResting'>;

export class Replication {
  readonly commit: OutputCommit;
  readonly pipeline: EpochPipeline;
  readonly catchUp: CatchUp;
  readonly lease: Lease;
  private readonly sync: SyncDriver;
  private readonly audit: AuditReport;
  /** The scan of this session's sync is through. */
  private scanned = false;
  private outputHeld = false;
  private baseEpoch = 0;
  private firstEpoch = 0;
  private generation = 0;
  private connection: Connection | undefined;
  private peer: LinkPeer | undefined;
  private intervalUs: number;
  private lastSeen: { readonly node: string; readonly address: string } | undefined;

  constructor(
    private readonly options: PrimaryOptions,
    private readonly stats: PrimaryStats,
    handlers: ReplicationHandlers,
  ) {
    const { clock, logger, machine, pool, compressor } = options;
    this.intervalUs = options.policy.intervalUs;
    const sender = new FrameSender(clock, pool, compressor, stats);
    this.catchUp = new CatchUp(clock, logger, machine, stats);
    this.lease = new Lease(machine, logger);
    this.audit = new AuditReport(clock, logger, machine, stats);
    this.commit = new OutputCommit(clock, machine, stats, (bytes, us) => {
      compressor?.observeLink(bytes, us);
    });
    this.pipeline = new EpochPipeline(clock, machine, sender, this.commit, stats, {
      ...handlers,
      onBaseSent: (epoch) => {
        this.baseEpoch = epoch;
      },
      onOverrun: (epoch) => {
        const message = 'the dirty ring may have lost entries; all of memory is sent again';
        logger.warn(message, { epoch, overruns: stats.overruns });
      },
    });
    this.sync = new SyncDriver(clock, machine, sender, stats, () => {
      this.scanned = true;
      this.holdWhenSynced();
    });
  }

  /** The newest standby, also one that is gone: its node id and where it was reached. */
  get lastPeer(): { readonly node: string; readonly address: string } | undefined {
    return this.lastSeen;
  }

  /** Node id of the standby; "" without one. */
  get standbyId(): string {
    return this.peer?.standbyId ?? '';
  }

  /** True from holdOutput on: the standby may become promotable at any moment. Outlives drop(). */
  get holding(): boolean {
    return this.outputHeld;
  }

  /** The link is up: epochs have a way to go, and none is cut yet. */
  open(connection: Connection, peer: LinkPeer, generation: number): void {
    const { pipeline, sync } = this;
    this.connection = connection;
    this.peer = peer;
    this.lastSeen = { node: peer.standbyId, address: connection.remote };
    this.generation = generation;
    this.scanned = false;
    this.outputHeld = false;
    this.baseEpoch = 0;
    this.firstEpoch = this.stats.epochCut + 1;
    connection.onDrain = () => {
      // Not at once: what is encoded here would drain again within the same turn, and again.
      pipeline.pumpSoon();
      sync.resume();
    };
    pipeline.start(connection, generation, this.firstEpoch);
  }

  /** The machine begins to cut, and the sync. The machine's error when it cannot. */
  begin(): FtError | undefined {
    const { connection, peer, generation } = this;
    if (connection === undefined || peer === undefined) return undefined;
    try {
      const leaseUs = this.lease.begin(peer.suspectAfterMs);
      const policy = { ...this.options.policy, intervalUs: this.intervalUs, leaseUs };
      this.catchUp.begin(connection, generation, policy, this.firstEpoch, peer);
    } catch (thrown) {
      return toFtError(thrown, 'FT_ERR_MACHINE');
    }
    this.sync.start(connection, generation);
    return undefined;
  }

  /** Another time between cuts, for the session that goes on and those to come. */
  setInterval(intervalUs: number): void {
    if (intervalUs === this.intervalUs) return;
    this.intervalUs = intervalUs;
    if (this.connection !== undefined) this.options.machine.setCutInterval(intervalUs);
  }

  /** 0…1: of memory or disks, whichever is behind. */
  get progress(): number {
    const { machine } = this.options;
    return Math.min(machine.scanProgress(), machine.diskSyncProgress());
  }

  /** The standby says something over the replication connection; an error ends the link. */
  received(frame: Frame): FtError | undefined {
    const fault = faultOfFrame(frame, this.generation);
    if (fault !== undefined) return fault;
    return frame.type === FrameType.ack ? this.commit.ack(frame.epoch) : this.audit.take(frame);
  }

  /** The base epoch waits for the scan of memory and for the disks, whichever is later. */
  holdWhenSynced(): void {
    const { machine } = this.options;
    if (this.connection === undefined || !this.scanned || this.outputHeld) return;
    if (!machine.disksSynced()) return;
    // From here on the standby may become promotable: this host no longer owns its output alone,
    // and losing the standby means asking the witness first.
    this.outputHeld = true;
    machine.holdOutput();
  }

  /** The standby holds all up to `epoch`: true when the base is among it. */
  baseHeld(epoch: number): boolean {
    return this.baseEpoch !== 0 && epoch >= this.baseEpoch;
  }

  /** The base is acknowledged. */
  synced(): void {
    this.catchUp.synced(this.peer?.session ?? '');
  }

  /** This host owns its output alone again. */
  release(): void {
    this.outputHeld = false;
  }

  /** Nothing is sent any more. */
  drop(): void {
    this.pipeline.stop();
    this.sync.stop();
    if (this.connection !== undefined) this.connection.onDrain = () => undefined;
    this.connection = undefined;
    this.peer = undefined;
  }
}
