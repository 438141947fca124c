/** The scan of a simulated machine's memory for a sync: all of it, or what a catch-up has to send. */
import type { EncodedChunk } from './machine';
import { putPage } from './simulated-epoch';
import { PAGE_BYTES, type SimulatedMemory } from './simulated-memory';

/** Zero pages take hardly any room: the pages looked at in one call are bounded as well. */
const PAGES_MAX = 256;

export class SimulatedScan {
  private at = 0;

  constructor(
    private readonly memory: SimulatedMemory,
    /** 1 for each page that is visited. */
    private readonly pages: Uint8Array,
  ) {}

  rewind(): void {
    this.at = 0;
  }

  /** 0…1 */
  get progress(): number {
    return this.at / this.memory.pages;
  }

  next(into: Buffer): EncodedChunk {
    let bytes = 0;
    let visited = 0;
    const end = Math.min(this.memory.pages, this.at + PAGES_MAX);
    for (; this.at < end; this.at += 1) {
      if (this.pages[this.at] === 0) continue;
      const next = putPage(into, bytes, this.at, this.memory.page(this.at));
      if (next === bytes) break;
      bytes = next;
      visited += 1;
    }
    return { bytes, rawBytes: visited * PAGE_BYTES, last: this.at === this.memory.pages };
  }
}
