/** All disks of a simulated machine: what the Machine interface says of them, in one place. */
import type { Clock } from '../common/clock';
import { crc32c } from '../common/crc32c';
import type { FtError } from '../common/errors';
import type { DiskDescription, DiskStats } from './machine';
import { type DiskRecord, SimulatedDisk, type SimulatedDiskOptions } from './simulated-disk';
import { forEachDiskRecord } from './simulated-epoch';

export interface SimulatedDisksHandlers {
  onDisksSynced(): void;
  onDiskFailed(error: FtError): void;
  onDiskSyncFailed(error: FtError): void;
}

export class SimulatedDisks {
  readonly all: readonly SimulatedDisk[];
  readonly descriptions: readonly DiskDescription[];

  constructor(
    clock: Clock,
    options: readonly SimulatedDiskOptions[],
    handlers: SimulatedDisksHandlers,
    forgetMarks: boolean,
  ) {
    const one = {
      onSynced: () => {
        if (this.synced) handlers.onDisksSynced();
      },
      onSyncFailed: (error: FtError) => handlers.onDiskSyncFailed(error),
      onApplyFailed: (error: FtError) => handlers.onDiskFailed(error),
    };
    this.all = options.map((it, index) => new SimulatedDisk(index, clock, it, one, forgetMarks));
    this.descriptions = options.map(({ image, readOnly = false }) => ({
      bytes: image.bytes.length,
      readOnly,
      fingerprint: readOnly ? crc32c(image.bytes) : 0,
    }));
  }

  beginReplication(peerMaps: readonly (Uint8Array | undefined)[]): void {
    for (const [index, disk] of this.all.entries()) disk.beginReplication(peerMaps[index]);
  }

  endReplication(): void {
    for (const disk of this.all) disk.endReplication();
  }

  takeLogs(epoch: number): DiskRecord[] {
    return this.all.flatMap((disk) => disk.takeLog(epoch));
  }

  acked(epoch: number): void {
    for (const disk of this.all) disk.acked(epoch);
  }

  get synced(): boolean {
    return this.all.every((disk) => disk.synced);
  }

  get syncProgress(): number {
    return this.all.reduce((least, disk) => Math.min(least, disk.syncProgress), 1);
  }

  inStep(session: string): void {
    for (const disk of this.all) disk.inStep(session);
  }

  get syncIds(): readonly string[] {
    return this.all.map((disk) => disk.syncId);
  }

  beginSync(peerSyncIds: readonly string[]): readonly (Uint8Array | undefined)[] {
    return this.all.map((disk, index) => disk.beginSync(peerSyncIds[index] ?? ''));
  }

  /** Every record of a verified body is about to be acknowledged. */
  promise(body: Uint8Array): void {
    if (this.all.length > 0) forEachDiskRecord(body, (it) => this.all[it.disk]?.promise(it));
  }

  apply(body: Uint8Array): void {
    if (this.all.length === 0) return;
    forEachDiskRecord(body, (it) => {
      const data = it.data === undefined ? undefined : Buffer.from(it.data);
      this.all[it.disk]?.apply({ ...it, data });
    });
  }

  get backlogBytes(): number {
    return this.all.reduce((sum, disk) => sum + disk.backlogBytes, 0);
  }

  promote(): void {
    for (const disk of this.all) disk.promote();
  }

  stats(): readonly DiskStats[] {
    return this.all.map((disk) => disk.stats());
  }

  close(): void {
    for (const disk of this.all) disk.close();
  }
}
