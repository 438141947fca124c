/**
 * What a primary counts, as plain numbers and histograms that are bumped in place: no labels, no
 * allocation. Whoever shows them reads them when asked (status line, metrics scrape).
 */
import { Histogram, WindowedHistogram } from '../common/histogram';

/**
 * Where the time of an epoch goes on this side, in order; one value an epoch and stage, µs
 * (of kick only where somebody had to ask). Each stage begins where the one before it ended, so that
 * neighbours share a reading of the clock.
 *
 *   before the pause kick      asked to stop ─▶ vCPU 0 is out of the guest
 *   in the pause     barrier   ─▶ every other vCPU is, too, and no device is at work
 *                    harvest   ─▶ the set of dirty pages is known
 *                    copy      ─▶ they are copied
 *                    state     ─▶ state of vCPUs, VM and devices is captured, audit pages hashed
 *                    reset     ─▶ pages are protected anew, the outbox is sealed
 *   after it         wake      the cut is published ─▶ the event loop takes it
 *                    encode    ─▶ page and state deltas are written
 *                    compress  ─▶ LZ4, where it is tried
 *                    frame     ─▶ checksum and header
 *                    send      ─▶ the last byte is with the system; other epochs of the same turn
 *                              may be encoded meanwhile, since a turn is sent in one go
 *                    wire      ─▶ the ack is here: the way there, the standby's work, the way back
 *                    release   ─▶ its output is written to TAP and console
 */
export class PrimaryStages {
  readonly kick = new WindowedHistogram();
  readonly barrier = new WindowedHistogram();
  readonly harvest = new WindowedHistogram();
  readonly copy = new WindowedHistogram();
  readonly state = new WindowedHistogram();
  readonly reset = new WindowedHistogram();
  readonly wake = new WindowedHistogram();
  readonly encode = new WindowedHistogram();
  readonly compress = new WindowedHistogram();
  readonly frame = new WindowedHistogram();
  readonly send = new WindowedHistogram();
  readonly wire = new WindowedHistogram();
  readonly release = new WindowedHistogram();
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
  /** Page bytes that scans stood for. */
  syncBytes = 0;
  syncsStarted = 0;
  syncsDone = 0;
  /** Of these: those that were a catch-up. */
  catchUpsDone = 0;
  /** Of the newest sync: all of memory, or what changed since a session that broke off. */
  syncKind: 'none' | 'full' | 'catch-up' = 'none';
  /** Pages that its scan visits. */
  syncPages = 0;
  /** Of the newest sync that came to its end: all that went over the wire from the first frame until
   * the base epoch was acknowledged (epochs of the running guest included), and how long that took. */
  syncWireBytes = 0;
  syncUs = 0;
  /** When the newest sync began, by the role's clock, µs. */
  syncBeganUs = 0;
  overruns = 0;
  auditMismatches = 0;
  linksLost = 0;
  claims = 0;
  readonly pauseUs = new WindowedHistogram();
  readonly stages = new PrimaryStages();
  readonly ackUs = new WindowedHistogram();
  readonly outputDelayUs = new WindowedHistogram();
  /** Handed-over pages per epoch (recorded as if they were µs; the buckets are logarithmic). */
  readonly dirtyPagesPerEpoch = new Histogram();
}
