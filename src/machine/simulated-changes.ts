/**
 * Which pages a standby that was lost lacks when it comes back: those of epochs that it may not hold,
 * and those that change while nobody replicates. The same two bitmaps as native/machine's
 * UnackedPages, turned after fewer epochs, and the same bounds as its ChangeLog.
 */
import type { SimulatedMemory } from './simulated-memory';

const TURN_EPOCHS = 4;
const SHARE_MAX = 4;
const PAGES_MAX = 8192;

export class SimulatedChanges {
  private newer: Uint8Array;
  private older: Uint8Array;
  private since = 0;
  private turned = 0;
  private newest = 0;
  /** What differs, while it is noted, and of the catch-up that followed. */
  readonly pages: Uint8Array;
  /** Every change is in `pages`. */
  complete = false;
  noting = false;

  constructor(private readonly memory: SimulatedMemory) {
    this.newer = new Uint8Array(memory.pages);
    this.older = new Uint8Array(memory.pages);
    this.pages = new Uint8Array(memory.pages);
  }

  /** A new stream of epochs. */
  begin(firstEpoch: number): void {
    this.newer.fill(0);
    this.older.fill(0);
    this.since = firstEpoch - 1;
    this.turned = this.since;
    this.newest = this.since;
  }

  cut(epoch: number, gfns: Uint32Array, count: number): void {
    this.newest = epoch;
    for (let i = 0; i < count; i += 1) this.newer[gfns[i] ?? 0] = 1;
  }

  acked(epoch: number): void {
    if (epoch < this.turned || this.newest - this.turned < TURN_EPOCHS) return;
    const emptied = this.older;
    this.older = this.newer;
    this.newer = emptied.fill(0);
    this.since = this.turned;
    this.turned = this.newest;
  }

  /** The stream ended: every page that its standby may lack. */
  startNoting(): void {
    this.pages.fill(0);
    for (let gfn = 0; gfn < this.pages.length; gfn += 1) {
      if (this.newer[gfn] === 1 || this.older[gfn] === 1) this.pages[gfn] = 1;
    }
    this.complete = true;
    this.noting = true;
    this.collect();
  }

  /** Moves in what memory has logged; gives up when that is too much. */
  collect(): void {
    if (!this.noting) return;
    this.memory.takeDirty((gfn) => {
      this.pages[gfn] = 1;
    });
    let count = 0;
    for (const bit of this.pages) count += bit;
    if (count > Math.min(this.pages.length / SHARE_MAX, PAGES_MAX)) this.complete = false;
  }

  /** The epoch after which every change is known. */
  get notedSince(): number | undefined {
    this.collect();
    return this.noting && this.complete ? this.since : undefined;
  }

  /** The next replication begins; true when it may go on from the image of the last one. */
  endNoting(catchUp: boolean): boolean {
    this.collect();
    const usable = this.noting && this.complete && catchUp;
    this.noting = false;
    this.complete = false;
    if (!usable) this.pages.fill(1);
    return usable;
  }

  /** As a map of pages (common/page-map.ts); returns its length. */
  write(into: Buffer): number {
    const bytes = Math.ceil(this.pages.length / 8);
    into.fill(0, 0, bytes);
    for (const [gfn, bit] of this.pages.entries()) {
      if (bit === 1) into[gfn >> 3] = (into[gfn >> 3] ?? 0) | (1 << (gfn & 7));
    }
    return bytes;
  }
}
