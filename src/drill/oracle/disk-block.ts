/**
 * A block on the guest's disk as the judge reads it, written from docs/beacon.md alone.
 *
 *   0 "FTBD" · 4 kind · 8 number · 16 sequence · 24 bootId · 32 pattern · 4088 checksum
 *
 * The checksum covers everything before it, so a block that is half one write and half another is
 * found out whatever its pattern is.
 */

export const BLOCK_BYTES = 4096;
export const BlockKind = { request: 1, load: 2 } as const;
export type BlockCondition = 'blank' | 'whole' | 'torn';

export interface BlockFields {
  readonly kind: number;
  readonly number: bigint;
  readonly sequence: bigint;
  readonly bootId: bigint;
}

/** What a block says; the fields mean something only when it is whole. */
export interface BlockFindings extends BlockFields {
  readonly condition: BlockCondition;
}

const BLOCK_MAGIC = 0x44425446; // "FTBD" read as u32 little-endian
const CHECKSUM_AT = BLOCK_BYTES - 8;
const PATTERN_AT = 32;
const TWO_32 = 4294967296;
const U64 = (1n << 64n) - 1n;
const blank = Buffer.alloc(BLOCK_BYTES);

/** Reads BLOCK_BYTES of `bytes`. */
export function inspectBlock(bytes: Buffer): BlockFindings {
  const fields = {
    kind: bytes.readUInt32LE(4),
    number: bytes.readBigUInt64LE(8),
    sequence: bytes.readBigUInt64LE(16),
    bootId: bytes.readBigUInt64LE(24),
  };
  const { low, high } = fnv1a(bytes, 0, CHECKSUM_AT);
  const isWhole =
    bytes.readUInt32LE(0) === BLOCK_MAGIC &&
    bytes.readUInt32LE(CHECKSUM_AT) === low &&
    bytes.readUInt32LE(CHECKSUM_AT + 4) === high;
  if (isWhole) return { ...fields, condition: 'whole' };
  return { ...fields, condition: bytes.equals(blank) ? 'blank' : 'torn' };
}

/** A whole block, for the reference guest of the tests. */
export function makeBlock(fields: BlockFields): Buffer {
  const bytes = Buffer.alloc(BLOCK_BYTES);
  bytes.writeUInt32LE(BLOCK_MAGIC, 0);
  bytes.writeUInt32LE(fields.kind, 4);
  bytes.writeBigUInt64LE(fields.number, 8);
  bytes.writeBigUInt64LE(fields.sequence, 16);
  bytes.writeBigUInt64LE(fields.bootId, 24);
  const seed = fnv1a(bytes, 4, PATTERN_AT);
  let word = (BigInt(seed.high) << 32n) | BigInt(seed.low);
  for (let at = PATTERN_AT; at < CHECKSUM_AT; at += 8) {
    word = (word * 6364136223846793005n + 1442695040888963407n) & U64;
    bytes.writeBigUInt64LE(word, at);
  }
  const sum = fnv1a(bytes, 0, CHECKSUM_AT);
  bytes.writeUInt32LE(sum.low, CHECKSUM_AT);
  bytes.writeUInt32LE(sum.high, CHECKSUM_AT + 4);
  return bytes;
}

/** FNV-1a 64 over bytes `from`…`to` − 1, in 32-bit halves: see chainHash in oracle-layout. */
function fnv1a(bytes: Buffer, from: number, to: number): { low: number; high: number } {
  let low = 0x84222325;
  let high = 0xcbf29ce4;
  for (let at = from; at < to; at++) {
    const mixed = (low ^ (bytes[at] ?? 0)) >>> 0;
    const product = mixed * 0x1b3;
    low = product >>> 0;
    high = (Math.imul(high, 0x1b3) + Math.floor(product / TWO_32) + (mixed << 8)) >>> 0;
  }
  return { low, high };
}
