/**
 * The initial sync: a scan over all guest memory while the guest runs, woven into the stream of
 * epochs. Every page is visited once; what changes behind the scan's back travels in the epochs.
 *
 *   scanning ──▶ (one piece per turn, only while the link keeps up) ──▶ last piece ──▶ done
 *
 * Epochs come first: the scan adds a piece only while less than SCAN_QUEUED_BYTES_MAX waits in the
 * connection, so an epoch never waits behind more than that.
 */
import type { Clock } from '../common/clock';
import type { Machine } from '../machine/machine';
import type { Connection } from '../transport/connection';
import { FrameFlag, FrameType } from '../wire/frame';
import type { FrameSender } from './frame-sender';
import type { PrimaryStats } from './primary-stats';

const SCAN_QUEUED_BYTES_MAX = 2 * 1024 * 1024;

export class SyncDriver {
  private connection: Connection | undefined;
  private generation = 0;
  private stepAsked = false;

  constructor(
    private readonly clock: Clock,
    private readonly machine: Machine,
    private readonly sender: FrameSender,
    private readonly stats: PrimaryStats,
    /** The last piece was sent. */
    private readonly onDone: () => void,
  ) {}

  get running(): boolean {
    return this.connection !== undefined;
  }

  start(connection: Connection, generation: number): void {
    this.connection = connection;
    this.generation = generation;
    this.stats.syncsStarted += 1;
    this.resume();
  }

  stop(): void {
    this.connection = undefined;
  }

  /** The connection has room again. */
  resume(): void {
    if (this.connection === undefined || this.stepAsked) return;
    this.stepAsked = true;
    this.clock.soon(this.step);
  }

  private readonly step = (): void => {
    this.stepAsked = false;
    const connection = this.connection;
    // With a full queue the scan sleeps until onDrain.
    if (connection === undefined || connection.bytesQueued >= SCAN_QUEUED_BYTES_MAX) return;
    const chunk = this.machine.scanNext(this.sender.scratch);
    this.stats.syncBytes += chunk.rawBytes;
    const flags = chunk.last ? FrameFlag.last : 0;
    this.sender.send(connection, FrameType.syncPages, flags, this.generation, 0, chunk);
    if (!chunk.last) {
      this.resume();
      return;
    }
    this.connection = undefined;
    this.onDone();
  };
}
