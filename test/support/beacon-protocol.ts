/**
 * The request protocol of the fixture guest, seen from its clients: encoder and decoder for
 * requests and answers, and the hash chain. docs/beacon.md is the contract; its two tables are
 * the layouts below.
 *
 *   request  40 bytes   answer  128 bytes          all little-endian
 *   0  "FTBQ"           0  "FTBA"                  64  progress
 *   4  version          4  version                 72  pagesDirtied
 *   5  op               5  op                      80  gapMaxNs
 *   6  zero             6  status                  88  gapP50Ns
 *   8  client           8  client                  96  gapP99Ns
 *  12  requestId       12  requestId              104  gapCount
 *  16  a               16  bootId                 112  loadPagesMax
 *  24  b               24  sequence               120  zero
 *  32  c               32  previousHash
 *                      40  hash · 48 value · 56 uptimeNs
 *
 * 64-bit fields that can hold anything are BigInt; counters and times that stay below 2^53 for
 * centuries are numbers.
 */

export const BEACON_PORT = 7777;
export const BEACON_VERSION = 1;
export const REQUEST_BYTES = 40;
export const ANSWER_BYTES = 128;

const REQUEST_MAGIC = 0x51425446; // "FTBQ" read as u32 little-endian
const ANSWER_MAGIC = 0x41425446; // "FTBA"

export const BeaconOp = { incr: 1, put: 2, get: 3, stats: 4, load: 5 } as const;
export type BeaconOp = (typeof BeaconOp)[keyof typeof BeaconOp];

export const BeaconStatus = {
  ok: 0,
  badOp: 1,
  notFound: 2,
  tableFull: 3,
  badArgument: 4,
} as const;
export type BeaconStatus = (typeof BeaconStatus)[keyof typeof BeaconStatus];

/** `load` with this rate dirties pages as fast as the guest can. */
export const LOAD_UNPACED = 0xffff_ffff_ffff_ffffn;
/** Set in `c` of a `load`: the guest also spins and counts progress, and never sleeps. */
export const LOAD_SPIN = 1n << 63n;

/** One request; `op` is a plain number so that a bad one can be sent on purpose. */
export interface BeaconRequest {
  readonly op: number;
  /** u32, chosen by the client, unique per client. */
  readonly client: number;
  /** u32, from 1, grows by one per client. */
  readonly requestId: number;
  readonly a: bigint;
  readonly b: bigint;
  readonly c: bigint;
}

/** One answer. Times in nanoseconds of guest time. */
export interface BeaconAnswer {
  readonly op: number;
  readonly status: number;
  readonly client: number;
  readonly requestId: number;
  readonly bootId: bigint;
  readonly sequence: number;
  readonly previousHash: bigint;
  readonly hash: bigint;
  readonly value: bigint;
  readonly uptimeNs: number;
  readonly progress: number;
  readonly pagesDirtied: number;
  readonly gapMaxNs: number;
  readonly gapP50Ns: number;
  readonly gapP99Ns: number;
  readonly gapCount: number;
  readonly loadPagesMax: number;
}

/** What a `load` request asks for; see docs/beacon.md. */
export interface LoadSpec {
  /** 0: none; Infinity: as fast as it can. */
  readonly pagesPerMs: number;
  /** Changed in each page, 1…4096. Not looked at when `pagesPerMs` is 0. */
  readonly bytesPerPage: number;
  /** Written round robin. Not looked at when `pagesPerMs` is 0. */
  readonly workingSetPages: number;
  /** Never sleep, count progress, measure gaps. */
  readonly spin: boolean;
}

/** The fields a, b and c of a `load` request. */
export function loadArguments(spec: LoadSpec): { a: bigint; b: bigint; c: bigint } {
  return {
    a: Number.isFinite(spec.pagesPerMs) ? BigInt(spec.pagesPerMs) : LOAD_UNPACED,
    b: BigInt(spec.bytesPerPage),
    c: BigInt(spec.workingSetPages) | (spec.spin ? LOAD_SPIN : 0n),
  };
}

/**
 * Writes a request into `into` (REQUEST_BYTES at `offset`), or into a new buffer, and returns the
 * buffer. Callers that send thousands a second keep one buffer per socket; a buffer given to
 * `dgram` must not be written again before its send callback.
 */
export function encodeRequest(
  request: BeaconRequest,
  into: Buffer = Buffer.allocUnsafe(REQUEST_BYTES),
  offset = 0,
): Buffer {
  into.writeUInt32LE(REQUEST_MAGIC, offset);
  into.writeUInt8(BEACON_VERSION, offset + 4);
  into.writeUInt8(request.op, offset + 5);
  into.writeUInt16LE(0, offset + 6);
  into.writeUInt32LE(request.client, offset + 8);
  into.writeUInt32LE(request.requestId, offset + 12);
  into.writeBigUInt64LE(request.a, offset + 16);
  into.writeBigUInt64LE(request.b, offset + 24);
  into.writeBigUInt64LE(request.c, offset + 32);
  return into;
}

/** A request from its bytes, or undefined when they are none (length, magic, version, zero). */
export function decodeRequest(bytes: Buffer): BeaconRequest | undefined {
  if (bytes.length !== REQUEST_BYTES || bytes.readUInt32LE(0) !== REQUEST_MAGIC) return undefined;
  if (bytes.readUInt8(4) !== BEACON_VERSION || bytes.readUInt16LE(6) !== 0) return undefined;
  return {
    op: bytes.readUInt8(5),
    client: bytes.readUInt32LE(8),
    requestId: bytes.readUInt32LE(12),
    a: bytes.readBigUInt64LE(16),
    b: bytes.readBigUInt64LE(24),
    c: bytes.readBigUInt64LE(32),
  };
}

/** An answer from its bytes, or undefined when they are none (length, magic, version, zero). */
export function decodeAnswer(bytes: Buffer): BeaconAnswer | undefined {
  if (bytes.length !== ANSWER_BYTES || bytes.readUInt32LE(0) !== ANSWER_MAGIC) return undefined;
  if (bytes.readUInt8(4) !== BEACON_VERSION) return undefined;
  if (bytes.readUInt32LE(120) !== 0 || bytes.readUInt32LE(124) !== 0) return undefined;
  return {
    op: bytes.readUInt8(5),
    status: bytes.readUInt16LE(6),
    client: bytes.readUInt32LE(8),
    requestId: bytes.readUInt32LE(12),
    bootId: bytes.readBigUInt64LE(16),
    sequence: readCount(bytes, 24),
    previousHash: bytes.readBigUInt64LE(32),
    hash: bytes.readBigUInt64LE(40),
    value: bytes.readBigUInt64LE(48),
    uptimeNs: readCount(bytes, 56),
    progress: readCount(bytes, 64),
    pagesDirtied: readCount(bytes, 72),
    gapMaxNs: readCount(bytes, 80),
    gapP50Ns: readCount(bytes, 88),
    gapP99Ns: readCount(bytes, 96),
    gapCount: readCount(bytes, 104),
    loadPagesMax: readCount(bytes, 112),
  };
}

/**
 * The client and the requestId of an answer, for looking up what it answers without decoding the
 * rest. Undefined when the bytes cannot be an answer.
 */
export function peekAnswer(bytes: Buffer): { client: number; requestId: number } | undefined {
  if (bytes.length !== ANSWER_BYTES || bytes.readUInt32LE(0) !== ANSWER_MAGIC) return undefined;
  return { client: bytes.readUInt32LE(8), requestId: bytes.readUInt32LE(12) };
}

/**
 * The chain after `request` was served: FNV-1a 64 over the 8 bytes of `previousHash` and then the
 * bytes 5 and 8…39 of the request. The chain begins with the boot id.
 */
export function chainHash(previousHash: bigint, request: BeaconRequest): bigint {
  scratch.writeBigUInt64LE(previousHash, 0);
  scratch.writeUInt8(request.op, 8);
  scratch.writeUInt32LE(request.client, 9);
  scratch.writeUInt32LE(request.requestId, 13);
  scratch.writeBigUInt64LE(request.a, 17);
  scratch.writeBigUInt64LE(request.b, 25);
  scratch.writeBigUInt64LE(request.c, 33);
  return fnv1a64(scratch);
}

const CHAIN_BYTES = 8 + 1 + REQUEST_BYTES - 8;
const scratch = Buffer.alloc(CHAIN_BYTES);

/**
 * FNV-1a with 64 bits. The state is kept as four 16-bit limbs in plain numbers and becomes a
 * BigInt once at the end: the prime is 2^40 + 0x1b3, so a product is the limbs times 0x1b3 plus
 * the low limbs shifted by 40 bits (two limbs and a byte).
 */
function fnv1a64(bytes: Buffer): bigint {
  let h0 = 0x2325;
  let h1 = 0x8422;
  let h2 = 0x9ce4;
  let h3 = 0xcbf2;
  for (let i = 0; i < bytes.length; i++) {
    h0 ^= bytes[i] ?? 0;
    const shifted2 = h0 << 8;
    const shifted3 = h1 << 8;
    const p0 = h0 * 0x1b3;
    const p1 = h1 * 0x1b3 + (p0 >>> 16);
    const p2 = h2 * 0x1b3 + shifted2 + (p1 >>> 16);
    const p3 = h3 * 0x1b3 + shifted3 + (p2 >>> 16);
    h0 = p0 & 0xffff;
    h1 = p1 & 0xffff;
    h2 = p2 & 0xffff;
    h3 = p3 & 0xffff;
  }
  return (BigInt(h3) << 48n) | (BigInt(h2) << 32n) | (BigInt(h1) << 16n) | BigInt(h0);
}

/** A u64 that counts something: a number, exact below 2^53. */
function readCount(bytes: Buffer, offset: number): number {
  return bytes.readUInt32LE(offset + 4) * 0x1_0000_0000 + bytes.readUInt32LE(offset);
}
