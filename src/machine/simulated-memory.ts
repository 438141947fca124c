/**
 * Guest memory of the simulated machine: plain bytes with real dirty tracking. Every write by the
 * guest or on its behalf goes through this class and marks its page, as KVM's dirty ring does.
 */
import { assert } from '../common/assert';

export const PAGE_BYTES = 4096;

export class SimulatedMemory {
  readonly bytes: Buffer;
  readonly pages: number;
  private readonly flags: Uint8Array;
  private readonly list: Uint32Array;
  private count = 0;
  private logging = false;

  /** @param memoryBytes a positive multiple of PAGE_BYTES. */
  constructor(memoryBytes: number) {
    assert(memoryBytes > 0 && memoryBytes % PAGE_BYTES === 0, 'guest memory is whole pages');
    this.bytes = Buffer.alloc(memoryBytes);
    this.pages = memoryBytes / PAGE_BYTES;
    this.flags = new Uint8Array(this.pages);
    this.list = new Uint32Array(this.pages);
  }

  /** Pages written since the last harvest. */
  get dirtyPages(): number {
    return this.count;
  }

  startLogging(): void {
    this.clearDirty();
    this.logging = true;
  }

  stopLogging(): void {
    this.clearDirty();
    this.logging = false;
  }

  /** Moves the dirty set into `into` (in the order of first writes) and clears it. */
  harvest(into: Uint32Array): number {
    const count = this.count;
    into.set(this.list.subarray(0, count));
    this.clearDirty();
    return count;
  }

  /** Hands out the dirty set and clears it. */
  takeDirty(take: (gfn: number) => void): void {
    for (let i = 0; i < this.count; i += 1) take(this.list[i] ?? 0);
    this.clearDirty();
  }

  markPage(gfn: number): void {
    if (!this.logging || this.flags[gfn] !== 0) return;
    this.flags[gfn] = 1;
    this.list[this.count] = gfn;
    this.count += 1;
  }

  /** The page as a view; for reading, and for writing through `put`. */
  page(gfn: number): Buffer {
    return this.bytes.subarray(gfn * PAGE_BYTES, (gfn + 1) * PAGE_BYTES);
  }

  put(offset: number, source: Uint8Array): void {
    this.markRange(offset, source.length);
    this.bytes.set(source, offset);
  }

  u32(offset: number): number {
    return this.bytes.readUInt32LE(offset);
  }

  setU32(offset: number, value: number): void {
    this.markRange(offset, 4);
    this.bytes.writeUInt32LE(value, offset);
  }

  u64(offset: number): bigint {
    return this.bytes.readBigUInt64LE(offset);
  }

  setU64(offset: number, value: bigint): void {
    this.markRange(offset, 8);
    this.bytes.writeBigUInt64LE(BigInt.asUintN(64, value), offset);
  }

  /** Forgets everything: all zero, nothing dirty. */
  clear(): void {
    this.bytes.fill(0);
    this.clearDirty();
  }

  private markRange(offset: number, length: number): void {
    const first = Math.floor(offset / PAGE_BYTES);
    const last = Math.floor((offset + length - 1) / PAGE_BYTES);
    for (let gfn = first; gfn <= last; gfn += 1) this.markPage(gfn);
  }

  private clearDirty(): void {
    for (let i = 0; i < this.count; i += 1) this.flags[this.list[i] ?? 0] = 0;
    this.count = 0;
  }
}

/** A 32-bit hash of one page (FNV-1a over its little-endian words), for the audit. */
export function pageHash(bytes: Buffer, offset: number): number {
  const words = new Int32Array(bytes.buffer, bytes.byteOffset + offset, PAGE_BYTES / 4);
  let hash = 0x811c9dc5;
  for (let at = 0; at < PAGE_BYTES / 4; at += 1) {
    hash = Math.imul(hash ^ (words[at] as number), 0x01000193);
  }
  return hash >>> 0;
}
