/**
 * The simulated machine's epoch: what a cut copies, and its bytes on the wire. A body is records
 * back to back, each whole within one body; little-endian.
 *
 *   0  u32  kind      1 raw page, 2 zero page, 3 audit, 4 state, 5 disk
 *   4  u32  gfn       (state: 0, disk: which one)
 *   8       payload   raw: 4096 bytes · zero: none · audit: u32 hash · state: STATE_BYTES
 *                     disk: u64 offset, u32 bytes, u32 1 with data (which follow) or 0 (zeros)
 *
 * An epoch's order is pages, disks, state, audits: an audit speaks of the memory at the cut, so it is
 * compared when every page of the epoch is in place.
 */
import { assert } from '../common/assert';
import { FtError } from '../common/errors';
import type { Cut, DiskDescription, EncodedChunk, GuestEnd } from './machine';
import type { DiskRecord } from './simulated-disk';
import { PAGE_BYTES, pageHash, type SimulatedMemory } from './simulated-memory';

const Kind = { raw: 1, zero: 2, audit: 3, state: 4, disk: 5 } as const;
const RECORD_HEAD_BYTES = 8;
const DISK_HEAD_BYTES = 16;
const SECTOR_BYTES = 512;
export const STATE_VERSION = 1;
/** u32 state version, u32 zero, u64 uptimeNs. */
export const STATE_BYTES = 16;
const ZERO_PAGE = Buffer.alloc(PAGE_BYTES);

/** A staging slot: one cut, copied while the guest stood still. */
export class SimulatedSlot {
  epoch = 0;
  base = false;
  guestEnd: GuestEnd | undefined;
  /** Which halt of the guest it was made in; 0 for none. */
  halt = 0;
  gfns: Uint32Array = new Uint32Array(0);
  pages: Buffer = Buffer.alloc(0);
  pageCount = 0;
  outputFrames = 0;
  pauseUs = 0;
  /** When the pause was over. */
  cutAtUs = 0;
  readonly state = Buffer.alloc(STATE_BYTES);
  /** What the disks' logs held at the cut. */
  diskRecords: DiskRecord[] = [];
  auditGfns: number[] = [];
  auditHashes: number[] = [];
  private nextPage = 0;
  private nextRecord = 0;
  private stateDone = false;
  private nextAudit = 0;

  /** Copies the dirty pages; buffers grow to the largest epoch seen and are kept. */
  fill(memory: SimulatedMemory, gfns: Uint32Array, count: number): void {
    if (this.gfns.length < count) {
      this.gfns = new Uint32Array(count);
      this.pages = Buffer.alloc(count * PAGE_BYTES);
    }
    this.pageCount = count;
    for (let i = 0; i < count; i += 1) {
      const gfn = gfns[i] ?? 0;
      this.gfns[i] = gfn;
      memory.page(gfn).copy(this.pages, i * PAGE_BYTES);
    }
    this.nextPage = 0;
    this.nextRecord = 0;
    this.stateDone = false;
    this.nextAudit = 0;
    this.auditGfns.length = 0;
    this.auditHashes.length = 0;
  }

  /** Hashes `count` pages as they are at the cut, from `gfn` on; returns where the next go on. */
  hashPages(memory: SimulatedMemory, gfn: number, count: number): number {
    let at = gfn;
    for (let i = 0; i < count; i += 1) {
      this.auditGfns.push(at);
      this.auditHashes.push(pageHash(memory.bytes, at * PAGE_BYTES));
      at = (at + 1) % memory.pages;
    }
    return at;
  }

  /** Writes the facts of this cut, as of `nowUs`, into `facts`, and returns that. */
  describe(facts: Cut, nowUs: number): Cut {
    facts.epoch = this.epoch;
    facts.base = this.base;
    facts.dirtyPages = this.pageCount;
    facts.outputFrames = this.outputFrames;
    facts.pauseUs = this.pauseUs;
    facts.copyUs = this.pauseUs;
    facts.guestEnd = this.guestEnd;
    facts.wakeUs = nowUs - this.cutAtUs;
    return facts;
  }

  encode(into: Buffer): EncodedChunk {
    let at = 0;
    let rawBytes = 0;
    for (; this.nextPage < this.pageCount; this.nextPage += 1) {
      const from = this.nextPage * PAGE_BYTES;
      const page = this.pages.subarray(from, from + PAGE_BYTES);
      const next = putPage(into, at, this.gfns[this.nextPage] ?? 0, page);
      if (next === at) return { bytes: at, rawBytes, last: false };
      at = next;
      rawBytes += PAGE_BYTES;
    }
    for (; this.nextRecord < this.diskRecords.length; this.nextRecord += 1) {
      const next = putDisk(into, at, this.diskRecords[this.nextRecord]);
      if (next === at) return { bytes: at, rawBytes, last: false };
      at = next;
    }
    if (!this.stateDone) {
      if (at + RECORD_HEAD_BYTES + STATE_BYTES > into.length)
        return { bytes: at, rawBytes, last: false };
      at = putHead(into, at, Kind.state, 0);
      this.state.copy(into, at);
      at += STATE_BYTES;
      this.stateDone = true;
    }
    for (; this.nextAudit < this.auditGfns.length; this.nextAudit += 1) {
      if (at + RECORD_HEAD_BYTES + 4 > into.length) return { bytes: at, rawBytes, last: false };
      at = putHead(into, at, Kind.audit, this.auditGfns[this.nextAudit] ?? 0);
      at = into.writeUInt32LE(this.auditHashes[this.nextAudit] ?? 0, at);
    }
    return { bytes: at, rawBytes, last: true };
  }
}

/** As putPage. */
function putDisk(into: Buffer, at: number, record: DiskRecord | undefined): number {
  if (record === undefined) return at;
  const { data } = record;
  const bytes = RECORD_HEAD_BYTES + DISK_HEAD_BYTES + (data?.length ?? 0);
  assert(bytes <= into.length, 'a disk record fits into a piece');
  if (at + bytes > into.length) return at;
  const body = putHead(into, at, Kind.disk, record.disk);
  into.writeBigUInt64LE(BigInt(record.offset), body);
  into.writeUInt32LE(record.bytes, body + 8);
  into.writeUInt32LE(data === undefined ? 0 : 1, body + 12);
  data?.copy(into, body + DISK_HEAD_BYTES);
  return at + bytes;
}

function putHead(into: Buffer, at: number, kind: number, gfn: number): number {
  into.writeUInt32LE(kind, at);
  return into.writeUInt32LE(gfn, at + 4);
}

/** Writes one page record and returns the position behind it, or `at` when it does not fit. */
export function putPage(into: Buffer, at: number, gfn: number, page: Buffer): number {
  if (page.equals(ZERO_PAGE)) {
    return at + RECORD_HEAD_BYTES > into.length ? at : putHead(into, at, Kind.zero, gfn);
  }
  if (at + RECORD_HEAD_BYTES + PAGE_BYTES > into.length) return at;
  const body = putHead(into, at, Kind.raw, gfn);
  page.copy(into, body);
  return body + PAGE_BYTES;
}

/** The length of the payload at `at`; undefined for a kind that does not exist. */
function payloadBytes(kind: number, body: Buffer, at: number): number | undefined {
  if (kind === Kind.disk) {
    if (at + DISK_HEAD_BYTES > body.length) return DISK_HEAD_BYTES;
    return DISK_HEAD_BYTES + (body.readUInt32LE(at + 12) === 1 ? body.readUInt32LE(at + 8) : 0);
  }
  if (kind === Kind.raw) return PAGE_BYTES;
  if (kind === Kind.zero) return 0;
  if (kind === Kind.audit) return 4;
  if (kind === Kind.state) return STATE_BYTES;
  return undefined;
}

/** Checks a body whole; undefined when every record in it can be applied. */
export function verifyBody(
  bytes: Uint8Array,
  pages: number,
  disks: readonly DiskDescription[],
): FtError | undefined {
  const body = asBuffer(bytes);
  const bad = (at: number, what: string): FtError =>
    new FtError('FT_ERR_EPOCH_BODY', `An epoch body is damaged: ${what} at byte ${at}.`, { at });
  let at = 0;
  while (at < body.length) {
    if (at + RECORD_HEAD_BYTES > body.length) return bad(at, 'a cut-off record head');
    const kind = body.readUInt32LE(at);
    const gfn = body.readUInt32LE(at + 4);
    const length = payloadBytes(kind, body, at + RECORD_HEAD_BYTES);
    if (length === undefined) return bad(at, `record kind ${kind}, which does not exist,`);
    if (kind !== Kind.disk && gfn >= pages)
      return bad(at, `page ${gfn} beyond the memory of ${pages} pages`);
    if (at + RECORD_HEAD_BYTES + length > body.length) return bad(at, 'a cut-off record');
    if (kind === Kind.disk) {
      const fault = diskFault(body, at + RECORD_HEAD_BYTES, disks[gfn]);
      if (fault !== undefined) return bad(at, fault);
    }
    if (kind === Kind.state) {
      if (gfn !== 0) return bad(at, 'a state record with a page number');
      const version = body.readUInt32LE(at + RECORD_HEAD_BYTES);
      if (version !== STATE_VERSION)
        return bad(at, `state version ${version}, not ${STATE_VERSION},`);
    }
    at += RECORD_HEAD_BYTES + length;
  }
  return undefined;
}

/** Why a disk record whose payload is whole cannot be applied. */
function diskFault(
  body: Buffer,
  at: number,
  disk: DiskDescription | undefined,
): string | undefined {
  if (disk === undefined) return 'a record of a disk that does not exist';
  if (disk.readOnly) return 'a record of a disk that is read-only';
  const offset = body.readBigUInt64LE(at);
  const bytes = body.readUInt32LE(at + 8);
  if (bytes === 0 || bytes % SECTOR_BYTES !== 0 || offset % BigInt(SECTOR_BYTES) !== 0n) {
    return 'a disk record of no whole sectors';
  }
  if (offset + BigInt(bytes) > BigInt(disk.bytes)) return 'a record beyond the end of its disk';
  return body.readUInt32LE(at + 12) > 1 ? 'a disk record of no known form' : undefined;
}

/** Hands out the disk records of a verified body; their data are views of it. */
export function forEachDiskRecord(bytes: Uint8Array, act: (record: DiskRecord) => void): void {
  const body = asBuffer(bytes);
  for (let at = 0; at < body.length; ) {
    const kind = body.readUInt32LE(at);
    const payload = at + RECORD_HEAD_BYTES;
    if (kind === Kind.disk) act(diskRecord(body, at));
    at = payload + (payloadBytes(kind, body, payload) ?? 0);
  }
}

function diskRecord(body: Buffer, at: number): DiskRecord {
  const payload = at + RECORD_HEAD_BYTES;
  const bytes = body.readUInt32LE(payload + 8);
  const from = payload + DISK_HEAD_BYTES;
  return {
    disk: body.readUInt32LE(at + 4),
    offset: Number(body.readBigUInt64LE(payload)),
    bytes,
    data: body.readUInt32LE(payload + 12) === 1 ? body.subarray(from, from + bytes) : undefined,
  };
}

const NO_MISMATCH: readonly number[] = [];

/** What a body changed; its disk records are applied by forEachDiskRecord. */
export interface AppliedBody {
  readonly pages: number;
  readonly auditMismatches: readonly number[];
}

/** Applies a verified body; the state record, if there is one, is copied into `state`. */
export function applyBody(
  bytes: Uint8Array,
  memory: SimulatedMemory,
  state: { bytes: Buffer; present: boolean },
): AppliedBody {
  const body = asBuffer(bytes);
  let pages = 0;
  let mismatches: number[] | undefined;
  let at = 0;
  while (at < body.length) {
    const kind = body.readUInt32LE(at);
    const gfn = body.readUInt32LE(at + 4);
    at += RECORD_HEAD_BYTES;
    if (kind === Kind.raw) {
      body.copy(memory.bytes, gfn * PAGE_BYTES, at, at + PAGE_BYTES);
      pages += 1;
    } else if (kind === Kind.zero) {
      memory.bytes.fill(0, gfn * PAGE_BYTES, (gfn + 1) * PAGE_BYTES);
      pages += 1;
    } else if (kind === Kind.state) {
      body.copy(state.bytes, 0, at, at + STATE_BYTES);
      state.present = true;
    } else if (
      kind === Kind.audit &&
      pageHash(memory.bytes, gfn * PAGE_BYTES) !== body.readUInt32LE(at)
    ) {
      mismatches ??= [];
      mismatches.push(gfn);
    }
    at += payloadBytes(kind, body, at) ?? 0;
  }
  return { pages, auditMismatches: mismatches ?? NO_MISMATCH };
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
