/**
 * How late the event loop of this process comes round, for status lines, the dashboard and metrics:
 * one timer for all who watch, at the pace of the one that wants to know it most exactly.
 *
 *   due ─────────────────┬─ the loop turns: 0
 *                        └─ … busy … ─── it turns at last: that much later than due
 *
 * What begins and ends between two looks is not seen, and of what begins before a look is due only
 * what comes after that: a watch misses at most its own pace of it.
 */
import type { Histogram } from '../common/histogram';

/** For somebody who looks: a delay of a few milliseconds is seen. */
export const FINE_MS = 2;
/** For what is always on. An idle node is to be idle. */
export const COARSE_MS = 10;

const watches = new Set<EventLoopWatch>();
let timer: NodeJS.Timeout | undefined;
let paceMs = Number.POSITIVE_INFINITY;
let dueMs = Number.POSITIVE_INFINITY;

/** Watches from its construction until it is closed. Keeps no process alive. */
export class EventLoopWatch {
  private maxUs = 0;

  /** Looks at least every `everyMs`; each look is recorded into `all`, too. */
  constructor(
    readonly everyMs: number,
    private readonly all?: Histogram,
  ) {
    watches.add(this);
    setPace();
  }

  /** The latest that it came since this watch's last call, µs. A delay counts when it is over. */
  takeMaxUs(): number {
    const { maxUs } = this;
    this.maxUs = 0;
    return maxUs;
  }

  /** For the timer. */
  seen(lateUs: number): void {
    this.maxUs = Math.max(this.maxUs, lateUs);
    this.all?.record(lateUs);
  }

  close(): void {
    watches.delete(this);
    setPace();
  }
}

function look(): void {
  const nowMs = performance.now();
  const lateUs = Math.max(0, nowMs - dueMs) * 1000;
  dueMs = nowMs + paceMs;
  for (const watch of watches) watch.seen(lateUs);
}

function setPace(): void {
  const wantedMs = Math.min(...[...watches].map(({ everyMs }) => everyMs));
  if (wantedMs === paceMs) return;
  // A delay that the old timer has not told of yet is not to be lost.
  if (performance.now() > dueMs) look();
  clearInterval(timer);
  paceMs = wantedMs;
  dueMs = performance.now() + paceMs;
  timer = watches.size === 0 ? undefined : setInterval(look, paceMs).unref();
}
