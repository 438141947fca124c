/**
 * The simulated disk's map of regions that may differ from the peer's: the sets and movements of
 * native/disk/region_map.h, where the argument stands why no mark is ever missing.
 *
 *   mark ─▶ newer ─rotate─▶ older ─retire─▶ in step: forgotten · else: legacy ─inStep─▶ forgotten
 *   markFailed ─▶ failed                    collect: newer, older and failed ─▶ legacy
 *
 * What lasts beyond the process is the image with the union of the sets and the name of the session.
 */
import { assert } from '../common/assert';
import { regionBytesFor, regionsOf } from '../common/disk-regions';

/** What a host's storage holds of one disk. It outlives machines that had it. */
export class SimulatedImage {
  readonly bytes: Buffer;
  /** One entry a region: not 0 when it may differ from the peer's. */
  readonly marks: Uint8Array;
  /** "" when it is in step with nobody. */
  syncId = '';
  /** Set by tests: writes to it fail from now on. */
  failing = false;
  /** Set by tests: it cannot be read for a sync. */
  unreadable = false;

  /** @param diskBytes a positive multiple of 512 */
  constructor(diskBytes: number) {
    assert(diskBytes > 0 && diskBytes % 512 === 0, 'a disk is whole sectors');
    this.bytes = Buffer.alloc(diskBytes);
    this.marks = new Uint8Array(regionsOf(diskBytes));
  }

  /** The same storage, for whoever comes next; what is still done to this one reaches it no more. */
  handOn(): SimulatedImage {
    const next = new SimulatedImage(this.bytes.length);
    this.bytes.copy(next.bytes);
    next.marks.set(this.marks);
    next.syncId = this.syncId;
    next.failing = this.failing;
    next.unreadable = this.unreadable;
    return next;
  }

  /** The host's power failed: neither marks nor name can be trusted. */
  losePower(): void {
    this.syncId = '';
    this.marks.fill(0);
  }
}

export class SimulatedRegionMap {
  readonly regionBytes: number;
  private readonly legacy: Uint8Array;
  private readonly older: Uint8Array;
  private readonly newer: Uint8Array;
  private readonly failed: Uint8Array;
  private isInStep = false;
  olderUsed = false;
  newerUsed = false;

  constructor(private readonly image: SimulatedImage) {
    this.regionBytes = regionBytesFor(image.bytes.length);
    this.legacy = Uint8Array.from(image.marks);
    this.older = new Uint8Array(image.marks.length);
    this.newer = new Uint8Array(image.marks.length);
    this.failed = new Uint8Array(image.marks.length);
  }

  get marked(): number {
    return this.image.marks.reduce((count, mark) => count + mark, 0);
  }

  mark(offset: number, bytes: number): void {
    this.newerUsed = true;
    this.set(this.newer, offset, bytes);
  }

  /** A write failed: the region stays marked for the rest of the session. */
  markFailed(offset: number, bytes: number): void {
    this.set(this.failed, offset, bytes);
  }

  rotate(): void {
    assert(!this.olderUsed, 'older marks are settled before newer ones take their place');
    this.older.set(this.newer);
    this.olderUsed = this.newerUsed;
    this.newer.fill(0);
    this.newerUsed = false;
  }

  /** The writes of the older marks are in this image, and the peer answers for its own. */
  retire(): void {
    // What is acknowledged in a session that is not in step yet says nothing about the image that
    // the old name is about.
    if (!this.isInStep) this.join(this.older);
    this.older.fill(0);
    this.olderUsed = false;
    this.show();
  }

  /** A session begins or ends. */
  collect(): void {
    for (const set of [this.older, this.newer, this.failed]) {
      this.join(set);
      set.fill(0);
    }
    this.olderUsed = false;
    this.newerUsed = false;
    this.isInStep = false;
    this.show();
  }

  inStep(session: string): void {
    this.image.syncId = session;
    this.legacy.fill(0);
    this.isInStep = true;
    this.show();
  }

  forgetSync(): void {
    this.image.syncId = '';
  }

  /** One bit a region, as it travels. */
  snapshot(): Uint8Array {
    const { marks } = this.image;
    const bits = new Uint8Array(Math.ceil(marks.length / 8));
    for (const [region, mark] of marks.entries()) {
      bits[region >> 3] = (bits[region >> 3] ?? 0) | (mark << (region & 7));
    }
    return bits;
  }

  /** Regions marked here or in the peer's snapshot, ascending. */
  unionWith(peer: Uint8Array): number[] {
    const regions: number[] = [];
    for (const [region, mark] of this.image.marks.entries()) {
      const theirs = ((peer[region >> 3] ?? 0) >> (region & 7)) & 1;
      if (mark !== 0 || theirs !== 0) regions.push(region);
    }
    return regions;
  }

  private set(into: Uint8Array, offset: number, bytes: number): void {
    const last = Math.floor((offset + bytes - 1) / this.regionBytes);
    for (let region = Math.floor(offset / this.regionBytes); region <= last; region += 1) {
      into[region] = 1;
      this.image.marks[region] = 1;
    }
  }

  private join(from: Uint8Array): void {
    for (const [region, mark] of from.entries()) if (mark !== 0) this.legacy[region] = 1;
  }

  private show(): void {
    const { legacy, older, newer, failed } = this;
    const { marks } = this.image;
    for (let i = 0; i < marks.length; i += 1) {
      marks[i] = (legacy[i] ?? 0) | (older[i] ?? 0) | (newer[i] ?? 0) | (failed[i] ?? 0);
    }
  }
}
