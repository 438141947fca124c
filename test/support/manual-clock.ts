/** A Clock that stands still until a test moves it. */
import type { Clock, Timer } from '../../src/common/clock';

interface Entry {
  dueUs: number;
  readonly order: number;
  readonly everyUs: number | undefined;
  readonly fn: () => void;
}

/**
 * Time passes only through `advance`. Callbacks run in the order of their due times; among equals,
 * in the order in which they were asked for. `soon` callbacks run before time moves on.
 */
export class ManualClock implements Clock {
  private now: number;
  private order = 0;
  private readonly entries = new Set<Entry>();
  private queue: (() => void)[] = [];

  constructor(startUs = 1_000_000) {
    this.now = startUs;
  }

  nowUs(): number {
    return this.now;
  }

  after(delayMs: number, fn: () => void): Timer {
    return this.add(delayMs, undefined, fn);
  }

  every(intervalMs: number, fn: () => void): Timer {
    return this.add(intervalMs, Math.max(intervalMs * 1000, 1), fn);
  }

  soon(fn: () => void): void {
    this.queue.push(fn);
  }

  /** Timers that are set. */
  get timers(): number {
    return this.entries.size;
  }

  /** Runs what `soon` was given, including what that adds, without moving time. */
  settle(): void {
    for (let rounds = 0; this.queue.length > 0; rounds++) {
      if (rounds > 100_000) throw new Error('soon() callbacks never come to an end');
      const batch = this.queue;
      this.queue = [];
      for (const fn of batch) fn();
    }
  }

  /** Moves time on by `ms`, running everything that falls due on the way. */
  advance(ms: number): void {
    const end = this.now + ms * 1000;
    this.settle();
    for (let next = this.earliest(end); next !== undefined; next = this.earliest(end)) {
      this.now = Math.max(this.now, next.dueUs);
      if (next.everyUs === undefined) this.entries.delete(next);
      else next.dueUs += next.everyUs;
      next.fn();
      this.settle();
    }
    this.now = end;
  }

  private add(delayMs: number, everyUs: number | undefined, fn: () => void): Timer {
    const dueUs = this.now + Math.max(delayMs, 0) * 1000;
    const entry: Entry = { dueUs, order: this.order++, everyUs, fn };
    this.entries.add(entry);
    return { cancel: () => void this.entries.delete(entry) };
  }

  private earliest(endUs: number): Entry | undefined {
    let best: Entry | undefined;
    for (const entry of this.entries) {
      if (entry.dueUs > endUs) continue;
      if (best === undefined || entry.dueUs < best.dueUs) best = entry;
      else if (entry.dueUs === best.dueUs && entry.order < best.order) best = entry;
    }
    return best;
  }
}
