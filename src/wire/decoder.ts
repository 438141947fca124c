/**
 * Bytes to frames. Takes a stream in pieces of any size and hands out whole, verified frames.
 *
 *            ┌───────── 40 bytes there ─────────┐      ┌── whole body there ──▶ onFrame ─┐
 *   header ──┤                                  ├─ ok ─┤                                 ├─▶ header
 *     ▲      └─ fewer: gather in `headerRoom` ──┘      └── part: gather in `bodyRoom` ───┘
 *     │                        │ anything wrong
 *     │                        ▼
 *     └────── never ──────── dead: swallows everything, keeps the first error
 *
 * A frame that lies whole in one chunk is handed out as a view of that chunk, without a copy. What
 * is still missing of a body that does not may be read straight into `gap`. Every bound is checked
 * before room is made for a body. Nothing here throws on what the peer sends.
 */
import { assert } from '../common/assert';
import { crc32cRange } from '../common/crc32c';
import { FtError } from '../common/errors';
import {
  BODY_BYTES_MAX,
  BODY_BYTES_MAX_HANDSHAKE,
  type Checksum,
  FRAME_HEADER_BYTES,
  FRAME_MAGIC,
  type Frame,
  FrameFlag,
  type FrameType,
  PROTOCOL_VERSION,
} from './frame';
import { frameTypeName, ruleOf } from './rules';

const TWO_TO_32 = 2 ** 32;
/** High words from here on make a u64 that a JavaScript number cannot hold exactly. */
const HIGH_WORD_LIMIT = 2 ** 21;
/** No LZ4 block grows more than 255-fold; the slack covers the smallest blocks. */
const LZ4_GROWTH_MAX = 255;
const LZ4_GROWTH_SLACK_BYTES = 64;
/** Gathering room up to this size is kept from frame to frame. */
const KEPT_BYTES_MAX = 2 * 1024 * 1024;
const EMPTY = Buffer.alloc(0);

export class FrameDecoder {
  private readonly checksum: Checksum;
  private bodyBytesMax: number;
  private readonly headerRoom = Buffer.alloc(FRAME_HEADER_BYTES);
  private headerFilled = 0;
  /** The body being gathered, exactly as long as the header says; undefined between bodies. */
  private body: Buffer | undefined;
  private bodyFilled = 0;
  /**
   * Room for gathered bodies. Two, taken in turn: one push completes at most one body that an earlier
   * push began, and begins at most one, which must not overwrite it.
   */
  private bodyRoom = EMPTY;
  private otherRoom = EMPTY;
  /** The frame being read, and handed out: one object for all frames. */
  private readonly frame: Frame = {
    type: 1,
    flags: 0,
    generation: 0,
    epoch: 0,
    rawBytes: 0,
    body: EMPTY,
  };
  private bodyBytes = 0;
  private bodyCrc = 0;
  private headerDone = false;
  private dead: FtError | undefined;
  private stopped = false;
  private pushing = false;
  private frameCount = 0;
  private byteCount = 0;

  /** `bodyBytesMax` bounds every body, compressed and raw; small until the handshake is done. */
  constructor(checksum: Checksum, bodyBytesMax = BODY_BYTES_MAX_HANDSHAKE) {
    this.checksum = checksum;
    this.bodyBytesMax = bodyBytesMax;
  }

  /** The error after which nothing is decoded any more. */
  get error(): FtError | undefined {
    return this.dead;
  }

  /** Frames handed out so far. */
  get frames(): number {
    return this.frameCount;
  }

  /** Bytes of the stream that were pushed so far. */
  get bytesTaken(): number {
    return this.byteCount;
  }

  /** Holds from the next header on, even if it is already in the chunk being pushed. */
  setMaxBodyBytes(bytes: number): void {
    assert(bytes >= 0 && bytes <= BODY_BYTES_MAX, 'the body limit lies within the protocol');
    this.bodyBytesMax = bytes;
  }

  /** Hands out nothing more; may be called from within onFrame. */
  stop(): void {
    this.stopped = true;
    this.body = undefined;
    this.bodyRoom = EMPTY;
    this.otherRoom = EMPTY;
  }

  /**
   * Where the next bytes of the stream belong: the rest of the body that is being gathered. Whoever
   * reads them straight to there, from its beginning on, tells the next push() how many. undefined
   * between bodies; valid until the next push.
   */
  get gap(): Buffer | undefined {
    return this.body?.subarray(this.bodyFilled);
  }

  /**
   * Takes the next bytes of the stream and calls `onFrame` for every frame that they complete. The
   * first `placed` of them lie in `gap` already, and `chunk` holds those that follow.
   * The frame (one object, used again) is valid only during the call, its body until the next push,
   * as long as the chunk stays what it is. Returns the error that killed the decoder (`FT_ERR_FRAME_…`), now or earlier.
   */
  push(chunk: Buffer, onFrame: (frame: Frame) => void, placed = 0): FtError | undefined {
    assert(!this.pushing, 'onFrame does not push into the decoder that called it');
    this.pushing = true;
    this.byteCount += placed + chunk.length;
    if (placed > 0) this.takePlaced(placed, onFrame);
    let at = 0;
    while (this.dead === undefined && !this.stopped) {
      if (!this.headerDone) {
        at = this.takeHeader(chunk, at);
        if (!this.headerDone) break;
      }
      const next = this.takeBody(chunk, at, onFrame);
      if (next < 0) break;
      at = next;
    }
    this.pushing = false;
    return this.dead;
  }

  /** The stream ended: undefined between frames, FT_ERR_FRAME_TRUNCATED within one. */
  end(): FtError | undefined {
    if (this.dead !== undefined || this.stopped) return this.dead;
    if (!this.headerDone && this.headerFilled === 0) return undefined;
    const have = this.headerDone
      ? FRAME_HEADER_BYTES + (this.body === undefined ? 0 : this.bodyFilled)
      : this.headerFilled;
    return this.fail(
      new FtError(
        'FT_ERR_FRAME_TRUNCATED',
        `The peer's stream ended ${have} bytes into a frame; the frame is dropped.`,
        { haveBytes: have, frameBytes: this.headerDone ? 40 + this.bodyBytes : undefined },
      ),
    );
  }

  /** Reads header bytes from `at`; returns where the rest of the chunk begins. */
  private takeHeader(chunk: Buffer, at: number): number {
    const there = chunk.length - at;
    if (this.headerFilled === 0 && there >= FRAME_HEADER_BYTES) {
      this.readHeader(chunk, at);
      return at + FRAME_HEADER_BYTES;
    }
    const take = Math.min(there, FRAME_HEADER_BYTES - this.headerFilled);
    chunk.copy(this.headerRoom, this.headerFilled, at, at + take);
    this.headerFilled += take;
    if (this.headerFilled === FRAME_HEADER_BYTES) {
      this.headerFilled = 0;
      this.readHeader(this.headerRoom, 0);
    }
    return at + take;
  }

  /** Reads body bytes from `at`; returns where the rest begins, or −1 when more must come. */
  private takeBody(chunk: Buffer, at: number, onFrame: (frame: Frame) => void): number {
    const there = chunk.length - at;
    if (this.body === undefined) {
      if (there >= this.bodyBytes) {
        const end = at + this.bodyBytes;
        this.emit(this.bodyBytes === 0 ? EMPTY : chunk.subarray(at, end), onFrame);
        return end;
      }
      this.body = this.makeRoom(this.bodyBytes);
      this.bodyFilled = 0;
    }
    const take = Math.min(there, this.bodyBytes - this.bodyFilled);
    chunk.copy(this.body, this.bodyFilled, at, at + take);
    this.bodyFilled += take;
    if (this.bodyFilled < this.bodyBytes) return -1;
    const { body } = this;
    this.body = undefined;
    this.emit(body, onFrame);
    return at + take;
  }

  /** So many bytes of the body that is being gathered were put there by whoever read them. */
  private takePlaced(bytes: number, onFrame: (frame: Frame) => void): void {
    const { body } = this;
    // A decoder that was stopped meanwhile wants no bytes.
    if (body === undefined) return;
    this.bodyFilled += bytes;
    assert(this.bodyFilled <= body.length, 'what was placed lies in the gap');
    if (this.bodyFilled < body.length) return;
    this.body = undefined;
    this.emit(body, onFrame);
  }

  /** A buffer of exactly `bytes`, cut from room that is kept while it is not too large. */
  private makeRoom(bytes: number): Buffer {
    const other = this.bodyRoom;
    this.bodyRoom = this.otherRoom;
    this.otherRoom = other;
    if (this.bodyRoom.length < bytes) {
      const room = Buffer.allocUnsafeSlow(bytes);
      if (bytes > KEPT_BYTES_MAX) return room;
      this.bodyRoom = room;
    }
    return this.bodyRoom.subarray(0, bytes);
  }

  private emit(body: Buffer, onFrame: (frame: Frame) => void): void {
    const crc = this.bodyBytes === 0 ? 0 : this.checksum(body) >>> 0;
    if (crc !== this.bodyCrc) {
      this.refuse('BODY_CRC', 'its body does not match its checksum', {
        type: frameTypeName(this.frame.type),
        bodyBytes: this.bodyBytes,
        expected: this.bodyCrc,
        computed: crc,
      });
      return;
    }
    this.headerDone = false;
    this.frameCount++;
    this.frame.body = body;
    onFrame(this.frame);
    this.frame.body = EMPTY;
  }

  /** Judges the 40 bytes at `at`; sets headerDone, or the error. */
  private readHeader(bytes: Buffer, at: number): void {
    const magic = bytes.readUInt32LE(at);
    if (magic !== FRAME_MAGIC) {
      this.refuse('MAGIC', 'it does not begin with "RMLS", so the peer is not a romulus node', {
        found: `0x${magic.toString(16).padStart(8, '0')}`,
      });
      return;
    }
    const version = bytes[at + 4] as number;
    if (version !== PROTOCOL_VERSION) {
      this.refuse(
        'VERSION',
        `it is of protocol version ${version} and this node speaks version ${PROTOCOL_VERSION}; ` +
          'run the same release on both nodes',
        { ours: PROTOCOL_VERSION, theirs: version },
      );
      return;
    }
    const headerCrc = bytes.readUInt32LE(at + 36);
    const computed = crc32cRange(bytes, at, at + 36);
    if (headerCrc !== computed) {
      this.refuse('HEADER_CRC', 'its header does not match its checksum', {
        expected: headerCrc,
        computed,
      });
      return;
    }
    this.readFields(bytes, at);
  }

  /** The fields of a header whose checksum is right. */
  private readFields(bytes: Buffer, at: number): void {
    const type = bytes[at + 5] as number;
    const flags = bytes.readUInt16LE(at + 6);
    const rule = ruleOf(type);
    if (rule === undefined) {
      this.refuse('TYPE', `its type ${type} is not known to this version`, { type });
      return;
    }
    if ((flags & ~rule.flags) !== 0) {
      this.refuse('FLAGS', `it has flags that ${rule.name} does not have`, {
        type: rule.name,
        flags: `0x${flags.toString(16)}`,
        allowed: `0x${rule.flags.toString(16)}`,
      });
      return;
    }
    const generationHigh = bytes.readUInt32LE(at + 12);
    const epochHigh = bytes.readUInt32LE(at + 20);
    const epoch = epochHigh * TWO_TO_32 + bytes.readUInt32LE(at + 16);
    if (generationHigh >= HIGH_WORD_LIMIT || epochHigh >= HIGH_WORD_LIMIT) {
      this.refuse('NUMBER', 'its generation or epoch is 2^53 or more', { type: rule.name });
      return;
    }
    if (!rule.hasEpoch && epoch !== 0) {
      this.refuse('NUMBER', `it has an epoch, and ${rule.name} has none`, { epoch });
      return;
    }
    const bodyBytes = bytes.readUInt32LE(at + 24);
    const rawBytes = bytes.readUInt32LE(at + 28);
    const limit = Math.min(rule.bodyBytesMax, this.bodyBytesMax);
    if (!this.lengthsHold(rule.name, (flags & FrameFlag.lz4) !== 0, bodyBytes, rawBytes, limit)) {
      return;
    }
    this.frame.type = type as FrameType;
    this.frame.flags = flags;
    this.frame.generation = generationHigh * TWO_TO_32 + bytes.readUInt32LE(at + 8);
    this.frame.epoch = epoch;
    this.frame.rawBytes = rawBytes;
    this.bodyBytes = bodyBytes;
    this.bodyCrc = bytes.readUInt32LE(at + 32);
    this.headerDone = true;
  }

  /** Checks both lengths; false after a refusal. */
  private lengthsHold(
    type: string,
    lz4: boolean,
    bodyBytes: number,
    rawBytes: number,
    limitBytes: number,
  ): boolean {
    const facts = { type, bodyBytes, rawBytes, limitBytes };
    if (bodyBytes > limitBytes || rawBytes > limitBytes) {
      const more = Math.max(bodyBytes, rawBytes);
      this.refuse('LENGTH', `its ${type} body of ${more} bytes is over ${limitBytes}`, facts);
      return false;
    }
    if (!lz4 && rawBytes !== bodyBytes) {
      this.refuse('LENGTH', 'it is not compressed and yet its two lengths differ', facts);
      return false;
    }
    if (lz4 && (rawBytes <= bodyBytes || bodyBytes === 0)) {
      this.refuse('LENGTH', 'its compressed body is empty or no shorter than the raw one', facts);
      return false;
    }
    if (lz4 && rawBytes > bodyBytes * LZ4_GROWTH_MAX + LZ4_GROWTH_SLACK_BYTES) {
      this.refuse('LENGTH', 'it claims to grow further than any LZ4 block can', facts);
      return false;
    }
    return true;
  }

  private refuse(what: string, why: string, facts: FtError['facts']): void {
    const ordinal = this.frameCount + 1;
    const text = `Frame ${ordinal} of the connection is refused: ${why}.`;
    this.fail(new FtError(`FT_ERR_FRAME_${what}`, text, { frame: ordinal, ...facts }));
  }

  private fail(error: FtError): FtError {
    this.dead = error;
    this.headerDone = false;
    this.body = undefined;
    return error;
  }
}
