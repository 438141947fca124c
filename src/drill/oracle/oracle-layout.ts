/**
 * Beacon's request and answer bytes as the oracle reads them, written from docs/beacon.md alone: an
 * oracle that shared code with the guest or with a simulated machine would share its mistakes.
 *
 *   request  0 magic "FTBQ" · 4 version · 5 op · 8 client · 12 requestId · 16 a · 24 b · 32 c
 *   answer   0 magic "FTBA" · 4 version · 5 op · 6 status · 8 client · 12 requestId · 16 bootId
 *            24 sequence · 32 previousHash · 40 hash · 48 value · 56 uptimeNs · 64 progress
 *            72 pagesDirtied · 80 gapMaxNs · 88 gapP50Ns · 96 gapP99Ns · 104 gapCount
 *            112 loadPagesMax · 120 zero; disk answers have four details at 80, 88, 96, 104
 */

export const REQUEST_BYTES = 40;
export const ANSWER_BYTES = 128;
export const BEACON_PORT = 7777;

export const Op = {
  incr: 1,
  put: 2,
  get: 3,
  stats: 4,
  load: 5,
  diskWrite: 6,
  diskRead: 7,
  diskLoad: 8,
  diskDiscard: 11,
  loadEach: 12,
  vcpu: 13,
} as const;
export type OpName = keyof typeof Op;

/** Operations on one block. */
export function isDiskOp(op: number | undefined): boolean {
  return op === Op.diskWrite || op === Op.diskRead || op === Op.diskDiscard;
}

export const Status = {
  ok: 0,
  badOp: 1,
  notFound: 2,
  tableFull: 3,
  badArgument: 4,
  ioError: 5,
} as const;

export const At = {
  version: 4,
  op: 5,
  status: 6,
  client: 8,
  requestId: 12,
  a: 16,
  b: 24,
  c: 32,
  bootId: 16,
  sequence: 24,
  previousHash: 32,
  hash: 40,
  value: 48,
  uptimeNs: 56,
  progress: 64,
  pagesDirtied: 72,
  gapMaxNs: 80,
  gapP50Ns: 88,
  gapP99Ns: 96,
  gapCount: 104,
  detail0: 80,
  detail1: 88,
  detail2: 96,
  detail3: 104,
  loadPagesMax: 112,
} as const;

const REQUEST_MAGIC = 0x51425446; // "FTBQ" read as u32 little-endian
const ANSWER_MAGIC = 0x41425446; // "FTBA"
const TWO_32 = 4294967296;

/** What a client asks; `a`, `b` and `c` are u64. */
export interface RequestFields {
  readonly op: number;
  readonly client: number;
  readonly requestId: number;
  readonly a: bigint;
  readonly b: bigint;
  readonly c: bigint;
}

/** Writes one request at `offset`. No allocation. */
export function writeRequest(into: Buffer, offset: number, request: RequestFields): void {
  into.writeUInt32LE(REQUEST_MAGIC, offset);
  into[offset + At.version] = 1;
  into[offset + At.op] = request.op;
  into.writeUInt16LE(0, offset + 6);
  into.writeUInt32LE(request.client, offset + At.client);
  into.writeUInt32LE(request.requestId, offset + At.requestId);
  into.writeBigUInt64LE(request.a, offset + At.a);
  into.writeBigUInt64LE(request.b, offset + At.b);
  into.writeBigUInt64LE(request.c, offset + At.c);
}

/** True when the bytes are an answer at all. */
export function isAnswer(bytes: Buffer): boolean {
  return bytes.length === ANSWER_BYTES && bytes.readUInt32LE(0) === ANSWER_MAGIC && bytes[4] === 1;
}

/** Marks 128 bytes as an answer; for the reference guest of the tests. */
export function stampAnswer(into: Buffer, offset: number): void {
  into.writeUInt32LE(ANSWER_MAGIC, offset);
  into[offset + At.version] = 1;
}

/** A u64 of `bytes` as a number; exact up to 2^53. */
export function u64At(bytes: Buffer, offset: number): number {
  return bytes.readUInt32LE(offset + 4) * TWO_32 + bytes.readUInt32LE(offset);
}

export function opName(op: number): string {
  for (const [name, code] of Object.entries(Op)) if (code === op) return name;
  return `op ${op}`;
}

/**
 * The running hash after one request: FNV-1a 64 over the 8 bytes at `previous` and bytes 5, 8…39 of
 * the request. In 32-bit halves, since a BigInt a byte would make judging a long history slow.
 * @returns the hash as [low, high] in `into`, which is reused by the caller.
 */
export function chainHash(
  into: Uint32Array,
  previous: Buffer,
  previousAt: number,
  request: Buffer,
  requestAt: number,
): void {
  let low = 0x84222325;
  let high = 0xcbf29ce4;
  const eat = (byte: number): void => {
    const mixed = (low ^ byte) >>> 0;
    // × 0x100000001b3: the low half times 0x1b3 stays below 2^41, so doubles are exact.
    const product = mixed * 0x1b3;
    low = product >>> 0;
    high = (Math.imul(high, 0x1b3) + Math.floor(product / TWO_32) + (mixed << 8)) >>> 0;
  };
  for (let i = 0; i < 8; i++) eat(previous[previousAt + i] ?? 0);
  eat(request[requestAt + At.op] ?? 0);
  for (let i = 8; i < REQUEST_BYTES; i++) eat(request[requestAt + i] ?? 0);
  into[0] = low;
  into[1] = high;
}
