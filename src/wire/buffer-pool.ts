/**
 * Reusable send buffers. A connection owns one from `send` to `onFlushed`, so a sender needs as
 * many as it has frames under way; the pool keeps them instead of allocating megabytes per epoch.
 */
import { assert } from '../common/assert';
import { FRAME_HEADER_BYTES, type FrameBuffer } from './frame';

/** A buffer with room for a header and `bodyBytes` of body. The memory is not cleared. */
export function allocFrameBuffer(bodyBytes: number): FrameBuffer {
  const bytes = Buffer.allocUnsafeSlow(FRAME_HEADER_BYTES + bodyBytes);
  return { bytes, body: bytes.subarray(FRAME_HEADER_BYTES) };
}

/** The buffer for frames without a body (ack, heartbeat). */
export function allocHeaderBuffer(): FrameBuffer {
  return allocFrameBuffer(0);
}

export class FrameBufferPool {
  /** Body room of each buffer. */
  readonly bodyBytes: number;
  private readonly idle: FrameBuffer[] = [];
  private readonly known = new WeakSet<FrameBuffer>();
  private readonly idleMax: number;
  private outCount = 0;

  /** Keeps at most `idleMax` unused buffers; what is released beyond that goes to the collector. */
  constructor(bodyBytes: number, idleMax = 16) {
    this.bodyBytes = bodyBytes;
    this.idleMax = idleMax;
  }

  /** Buffers acquired and not yet released. */
  get out(): number {
    return this.outCount;
  }

  /** Never fails; the caller bounds how many it has out. The content is whatever was there. */
  acquire(): FrameBuffer {
    this.outCount++;
    const kept = this.idle.pop();
    const buffer = kept ?? allocFrameBuffer(this.bodyBytes);
    this.known.add(buffer);
    return buffer;
  }

  /** Gives a buffer of this pool back. Giving one back twice stops the process. */
  release(buffer: FrameBuffer): void {
    assert(this.known.delete(buffer), 'a buffer goes back once, to the pool that it came from');
    this.outCount--;
    if (this.idle.length < this.idleMax) this.idle.push(buffer);
  }
}
