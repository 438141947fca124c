/**
 * Sends bodies that were encoded into `scratch`, compressed where that pays. Buffers come from a
 * pool and go back when the connection has let go of them; nothing is copied on the way.
 */
import type { Clock } from '../common/clock';
import type { EncodedChunk } from '../machine/machine';
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
  /** False for a body of which it is known before that compressing it does not pay. */
  worthTrying(bodyBytes: number, rawBytes: number): boolean;
  /** Compresses `body` into `into`; 0 when it does not pay (then the body goes as it is). */
  compress(body: Buffer, into: Buffer): number;
  /** The link took `bytes` within `us`: what a saved byte is worth. */
  observeLink(bytes: number, us: number): void;
}

export class FrameSender {
  /** How long the last body took to compress, or to be found not worth it; 0 when untried. */
  compressUs = 0;
  private next: FrameBuffer;
  private readonly header: FrameHeader = {
    type: 1,
    flags: 0,
    generation: 0,
    epoch: 0,
    rawBytes: 0,
    bodyCrc: undefined,
  };

  constructor(
    private readonly clock: Clock,
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

  /** Sends the piece that was encoded into `scratch`; returns the bytes that go on the wire. */
  send(
    connection: Connection,
    type: FrameType,
    flags: number,
    generation: number,
    epoch: number,
    chunk: EncodedChunk,
  ): number {
    const { header, stats, compressor } = this;
    header.type = type;
    header.generation = generation;
    header.epoch = epoch;
    stats.chunks += 1;
    stats.bodyBytes += chunk.bytes;
    this.compressUs = 0;
    if (compressor?.worthTrying(chunk.bytes, chunk.rawBytes)) {
      const startUs = this.clock.nowUs();
      const wireBytes = this.sendPacked(connection, flags, chunk, compressor);
      this.compressUs = this.clock.nowUs() - startUs;
      if (wireBytes > 0) return wireBytes;
    }
    const body = this.next;
    this.next = this.pool.acquire();
    header.flags = flags;
    header.rawBytes = chunk.bytes;
    header.bodyCrc = chunk.crc;
    stats.wireBytes += chunk.bytes + FRAME_HEADER_BYTES;
    connection.send(header, body, chunk.bytes, () => this.pool.release(body));
    return chunk.bytes + FRAME_HEADER_BYTES;
  }

  /** Compresses and sends; 0 when it did not pay, and then nothing was sent. */
  private sendPacked(
    connection: Connection,
    flags: number,
    chunk: EncodedChunk,
    compressor: BodyCompressor,
  ): number {
    const { header, stats } = this;
    const buffer = this.pool.acquire();
    const bytes = compressor.compress(this.next.body.subarray(0, chunk.bytes), buffer.body);
    if (bytes === 0 || bytes >= chunk.bytes) {
      this.pool.release(buffer);
      return 0;
    }
    header.flags = flags | FrameFlag.lz4;
    header.rawBytes = chunk.bytes;
    header.bodyCrc = undefined;
    stats.compressedChunks += 1;
    stats.wireBytes += bytes + FRAME_HEADER_BYTES;
    connection.send(header, buffer, bytes, () => this.pool.release(buffer));
    return bytes + FRAME_HEADER_BYTES;
  }
}
