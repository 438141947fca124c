/**
 * Output commit: which epochs are safe, and so whose output may leave. The one place on this side
 * that turns an acknowledgement into machine.commit.
 *
 *   cut ──▶ sent (all pieces with the connection) ──▶ acked ──▶ settle: machine.commit ──▶ output
 *                                                               leaves
 *
 * The rule over acks is "the one standby has it"; acks are cumulative. An ack for an epoch that was
 * never sent whole is a lie or a defect: it is refused and releases nothing (promise 1). Acks that
 * were read together are checked one by one and settled as one, by the newest: commit() is
 * cumulative, too, and releases nothing that its ack does not cover.
 */
import type { Clock } from '../common/clock';
import { FtError } from '../common/errors';
import type { Cut, Machine } from '../machine/machine';
import type { PrimaryStats } from './primary-stats';

/** Epochs remembered for timing; a power of two above any in-flight bound (64). */
const REMEMBERED = 128;

export class OutputCommit {
  private lastSent = 0;
  private lastAcked = 0;
  private lastSettled = 0;
  private lastFlushed = 0;
  private readonly cutAtUs = new Float64Array(REMEMBERED);
  private readonly sentAtUs = new Float64Array(REMEMBERED);
  private readonly outputFrames = new Uint32Array(REMEMBERED);
  /** Bytes of each epoch, and bytes under way when it was sent, itself included. */
  private readonly bytes = new Float64Array(REMEMBERED);
  private readonly bytesAhead = new Float64Array(REMEMBERED);
  private bytesUnacked = 0;

  constructor(
    private readonly clock: Clock,
    private readonly machine: Pick<Machine, 'commit'>,
    private readonly stats: PrimaryStats,
    /** Told at each ack: so many bytes, all that was under way, were taken within that time. */
    private readonly observeLink: (bytes: number, us: number) => void = () => undefined,
  ) {}

  /** The newest epoch that the standby holds: its output may leave. */
  get acked(): number {
    return this.lastAcked;
  }

  /** Epochs sent whole and not yet acknowledged. */
  get unacked(): number {
    return this.lastSent - this.lastAcked;
  }

  /**
   * How far the standby is behind, while epochs go to it: how many that were cut it does not hold,
   * and how old the oldest of them is, µs.
   */
  get lag(): { readonly epochs: number; readonly us: number } {
    const epochs = Math.max(0, this.stats.epochCut - this.lastAcked);
    if (epochs === 0) return { epochs, us: 0 };
    const oldestUs = this.cutAtUs[(this.lastAcked + 1) % REMEMBERED] ?? 0;
    return { epochs, us: Math.max(0, this.clock.nowUs() - oldestUs) };
  }

  /** A new stream of epochs begins at `firstEpoch`. */
  begin(firstEpoch: number): void {
    this.lastSent = firstEpoch - 1;
    this.lastAcked = firstEpoch - 1;
    this.lastSettled = firstEpoch - 1;
    this.lastFlushed = firstEpoch - 1;
    this.bytesUnacked = 0;
  }

  /** The cut was taken over from the machine at `nowUs`; its pause ended `wakeUs` before. */
  noteCut(cut: Cut, nowUs: number): void {
    const at = cut.epoch % REMEMBERED;
    this.cutAtUs[at] = nowUs - cut.wakeUs;
    this.outputFrames[at] = cut.outputFrames;
  }

  /** The last piece of `epoch`, `bytes` in all, was handed to the connection at `nowUs`. */
  noteSent(epoch: number, bytes: number, nowUs: number): void {
    const at = epoch % REMEMBERED;
    this.lastSent = epoch;
    this.sentAtUs[at] = nowUs;
    this.bytesUnacked += bytes;
    this.bytes[at] = bytes;
    this.bytesAhead[at] = this.bytesUnacked;
  }

  /** The connection has let the system have all that was handed to it until now. */
  noteFlushed(nowUs: number): void {
    for (let epoch = this.lastFlushed + 1; epoch <= this.lastSent; epoch += 1) {
      const at = epoch % REMEMBERED;
      this.stats.stages.send.record(nowUs - (this.sentAtUs[at] ?? nowUs));
      this.sentAtUs[at] = nowUs;
    }
    this.lastFlushed = this.lastSent;
  }

  /**
   * The standby holds every epoch up to `epoch`; settle() follows before the turn is over. Returns
   * FT_ERR_ACK, and takes no note of it, when that cannot be true.
   */
  ack(epoch: number): FtError | undefined {
    if (epoch > this.lastSent || epoch <= this.lastAcked) {
      const message =
        `The standby acknowledged epoch ${epoch}, but ${this.lastAcked + 1} to ` +
        `${this.lastSent} were waiting; the link is dropped.`;
      const facts = { epoch, lastAcked: this.lastAcked, lastSent: this.lastSent };
      return new FtError('FT_ERR_ACK', message, facts);
    }
    this.lastAcked = epoch;
    return undefined;
  }

  /**
   * Lets the output of all acknowledged epochs leave. Returns the newest of them, or 0 when none
   * came since the last time.
   */
  settle(): number {
    const first = this.lastSettled + 1;
    const epoch = this.lastAcked;
    if (epoch < first) return 0;
    const ackedUs = this.clock.nowUs();
    const { stats } = this;
    for (let done = first; done <= epoch; done += 1) {
      const at = done % REMEMBERED;
      this.bytesUnacked -= this.bytes[at] ?? 0;
      const sinceCutUs = ackedUs - (this.cutAtUs[at] ?? ackedUs);
      stats.ackUs.record(sinceCutUs);
      stats.stages.wire.record(ackedUs - (this.sentAtUs[at] ?? ackedUs));
      if ((this.outputFrames[at] ?? 0) > 0) stats.outputDelayUs.record(sinceCutUs);
    }
    const newest = epoch % REMEMBERED;
    this.observeLink(this.bytesAhead[newest] ?? 0, ackedUs - (this.sentAtUs[newest] ?? ackedUs));
    stats.epochsCommitted += epoch - this.lastSettled;
    stats.epochCommitted = epoch;
    this.lastSettled = epoch;
    this.machine.commit(epoch);
    stats.stages.release.record(this.clock.nowUs() - ackedUs);
    return epoch;
  }
}
