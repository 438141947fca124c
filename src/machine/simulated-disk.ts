/**
 * A disk of the simulated machine: replicated in the way of native/disk/replicated_disk.h, with an
 * image in memory whose writes take time.
 *
 *   guest ── write, zero ──▶ view (what is read) ──▶ queue ──latency──▶ image
 *                  └──────▶ open log ── takeLog at the cut ──▶ epoch ──▶ the standby's apply()
 *   sync: regions read from the view go into the open log as well
 *
 * The view is the image with all that is queued; nobody but a test sees the difference, as when a
 * process is killed: what was queued is lost then, and the marks tell where.
 *
 * Marks settle on the active side when their epoch is acknowledged and their writes are in the image;
 * on the standby when every record promised before them is in the image.
 */
import type { Clock, Timer } from '../common/clock';
import { FtError } from '../common/errors';
import type { DiskStats } from './machine';
import { type SimulatedImage, SimulatedRegionMap } from './simulated-region-map';

/** What an epoch says of a disk. Without data: the range reads as zeros. */
export interface DiskRecord {
  /** Which disk. */
  readonly disk: number;
  readonly offset: number;
  readonly bytes: number;
  readonly data: Buffer | undefined;
}

export interface SimulatedDiskOptions {
  readonly image: SimulatedImage;
  readonly readOnly?: boolean;
  /** How long a write takes to reach the image. */
  readonly latencyMs?: number;
}

export interface SimulatedDiskHandlers {
  onSynced(): void;
  /** The image could not be read for the sync, which goes no further. */
  onSyncFailed(error: FtError): void;
  /** A record of an epoch could not be written. */
  onApplyFailed(error: FtError): void;
}

const LATENCY_MS = 0.5;
/** How much may land at a time. */
const LAND_OPS_MAX = 8;
const SYNC_INTERVAL_MS = 0.5;
/** The sync waits for the next cut beyond this. */
const LOG_BYTES_MAX = 256 * 1024;

interface QueuedOp extends DiskRecord {
  /** True for a record of an epoch, false for a write of the guest here. */
  readonly applied: boolean;
}

export class SimulatedDisk {
  /** What a read would find. */
  readonly view: Buffer;
  readonly readOnly: boolean;
  private readonly map: SimulatedRegionMap;
  private readonly image: SimulatedImage;
  private queue: QueuedOp[] = [];
  private landTimer: Timer | undefined;
  private syncTimer: Timer | undefined;
  private log: DiskRecord[] = [];
  private logBytes = 0;
  private replicating = false;
  private regionsLeft: number[] = [];
  private regionsToSend = 0;
  private isStandby = false;
  private failed = false;
  /** Operations queued and landed so far; and up to where in the queue records are promised. */
  private queued = 0;
  private landed = 0;
  private promised = 0;
  /** When the older marks are settled. */
  private settleEpoch = 0;
  private settleLanded = 0;
  private ackedEpoch = 0;
  private readonly counts = {
    ...{ reads: 0, writes: 0, flushes: 0, zeroes: 0, bytesRead: 0, bytesWritten: 0, errors: 0 },
    syncBytes: 0,
  };

  constructor(
    private readonly index: number,
    private readonly clock: Clock,
    private readonly options: SimulatedDiskOptions,
    private readonly handlers: SimulatedDiskHandlers,
    /** Test-only fault: the peer is told that nothing differs here. */
    private readonly forgetsMarks: boolean,
  ) {
    this.image = options.image;
    this.readOnly = options.readOnly ?? false;
    this.view = Buffer.from(options.image.bytes);
    this.map = new SimulatedRegionMap(options.image);
  }

  // ── the guest ──────────────────────────────────────────────────────────────────────────────────

  /** Data is owned by the disk from here on. */
  write(offset: number, data: Buffer): void {
    this.counts.writes += 1;
    this.counts.bytesWritten += data.length;
    this.perform({ disk: this.index, offset, bytes: data.length, data });
  }

  zero(offset: number, bytes: number): void {
    this.counts.zeroes += 1;
    this.perform({ disk: this.index, offset, bytes, data: undefined });
  }

  private perform(record: DiskRecord): void {
    this.map.mark(record.offset, record.bytes);
    this.append(record);
    this.put({ ...record, applied: false });
  }

  // ── the active side's replication ──────────────────────────────────────────────────────────────

  /** Starts logging and syncing: the regions marked here or in `peerMap`, or all of them. */
  beginReplication(peerMap: Uint8Array | undefined): void {
    this.map.collect();
    this.log = [];
    this.logBytes = 0;
    this.counts.syncBytes = 0;
    this.ackedEpoch = 0;
    this.replicating = true;
    if (this.readOnly) return;
    const all = Array.from(this.image.marks, (_mark, region) => region);
    this.regionsLeft = peerMap === undefined ? all : this.map.unionWith(peerMap);
    this.regionsToSend = this.regionsLeft.length;
    if (this.synced) this.clock.soon(() => this.replicating && this.handlers.onSynced());
    else this.syncTimer = this.clock.every(SYNC_INTERVAL_MS, () => this.syncSome());
  }

  endReplication(): void {
    this.replicating = false;
    this.regionsLeft = [];
    this.syncTimer?.cancel();
    this.log = [];
    this.logBytes = 0;
    this.map.collect();
  }

  takeLog(epoch: number): DiskRecord[] {
    const taken = this.log;
    this.log = [];
    this.logBytes = 0;
    if (!this.map.olderUsed && this.map.newerUsed) {
      this.map.rotate();
      this.settleEpoch = epoch;
      this.settleLanded = this.queued;
    }
    return taken;
  }

  acked(epoch: number): void {
    this.ackedEpoch = epoch;
    this.settle();
  }

  get synced(): boolean {
    return this.regionsLeft.length === 0;
  }

  /** 0…1 */
  get syncProgress(): number {
    return this.regionsToSend === 0 ? 1 : 1 - this.regionsLeft.length / this.regionsToSend;
  }

  inStep(session: string): void {
    if (!this.readOnly) this.map.inStep(session);
  }

  get syncId(): string {
    return this.readOnly ? '' : this.image.syncId;
  }

  private syncSome(): void {
    if (this.image.unreadable) {
      this.syncTimer?.cancel();
      const message = 'The simulated disk image cannot be read; mend it.';
      this.handlers.onSyncFailed(new FtError('FT_ERR_DISK_IO', message));
      return;
    }
    while (this.logBytes < LOG_BYTES_MAX) {
      const region = this.regionsLeft.shift();
      if (region === undefined) break;
      this.readRegion(region);
    }
    if (!this.synced) return;
    this.syncTimer?.cancel();
    this.handlers.onSynced();
  }

  private readRegion(region: number): void {
    const offset = region * this.map.regionBytes;
    const bytes = Math.min(this.map.regionBytes, this.view.length - offset);
    const data = Buffer.from(this.view.subarray(offset, offset + bytes));
    this.append({ disk: this.index, offset, bytes, data: isZero(data) ? undefined : data });
    this.counts.syncBytes += bytes;
  }

  private append(record: DiskRecord): void {
    if (!this.replicating) return;
    this.log.push(record);
    this.logBytes += record.data?.length ?? 0;
  }

  // ── the standby ────────────────────────────────────────────────────────────────────────────────

  beginSync(peerSyncId: string): Uint8Array | undefined {
    this.isStandby = true;
    if (this.failed) this.lookAgain();
    this.map.collect();
    // Records that were promised and never applied are forgotten with their session.
    this.promised = this.queued;
    if (this.readOnly) return undefined;
    if (peerSyncId === '' || peerSyncId !== this.image.syncId) {
      this.map.forgetSync();
      return undefined;
    }
    const bits = this.map.snapshot();
    return this.forgetsMarks ? bits.fill(0) : bits;
  }

  /** The record is about to be acknowledged. */
  promise(record: DiskRecord): void {
    this.map.mark(record.offset, record.bytes);
    this.promised += 1;
  }

  /** Puts a record of a whole epoch in line. */
  apply(record: DiskRecord): void {
    if (this.failed) return;
    this.put({ ...record, applied: true });
  }

  /** This side is the active one from here on. */
  promote(): void {
    this.isStandby = false;
    this.map.collect();
  }

  /** After a failure the view shows what never reached the image. */
  private lookAgain(): void {
    this.failed = false;
    this.image.bytes.copy(this.view);
    for (const op of this.queue) copyInto(this.view, op);
  }

  // ── the image ──────────────────────────────────────────────────────────────────────────────────

  private put(op: QueuedOp): void {
    copyInto(this.view, op);
    this.queue.push(op);
    this.queued += 1;
    this.landTimer ??= this.clock.after(this.options.latencyMs ?? LATENCY_MS, () => this.land());
  }

  private land(): void {
    this.landTimer = undefined;
    for (const op of this.queue.splice(0, LAND_OPS_MAX)) {
      if (this.image.failing) this.writeFailed(op);
      else copyInto(this.image.bytes, op);
      this.landed += 1;
    }
    this.settle();
    if (this.queue.length === 0) return;
    this.landTimer ??= this.clock.after(this.options.latencyMs ?? LATENCY_MS, () => this.land());
  }

  private writeFailed(op: QueuedOp): void {
    this.counts.errors += 1;
    this.map.markFailed(op.offset, op.bytes);
    if (!op.applied || this.failed) return;
    this.failed = true;
    const message = 'The simulated disk image cannot be written; mend it.';
    this.handlers.onApplyFailed(new FtError('FT_ERR_DISK_IO', message));
  }

  private settle(): void {
    const { map } = this;
    // The active side begins a new set at a cut, the standby whenever it can.
    if (this.isStandby && !map.olderUsed && map.newerUsed) {
      map.rotate();
      this.settleLanded = this.promised;
    }
    if (!map.olderUsed || this.landed < this.settleLanded) return;
    const peerHasIt = this.replicating && this.ackedEpoch >= this.settleEpoch;
    if (this.isStandby || peerHasIt) map.retire();
  }

  get backlogBytes(): number {
    return this.queue.reduce((sum, op) => sum + op.bytes, 0);
  }

  stats(): DiskStats {
    return {
      ...this.counts,
      regionsMarked: this.map.marked,
      syncBytesLeft: this.regionsLeft.length * this.map.regionBytes,
      backlogBytes: this.backlogBytes,
    };
  }

  /** Everything queued is written; nothing happens any more. */
  close(): void {
    this.syncTimer?.cancel();
    this.landTimer?.cancel();
    while (this.queue.length > 0) this.land();
    this.landTimer?.cancel();
  }
}

function copyInto(bytes: Buffer, record: DiskRecord): void {
  if (record.data === undefined) bytes.fill(0, record.offset, record.offset + record.bytes);
  else record.data.copy(bytes, record.offset);
}

function isZero(data: Buffer): boolean {
  // The first byte is zero, and each is equal to the one before it.
  return data[0] === 0 && data.compare(data, 1, data.length, 0, data.length - 1) === 0;
}
