/**
 * What a primary counts, as plain numbers and histograms that are bumped in place: no labels, no
 * allocation. Whoever shows them reads them when asked (status line, metrics scrape).
 */
import { Histogram } from '../common/histogram';

/** Counts since the start, and since the last status line. */
export class WindowedHistogram {
  readonly total = new Histogram();
  readonly window = new Histogram();

  record(value: number): void {
    this.total.record(value);
    this.window.record(value);
  }
}

export class PrimaryStats {
  epochCut = 0;
  epochCommitted = 0;
  epochsCut = 0;
  epochsCommitted = 0;
  dirtyPages = 0;
  outputFrames = 0;
  /** Page bytes that the epochs stood for, body bytes before compression, bytes on the wire. */
  rawBytes = 0;
  bodyBytes = 0;
  wireBytes = 0;
  chunks = 0;
  compressedChunks = 0;
  syncBytes = 0;
  syncsStarted = 0;
  syncsDone = 0;
  overruns = 0;
  auditMismatches = 0;
  linksLost = 0;
  claims = 0;
  readonly pauseUs = new WindowedHistogram();
  readonly harvestUs = new Histogram();
  readonly copyUs = new Histogram();
  readonly stateUs = new Histogram();
  readonly resetUs = new Histogram();
  readonly encodeUs = new Histogram();
  readonly ackUs = new WindowedHistogram();
  readonly outputDelayUs = new WindowedHistogram();
  /** Handed-over pages per epoch (recorded as if they were µs; the buckets are logarithmic). */
  readonly dirtyPagesPerEpoch = new Histogram();
}
