/**
 * Values to bytes: writes a frame's header into the room in front of its body, in place. The layout
 * is drawn in frame.ts.
 */
import { assert } from '../common/assert';
import { crc32cRange } from '../common/crc32c';
import {
  type Checksum,
  FRAME_HEADER_BYTES,
  FRAME_MAGIC,
  type FrameBuffer,
  FrameFlag,
  type FrameHeader,
  PROTOCOL_VERSION,
} from './frame';
import { ruleOf } from './rules';

const TWO_TO_32 = 2 ** 32;

/**
 * Writes the header for the `bodyBytes` bytes that stand in `buffer.body`, and returns the length
 * of the whole frame. `checksum` runs over the body, unless the header brings that sum along; the
 * header's own 36 bytes are summed here.
 * A header that the decoder of a peer would refuse is a broken invariant of the caller and stops
 * the process. Allocates one view of the body, nothing else.
 */
export function encodeFrame(
  header: FrameHeader,
  buffer: FrameBuffer,
  bodyBytes: number,
  checksum: Checksum,
): number {
  const { bytes } = buffer;
  const rawBytes = header.rawBytes ?? bodyBytes;
  checkHeader(header, bodyBytes, rawBytes, buffer.body.length);
  bytes.writeUInt32LE(FRAME_MAGIC, 0);
  bytes[4] = PROTOCOL_VERSION;
  bytes[5] = header.type;
  bytes.writeUInt16LE(header.flags, 6);
  writeU64(bytes, header.generation, 8);
  writeU64(bytes, header.epoch, 16);
  bytes.writeUInt32LE(bodyBytes, 24);
  bytes.writeUInt32LE(rawBytes, 28);
  const bodyCrc = header.bodyCrc ?? bodyChecksum(buffer, bodyBytes, checksum);
  bytes.writeUInt32LE(bodyCrc >>> 0, 32);
  bytes.writeUInt32LE(crc32cRange(bytes, 0, 36), 36);
  return FRAME_HEADER_BYTES + bodyBytes;
}

function bodyChecksum(buffer: FrameBuffer, bodyBytes: number, checksum: Checksum): number {
  return bodyBytes === 0 ? 0 : checksum(buffer.body.subarray(0, bodyBytes));
}

/** Holds what is sent to the very rules by which the peer's decoder will judge it. */
function checkHeader(header: FrameHeader, bodyBytes: number, rawBytes: number, room: number): void {
  const rule = ruleOf(header.type);
  assert(rule !== undefined, 'a frame has a type that is defined');
  assert((header.flags & ~rule.flags) === 0, 'a frame has only flags of its type');
  assert(Number.isSafeInteger(header.generation) && header.generation >= 0, 'generation fits');
  assert(Number.isSafeInteger(header.epoch) && header.epoch >= 0, 'epoch fits');
  assert(rule.hasEpoch || header.epoch === 0, 'a type without an epoch has epoch 0');
  assert(bodyBytes >= 0 && bodyBytes <= room, 'the body lies inside its buffer');
  assert(bodyBytes <= rule.bodyBytesMax, 'the body is no longer than its type allows');
  assert(
    (header.flags & FrameFlag.lz4) !== 0 ? rawBytes > bodyBytes : rawBytes === bodyBytes,
    'rawBytes is the length of the body before LZ4, which made it shorter',
  );
}

/** u64 little-endian of a non-negative safe integer, without a BigInt. */
function writeU64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32LE(value % TWO_TO_32, at);
  bytes.writeUInt32LE(Math.floor(value / TWO_TO_32), at + 4);
}
