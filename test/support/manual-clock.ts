/**
 * A Clock that stands still until a test moves it. Timers lie in a heap, so that a simulation jumps
 * from one event to the next instead of asking at every moment whether something is due.
 */
import type { Clock, Timer } from '../../src/common/clock';

interface Entry {
  dueUs: number;
  readonly order: number;
  readonly everyUs: number | undefined;
  readonly fn: () => void;
  /** Waits in the heap, and is to be called. */
  live: boolean;
}

function before(left: Entry, right: Entry): boolean {
  return left.dueUs < right.dueUs || (left.dueUs === right.dueUs && left.order < right.order);
}

/** Steps of time in a microsecond; a power of two, so that every moment is an exact number. */
const STEPS_PER_US = 1024;

/**
 * The first step that is not before `us`. Moments that lay anywhere between two numbers would be lost
 * in rounding: whoever waits for what is left until some moment could find the same rest for ever.
 */
function step(us: number): number {
  return Math.ceil(us * STEPS_PER_US) / STEPS_PER_US;
}

/** Entries by due time, then by the order in which they were asked for. */
class Heap {
  private readonly items: Entry[] = [];

  get first(): Entry | undefined {
    return this.items[0];
  }

  push(entry: Entry): void {
    const { items } = this;
    let at = items.length;
    items.push(entry);
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = items[parentAt];
      if (parent === undefined || !before(entry, parent)) break;
      items[at] = parent;
      at = parentAt;
    }
    items[at] = entry;
  }

  removeFirst(): void {
    const { items } = this;
    const last = items.pop();
    if (last === undefined || items.length === 0) return;
    let at = 0;
    for (;;) {
      const child = this.lesserChild(at);
      const item = items[child];
      if (item === undefined || !before(item, last)) break;
      items[at] = item;
      at = child;
    }
    items[at] = last;
  }

  private lesserChild(at: number): number {
    const left = 2 * at + 1;
    const [one, other] = [this.items[left], this.items[left + 1]];
    return one !== undefined && other !== undefined && before(other, one) ? left + 1 : left;
  }
}

/**
 * Time passes only through `advance` and `runNext`. Callbacks run in the order of their due times;
 * among equals, in the order in which they were asked for. `soon` callbacks run before time moves on.
 */
export class ManualClock implements Clock {
  private now: number;
  private order = 0;
  private liveTimers = 0;
  private readonly heap = new Heap();
  private queue: (() => void)[] = [];

  constructor(startUs = 1_000_000) {
    this.now = step(startUs);
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
    return this.liveTimers;
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
    while (this.runNext(end)) {
      // Each call is one event.
    }
  }

  /**
   * Jumps to the next timer that is due by `endUs`, runs it and what it asks for soon, and returns
   * true. Where there is none: jumps to `endUs` and returns false.
   */
  runNext(endUs: number): boolean {
    this.settle();
    const next = this.earliest();
    if (next === undefined || next.dueUs > endUs) {
      this.now = Math.max(this.now, step(endUs));
      return false;
    }
    this.now = Math.max(this.now, next.dueUs);
    this.heap.removeFirst();
    if (next.everyUs === undefined) {
      next.live = false;
      this.liveTimers -= 1;
    } else {
      next.dueUs = step(next.dueUs + next.everyUs);
      this.heap.push(next);
    }
    next.fn();
    this.settle();
    return true;
  }

  private add(delayMs: number, everyUs: number | undefined, fn: () => void): Timer {
    const dueUs = delayMs > 0 ? this.laterBy(delayMs * 1000) : this.now;
    const entry: Entry = { dueUs, order: this.order++, everyUs, fn, live: true };
    this.heap.push(entry);
    this.liveTimers += 1;
    return {
      cancel: () => {
        if (!entry.live) return;
        entry.live = false;
        this.liveTimers -= 1;
      },
    };
  }

  /** However short the wait is, time moves on by it. */
  private laterBy(us: number): number {
    return Math.max(step(this.now + us), this.now + 1 / STEPS_PER_US);
  }

  /** Cancelled ones are let go of when they come up. */
  private earliest(): Entry | undefined {
    for (;;) {
      const { first } = this.heap;
      if (first === undefined || first.live) return first;
      this.heap.removeFirst();
    }
  }
}
