/**
 * LZ4, where it pays. On the wire a compressed body is one LZ4 block (the raw block format: no
 * frame, no length in front); its raw length is the header's rawBytes.
 *
 *      the library's form:  [u32 rawBytes][block]        the wire's form:  [block]
 *
 * Whether it pays is measured, body by body: compressing and decompressing take time, and the bytes
 * saved take time on the link. What does not pay is left alone and tried again now and then, since
 * guests change what they do.
 */
import { compressSync, uncompressSync } from 'lz4-napi';
import { assert } from '../common/assert';
import { FtError } from '../common/errors';
import { BODY_BYTES_MAX } from './frame';

/** Below this nothing is gained: the calls alone cost microseconds. */
export const COMPRESS_BYTES_MIN = 1024;
/**
 * Of a body this many times smaller than the pages it stands for, the page deltas have left nothing
 * but changed words: what LZ4 still saves there is worth less than the call.
 */
const SPARSE_TIMES = 8;
/** A body that shrinks by less than this part goes as it is. */
const SAVED_PART_MIN = 0.05;
/** Assumed until the link was measured: 10 Gbit/s. */
const LINK_BYTES_PER_US = 1250;
/** Links are judged only by transfers long enough to show their rate and not their latency. */
const LINK_SAMPLE_BYTES_MIN = 32 * 1024;
/** Decompressing costs about this part of compressing. */
const DECOMPRESS_PART = 0.5;
const EWMA_WEIGHT = 1 / 8;
/** After a trial that did not pay, this many bodies pass untried; twice as many after each more. */
const SKIPS_MIN = 16;
const SKIPS_MAX = 1024;
/** The library puts the raw length in front of the block. */
const PREFIX_BYTES = 4;

export interface CompressorFacts {
  readonly tried: number;
  readonly skipped: number;
  readonly sentCompressed: number;
  /** Part of the bytes that compression saved lately, 0…1. */
  readonly savedPart: number;
  readonly usPerKib: number;
  readonly linkBytesPerUs: number;
}

export class Lz4Compressor {
  private readonly nowUs: () => number;
  private savedPart = 0;
  private usPerKib = 0;
  private linkRate = LINK_BYTES_PER_US;
  private skipsLeft = 0;
  private skipsNext = SKIPS_MIN;
  /** The next trial begins new averages. */
  private fresh = true;
  private tried = 0;
  private skipped = 0;
  private sentCompressed = 0;

  /** `nowUs` is a monotonic clock in microseconds. */
  constructor(nowUs: () => number = () => performance.now() * 1000) {
    this.nowUs = nowUs;
  }

  /**
   * Tells how fast the link took bytes lately: `bytes` handed over and taken (or acknowledged)
   * within `us`. Short transfers say nothing about the rate and are ignored.
   */
  observeLink(bytes: number, us: number): void {
    if (bytes < LINK_SAMPLE_BYTES_MIN || !(us > 0)) return;
    this.linkRate += EWMA_WEIGHT * (bytes / us - this.linkRate);
  }

  /** False where it is known without a look that compressing does not pay. */
  worthTrying(bodyBytes: number, rawBytes: number): boolean {
    return bodyBytes >= COMPRESS_BYTES_MIN && bodyBytes * SPARSE_TIMES > rawBytes;
  }

  /**
   * Compresses `body` into the beginning of `into` when that pays. Returns the length of the block,
   * or 0 when the body should go as it is (`into` is then untouched). The two must not overlap.
   */
  compress(body: Buffer, into: Buffer): number {
    if (body.length < COMPRESS_BYTES_MIN) return 0;
    if (this.skipsLeft > 0) {
      this.skipsLeft--;
      this.skipped++;
      return 0;
    }
    const startUs = this.nowUs();
    const packed = compressSync(body);
    const us = this.nowUs() - startUs;
    const blockBytes = packed.length - PREFIX_BYTES;
    this.learn(body.length, blockBytes, us);
    const saved = body.length - blockBytes;
    if (saved < body.length * SAVED_PART_MIN || blockBytes > into.length) return 0;
    // The time to compress is spent; what is left to weigh is the peer's time against the link's.
    if (saved / this.linkRate <= us * DECOMPRESS_PART) return 0;
    packed.copy(into, 0, PREFIX_BYTES);
    this.sentCompressed++;
    return blockBytes;
  }

  facts(): CompressorFacts {
    return {
      tried: this.tried,
      skipped: this.skipped,
      sentCompressed: this.sentCompressed,
      savedPart: this.savedPart,
      usPerKib: this.usPerKib,
      linkBytesPerUs: this.linkRate,
    };
  }

  /** Folds one trial into the averages and decides whether to go on or to pause. */
  private learn(rawBytes: number, blockBytes: number, us: number): void {
    const savedPart = Math.max(0, 1 - blockBytes / rawBytes);
    const usPerKib = (us * 1024) / rawBytes;
    const weight = this.fresh ? 1 : EWMA_WEIGHT;
    this.fresh = false;
    this.savedPart += weight * (savedPart - this.savedPart);
    this.usPerKib += weight * (usPerKib - this.usPerKib);
    this.tried++;
    const costUs = this.usPerKib * (1 + DECOMPRESS_PART);
    const pays =
      this.savedPart >= SAVED_PART_MIN && (this.savedPart * 1024) / this.linkRate > costUs;
    if (pays) {
      this.skipsNext = SKIPS_MIN;
      return;
    }
    this.skipsLeft = this.skipsNext;
    this.skipsNext = Math.min(SKIPS_MAX, this.skipsNext * 2);
    // A later trial begins afresh: what the guest did then says little about what it does now.
    this.fresh = true;
  }
}

export class Lz4Decompressor {
  private room = Buffer.alloc(0);

  /**
   * Decompresses a block of the wire whose raw length is `rawBytes` (bounded by the decoder, and
   * here again). The result is the caller's. Errors: FT_ERR_FRAME_LZ4.
   */
  decompress(block: Uint8Array, rawBytes: number): Uint8Array | FtError {
    if (rawBytes > BODY_BYTES_MAX || block.length > BODY_BYTES_MAX) {
      return broken(`it claims ${rawBytes} bytes, over the limit of ${BODY_BYTES_MAX}`, rawBytes);
    }
    const packed = this.withPrefix(block, rawBytes);
    let raw: Buffer;
    try {
      raw = uncompressSync(packed);
    } catch (thrown) {
      return broken(thrown instanceof Error ? thrown.message : String(thrown), rawBytes);
    }
    if (raw.length === rawBytes) return raw;
    return broken(`it holds ${raw.length} bytes and claims ${rawBytes}`, rawBytes);
  }

  /** The block in the form that the library wants, in room that is used again. */
  private withPrefix(block: Uint8Array, rawBytes: number): Buffer {
    const bytes = PREFIX_BYTES + block.length;
    if (this.room.length < bytes) this.room = Buffer.allocUnsafeSlow(bytes);
    assert(this.room.length >= bytes, 'the room holds the prefix and the block');
    this.room.writeUInt32LE(rawBytes, 0);
    this.room.set(block, PREFIX_BYTES);
    return this.room.subarray(0, bytes);
  }
}

function broken(why: string, rawBytes: number): FtError {
  return new FtError(
    'FT_ERR_FRAME_LZ4',
    `The peer's compressed body cannot be expanded: ${why}. The connection is closed.`,
    { why, rawBytes },
  );
}
