/** How long the event loop of this process was away from its work: for status lines. */
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';

/** How often the loop is expected back; what it comes later counts. */
const RESOLUTION_MS = 2;

/** One monitor for all watches: a timer that runs no JavaScript, while there is a watch. */
const watches = new Set<EventLoopWatch>();
let monitor: IntervalHistogram | undefined;

/** Watches from its construction until it is closed. */
export class EventLoopWatch {
  private maxUs = 0;

  constructor() {
    monitor ??= monitorEventLoopDelay({ resolution: RESOLUTION_MS });
    if (watches.size === 0) monitor.enable();
    watches.add(this);
  }

  /** The longest that it was away since this watch's last call, µs. */
  takeMaxUs(): number {
    if (monitor === undefined) return 0;
    // The monitor records the time from one look to the next, its own period included. Nothing has
    // been recorded when the loop was away all the time up to now.
    const us = monitor.max / 1000 - RESOLUTION_MS * 1000;
    monitor.reset();
    for (const watch of watches) watch.maxUs = Math.max(watch.maxUs, us);
    const { maxUs } = this;
    this.maxUs = 0;
    return maxUs;
  }

  close(): void {
    watches.delete(this);
    if (watches.size === 0) monitor?.disable();
  }
}
