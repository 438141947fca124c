/**
 * The simulated machine's outbox: what the guest said and may not leave yet, kept per epoch.
 *
 *   open ──hold()──▶ held ──open()──▶ open          drop(): everything forgotten, now and later
 *
 * Promise 1 lives here: while held, a frame reaches the sink only through release() of its epoch.
 * Promise 2, as seen from the network, too: what is released leaves only while the lease holds, and
 * else waits for the next release() or extendLease() that makes it hold again.
 */
import { assert } from '../common/assert';

/** Where frames go: one answer of the guest to one client. */
export type FrameSink = (payload: Buffer, to: string) => void;

interface HeldFrame {
  readonly payload: Buffer;
  readonly to: string;
  /** 0 while the epoch is open; set by seal. */
  epoch: number;
}

export class SimulatedOutbox {
  private mode: 'open' | 'held' | 'dropped' = 'open';
  private held: HeldFrame[] = [];
  private unsealed = 0;
  private sealedEpoch = 0;
  private bytes = 0;
  /** The newest epoch that was released; its frames may still wait for the lease. */
  private releasedEpoch = 0;
  /** 0: no lease is asked for. */
  private leaseUs = 0;
  private leaseEndUs = 0;
  /** Epoch → when it was cut, of those that were not released yet. */
  private readonly cutAtUs = new Map<number, number>();
  leaseExpired = 0;
  framesReleased = 0;
  framesDropped = 0;

  constructor(
    private readonly sink: FrameSink,
    private readonly bytesMax: number,
    /** Test-only fault: frames pass through although they should be held. */
    private readonly leaks: boolean,
    private readonly nowUs: () => number,
  ) {}

  get frames(): number {
    return this.held.length;
  }

  get bytesHeld(): number {
    return this.bytes;
  }

  /** Frames of the open epoch. */
  get waitingFrames(): number {
    return this.unsealed;
  }

  get isHolding(): boolean {
    return this.mode === 'held';
  }

  /** True when the guest must not run on before something was released. */
  get overLimit(): boolean {
    return this.bytes >= this.bytesMax;
  }

  append(payload: Buffer, to: string): void {
    if (this.mode === 'dropped') {
      this.framesDropped += 1;
      return;
    }
    if (this.mode === 'open' || this.leaks) {
      this.framesReleased += 1;
      this.sink(payload, to);
      return;
    }
    this.held.push({ payload, to, epoch: 0 });
    this.unsealed += 1;
    this.bytes += payload.length;
  }

  /** A replication begins: the lease is this long, and has not begun. */
  setLease(leaseUs: number): void {
    this.leaseUs = leaseUs;
    this.leaseEndUs = 0;
    this.releasedEpoch = 0;
    this.cutAtUs.clear();
  }

  /** `epoch` is cut now; called for every epoch, before it is sealed. */
  noteCut(epoch: number): void {
    if (this.leaseUs > 0) this.cutAtUs.set(epoch, this.nowUs());
  }

  extendLease(sentAtUs: number): void {
    this.leaseEndUs = Math.max(this.leaseEndUs, sentAtUs + this.leaseUs);
    this.emitReleased();
  }

  /** Released output waits for the lease. */
  get waitsForLease(): boolean {
    const first = this.held[0];
    return first !== undefined && first.epoch !== 0 && first.epoch <= this.releasedEpoch;
  }

  /** Twice is once: what is held then keeps its place, and epochs go on growing. */
  hold(): void {
    assert(this.mode !== 'dropped', 'a dropped outbox holds nothing');
    if (this.mode === 'held') return;
    this.mode = 'held';
    // Epochs begin anew with each generation, and nothing is held here when holding begins.
    this.sealedEpoch = 0;
  }

  /** Closes the open segment as belonging to `epoch`; returns its frames. */
  seal(epoch: number): number {
    assert(epoch > this.sealedEpoch, 'epochs are sealed in growing order');
    this.sealedEpoch = epoch;
    const frames = this.unsealed;
    for (let i = this.held.length - frames; i < this.held.length; i += 1) {
      const frame = this.held[i];
      if (frame !== undefined) frame.epoch = epoch;
    }
    this.unsealed = 0;
    return frames;
  }

  /** Hands out every sealed frame of an epoch ≤ `epoch`, while the lease holds. */
  release(epoch: number): void {
    for (const [cut, atUs] of this.cutAtUs) {
      if (cut > epoch) break;
      this.leaseEndUs = Math.max(this.leaseEndUs, atUs + this.leaseUs);
      this.cutAtUs.delete(cut);
    }
    this.releasedEpoch = Math.max(this.releasedEpoch, epoch);
    this.emitReleased();
  }

  open(): void {
    if (this.mode === 'dropped') return;
    this.mode = 'open';
    this.leaseUs = 0;
    this.unsealed = 0;
    this.emit(this.held.length);
  }

  drop(): void {
    this.mode = 'dropped';
    this.framesDropped += this.held.length;
    this.held = [];
    this.unsealed = 0;
    this.bytes = 0;
  }

  private emitReleased(): void {
    if (this.mode !== 'held') return;
    let count = 0;
    for (const frame of this.held) {
      if (frame.epoch === 0 || frame.epoch > this.releasedEpoch) break;
      count += 1;
    }
    // No time passes here between two frames, so that one look stands for all.
    if (count > 0 && this.leaseUs > 0 && this.nowUs() >= this.leaseEndUs) this.leaseExpired += 1;
    else this.emit(count);
  }

  private emit(count: number): void {
    if (count === 0) return;
    const leaving = this.held.splice(0, count);
    for (const frame of leaving) {
      this.bytes -= frame.payload.length;
      this.framesReleased += 1;
      this.sink(frame.payload, frame.to);
    }
  }
}
