/**
 * Output commit: which epochs are safe, and so whose output may leave. The one place on this side
 * that turns an acknowledgement into machine.commit.
 *
 *   cut ──▶ sent (all pieces with the connection) ──▶ acked ──▶ machine.commit ──▶ output leaves
 *
 * The rule over acks is "the one standby has it"; acks are cumulative. An ack for an epoch that was
 * never sent whole is a lie or a defect: it is refused and releases nothing (promise 1).
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

  /** The newest epoch whose output may leave. */
  get acked(): number {
    return this.lastAcked;
  }

  /** Epochs sent whole and not yet acknowledged. */
  get unacked(): number {
    return this.lastSent - this.lastAcked;
  }

  /** A new stream of epochs begins at `firstEpoch`. */
  begin(firstEpoch: number): void {
    this.lastSent = firstEpoch - 1;
    this.lastAcked = firstEpoch - 1;
    this.bytesUnacked = 0;
  }

  /** The cut was taken over from the machine; its pause ended just before. */
  noteCut(cut: Cut): void {
    const at = cut.epoch % REMEMBERED;
    this.cutAtUs[at] = this.clock.nowUs();
    this.outputFrames[at] = cut.outputFrames;
  }

  /** The last piece of `epoch`, `bytes` in all, was handed to the connection. */
  noteSent(epoch: number, bytes: number): void {
    const at = epoch % REMEMBERED;
    this.lastSent = epoch;
    this.sentAtUs[at] = this.clock.nowUs();
    this.bytesUnacked += bytes;
    this.bytes[at] = bytes;
    this.bytesAhead[at] = this.bytesUnacked;
  }

  /**
   * The standby holds every epoch up to `epoch`. Returns FT_ERR_ACK, and commits nothing, when
   * that cannot be true.
   */
  ack(epoch: number): FtError | undefined {
    if (epoch > this.lastSent || epoch <= this.lastAcked) {
      const message =
        `The standby acknowledged epoch ${epoch}, but ${this.lastAcked + 1} to ` +
        `${this.lastSent} were waiting; the link is dropped.`;
      const facts = { epoch, lastAcked: this.lastAcked, lastSent: this.lastSent };
      return new FtError('FT_ERR_ACK', message, facts);
    }
    const nowUs = this.clock.nowUs();
    for (let done = this.lastAcked + 1; done <= epoch; done += 1) {
      const at = done % REMEMBERED;
      this.bytesUnacked -= this.bytes[at] ?? 0;
      const sinceCutUs = nowUs - (this.cutAtUs[at] ?? nowUs);
      this.stats.ackUs.record(sinceCutUs);
      if ((this.outputFrames[at] ?? 0) > 0) this.stats.outputDelayUs.record(sinceCutUs);
    }
    const newest = epoch % REMEMBERED;
    this.observeLink(this.bytesAhead[newest] ?? 0, nowUs - (this.sentAtUs[newest] ?? nowUs));
    this.stats.epochsCommitted += epoch - this.lastAcked;
    this.stats.epochCommitted = epoch;
    this.lastAcked = epoch;
    this.machine.commit(epoch);
    return undefined;
  }
}
