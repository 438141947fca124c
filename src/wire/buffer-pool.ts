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

/** A buffer that knows where it belongs, so that giving one back costs no look-up. */
interface PooledBuffer extends FrameBuffer {
  readonly pool: FrameBufferPool;
  out: boolean;
}

export class FrameBufferPool {
  /** Body room of each buffer. */
  readonly bodyBytes: number;
  private readonly idle: PooledBuffer[] = [];
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
    const buffer = this.idle.pop() ?? this.allocate();
    buffer.out = true;
    return buffer;
  }

  /** Gives a buffer of this pool back. Giving one back twice stops the process. */
  release(buffer: FrameBuffer): void {
    const pooled = buffer as Partial<PooledBuffer> & FrameBuffer;
    const ours = pooled.pool === this && pooled.out === true;
    assert(ours, 'a buffer goes back once, to the pool that it came from');
    pooled.out = false;
    this.outCount--;
    if (this.idle.length < this.idleMax) this.idle.push(pooled as PooledBuffer);
  }

  private allocate(): PooledBuffer {
    return { ...allocFrameBuffer(this.bodyBytes), pool: this, out: false };
  }
}
