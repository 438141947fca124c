/**
 * The simulated machine's staging slots: cuts that wait to be encoded, oldest first.
 *
 *   take ─▶ (filled by the cut) ─▶ publish ─▶ next ─▶ encode … encode, last ─▶ free again
 *
 * A slot keeps its buffers from use to use.
 */
import { assert } from '../common/assert';
import type { EncodedChunk } from './machine';
import { SimulatedSlot } from './simulated-epoch';

export class SimulatedSlots {
  private readonly waiting: SimulatedSlot[] = [];
  private readonly spare: SimulatedSlot[] = [];
  private current: SimulatedSlot | undefined;

  /** A cut waits for next(). */
  get anyWaits(): boolean {
    return this.waiting.length > 0;
  }

  take(): SimulatedSlot {
    return this.spare.pop() ?? new SimulatedSlot();
  }

  publish(slot: SimulatedSlot): void {
    this.waiting.push(slot);
  }

  /** The oldest waiting cut, whose pieces encode() gives from here on. */
  next(): SimulatedSlot | undefined {
    assert(this.current === undefined, 'a cut is encoded to its end before the next is taken');
    this.current = this.waiting.shift();
    return this.current;
  }

  encode(into: Buffer): EncodedChunk {
    assert(this.current !== undefined, 'encodeCut follows nextCut');
    const chunk = this.current.encode(into);
    if (chunk.last) {
      this.spare.push(this.current);
      this.current = undefined;
    }
    return chunk;
  }

  /** Forgets every cut, also one that is half encoded. */
  clear(): void {
    if (this.current !== undefined) this.spare.push(this.current);
    this.current = undefined;
    this.spare.push(...this.waiting.splice(0));
  }
}
