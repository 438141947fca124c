/**
 * Sends bodies that were encoded into `scratch`, compressed where that pays. Buffers come from a
 * pool and go back when the connection has let go of them; nothing is copied on the way.
 */
import type { Connection } from '../transport/connection';
import type { FrameBufferPool } from '../wire/buffer-pool';
import {
  FRAME_HEADER_BYTES,
  type FrameBuffer,
  FrameFlag,
  type FrameHeader,
  type FrameType,
} from '../wire/frame';
import type { PrimaryStats } from './primary-stats';

/** Decides by measurement, body by body, whether to compress. */
export interface BodyCompressor {
  /** Compresses `body` into `into`; 0 when it does not pay (then the body goes as it is). */
  compress(body: Buffer, into: Buffer): number;
  /** The link took `bytes` within `us`: what a saved byte is worth. */
  observeLink(bytes: number, us: number): void;
}

export class FrameSender {
  private next: FrameBuffer;
  private readonly header: FrameHeader = { type: 1, flags: 0, generation: 0, epoch: 0 };

  constructor(
    private readonly pool: FrameBufferPool,
    private readonly compressor: BodyCompressor | undefined,
    private readonly stats: PrimaryStats,
  ) {
    this.next = pool.acquire();
  }

  /** Where the next body is to be written. */
  get scratch(): Buffer {
    return this.next.body;
  }

  /** Sends the first `bytes` bytes of `scratch`; returns the bytes that go on the wire. */
  send(
    connection: Connection,
    type: FrameType,
    flags: number,
    generation: number,
    epoch: number,
    bytes: number,
  ): number {
    const { header, stats } = this;
    const packed = this.packed(bytes);
    const body = packed === undefined ? this.next : packed.buffer;
    const bodyBytes = packed === undefined ? bytes : packed.bytes;
    header.type = type;
    header.flags = packed === undefined ? flags : flags | FrameFlag.lz4;
    header.generation = generation;
    header.epoch = epoch;
    if (packed === undefined) delete header.rawBytes;
    else header.rawBytes = bytes;
    if (packed === undefined) this.next = this.pool.acquire();
    stats.chunks += 1;
    stats.bodyBytes += bytes;
    stats.wireBytes += bodyBytes + FRAME_HEADER_BYTES;
    if (packed !== undefined) stats.compressedChunks += 1;
    connection.send(header, body, bodyBytes, () => this.pool.release(body));
    return bodyBytes + FRAME_HEADER_BYTES;
  }

  private packed(bytes: number): { buffer: FrameBuffer; bytes: number } | undefined {
    if (this.compressor === undefined || bytes === 0) return undefined;
    const buffer = this.pool.acquire();
    const packedBytes = this.compressor.compress(this.next.body.subarray(0, bytes), buffer.body);
    if (packedBytes > 0 && packedBytes < bytes) return { buffer, bytes: packedBytes };
    this.pool.release(buffer);
    return undefined;
  }
}
