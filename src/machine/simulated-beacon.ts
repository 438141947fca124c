/**
 * The simulated machine's guest: the beacon protocol (docs/beacon.md) with its whole state in guest
 * memory, so that replicating memory replicates the guest, and a page that was lost shows.
 *
 *   page 0       header: boot id, sequence, hash, counter, load settings
 *      at 2048   journal: what this guest last wrote to each of the disk's JOURNAL_SLOTS places
 *   clients      slots of CLIENT_BYTES: client, used, then 8 × (requestId, answer)
 *   keys         slots of 24 bytes: used, key, value (open addressing)
 *   load         whole pages, written round robin by `load`
 *
 * With a disk every new request is written to a place on it, or the place is discarded. The journal
 * makes the disk's contents a function of memory and of what was on it before: the judge of the
 * simulated disks (journalOnto) needs to know nothing else.
 *
 * Table sizes follow from the size of memory alone, so they are the same on both hosts.
 */
import type { Clock, Timer } from '../common/clock';
import type { GuestEnd } from './machine';
import { PAGE_BYTES, type SimulatedMemory } from './simulated-memory';

export const BEACON_REQUEST_BYTES = 40;
export const BEACON_ANSWER_BYTES = 128;
const REQUEST_MAGIC = 0x51425446; // "FTBQ"
const ANSWER_MAGIC = 0x41425446; // "FTBA"

const Op = { incr: 1, put: 2, get: 3, stats: 4, load: 5, end: 9 } as const;
const Status = { ok: 0, badOp: 1, notFound: 2, tableFull: 3, badArgument: 4 } as const;

/** By the request's `a`; what the fixture guest does on KVM. */
const ENDS: readonly GuestEnd[] = [
  { kind: 'power-off', cause: 'power-off by port 0x604' },
  { kind: 'reset', cause: 'reset by the keyboard controller' },
  { kind: 'reset', cause: 'reset by port 0xcf9' },
  { kind: 'reset', cause: 'triple fault' },
];

const At = {
  bootId: 8,
  sequence: 16,
  hash: 24,
  counter: 32,
  progress: 40,
  pagesDirtied: 48,
  loadPagesPerMs: 56,
  loadBytes: 64,
  loadPages: 72,
  loadCursor: 80,
  loadRound: 88,
} as const;

const ANSWERS_KEPT = 8;
const JOURNAL_AT = 2048;
export const JOURNAL_SLOTS = 64;
const JOURNAL_BYTES = 1024;
/** In the journal: the place was discarded. What is written is odd, and 0 is an untouched place. */
const DISCARDED = 2n;
const ANSWER_SLOT_BYTES = 8 + BEACON_ANSWER_BYTES;
const CLIENT_BYTES = 16 + ANSWERS_KEPT * ANSWER_SLOT_BYTES;
const KEY_BYTES = 24;
const SPIN_BIT = 1n << 63n;
/** "As fast as it can" is bounded here, since a simulated millisecond must end. */
const LOAD_PAGES_PER_MS_MAX = 4096;

/** Largest power of two ≤ `limit`, at least 1. */
function powerOfTwoUpTo(limit: number): number {
  return 2 ** Math.max(0, Math.floor(Math.log2(limit)));
}

/** What the guest sees of its disk. */
export interface BeaconDisk {
  readonly view: Buffer;
  write(offset: number, data: Buffer): void;
  zero(offset: number, bytes: number): void;
}

/** Where on a disk of `diskBytes` a place of the journal begins. */
function journalOffset(slot: number, diskBytes: number): number {
  const stride = Math.floor(diskBytes / JOURNAL_SLOTS / 512) * 512;
  return slot * stride;
}

function journalData(value: bigint): Buffer {
  const data = Buffer.alloc(JOURNAL_BYTES);
  const [low, high] = [Number(value & 0xffff_ffffn), Number(value >> 32n)];
  for (let at = 0; at < JOURNAL_BYTES; at += 8) {
    data.writeUInt32LE((low ^ at) >>> 0, at);
    data.writeUInt32LE(high, at + 4);
  }
  return data;
}

/** Puts onto `disk`, as it was when the guest booted, all that the guest's memory says of it. */
export function journalOnto(disk: Buffer, memory: SimulatedMemory): void {
  for (let slot = 0; slot < JOURNAL_SLOTS; slot += 1) {
    const value = memory.u64(JOURNAL_AT + slot * 8);
    if (value === 0n) continue;
    const offset = journalOffset(slot, disk.length);
    if (value === DISCARDED) disk.fill(0, offset, offset + JOURNAL_BYTES);
    else journalData(value).copy(disk, offset);
  }
}

/** The beacon's milliseconds, while it has load: without, it has nothing to do between requests. */
export class BeaconTicks {
  private timer: Timer | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly tick: () => void,
  ) {}

  follow(loaded: boolean): void {
    if (loaded) {
      this.timer ??= this.clock.every(1, this.tick);
      return;
    }
    this.timer?.cancel();
    this.timer = undefined;
  }
}

export class SimulatedBeacon {
  private readonly clientSlots: number;
  private readonly clientsAt = PAGE_BYTES;
  private readonly keySlots: number;
  private readonly keysAt: number;
  private readonly loadFirstPage: number;
  readonly loadPagesMax: number;
  /** Set by the request that ends the guest. */
  ended: GuestEnd | undefined;
  private readonly scratch = Buffer.alloc(BEACON_ANSWER_BYTES);
  private readonly word = Buffer.alloc(8);

  constructor(
    private readonly memory: SimulatedMemory,
    private readonly disk?: BeaconDisk,
  ) {
    const quarter = memory.bytes.length / 4;
    this.clientSlots = Math.min(1024, powerOfTwoUpTo(quarter / CLIENT_BYTES));
    this.keySlots = Math.min(65_536, powerOfTwoUpTo(quarter / KEY_BYTES));
    const clientPages = Math.ceil((this.clientSlots * CLIENT_BYTES) / PAGE_BYTES);
    this.keysAt = this.clientsAt + clientPages * PAGE_BYTES;
    const keyPages = Math.ceil((this.keySlots * KEY_BYTES) / PAGE_BYTES);
    this.loadFirstPage = this.keysAt / PAGE_BYTES + keyPages;
    this.loadPagesMax = Math.max(0, memory.pages - this.loadFirstPage);
  }

  boot(bootId: bigint): void {
    this.memory.setU64(At.bootId, bootId);
    this.memory.setU64(At.hash, bootId);
  }

  /** True when `tick` has work to do every millisecond. */
  get loaded(): boolean {
    return this.memory.u64(At.loadPagesPerMs) !== 0n;
  }

  /** Serves one request; undefined when it gets no answer. The answer is a fresh buffer. */
  serve(request: Buffer, uptimeNs: bigint): Buffer | undefined {
    if (request.length !== BEACON_REQUEST_BYTES) return undefined;
    if (request.readUInt32LE(0) !== REQUEST_MAGIC || request[4] !== 1) return undefined;
    const slot = this.clientSlot(request.readUInt32LE(8));
    if (slot === undefined) return undefined;
    const requestId = request.readUInt32LE(12);
    const kept = slot + 16 + (requestId % ANSWERS_KEPT) * ANSWER_SLOT_BYTES;
    const keptId = this.memory.u32(kept);
    // A place holds one answer of every eighth request: an equal id is a repetition, an older one
    // was answered and forgotten.
    if (keptId === requestId && this.memory.u32(kept + 4) === 1) {
      return Buffer.from(this.memory.bytes.subarray(kept + 8, kept + ANSWER_SLOT_BYTES));
    }
    if (requestId < keptId) return undefined;
    const answer = this.answer(request, uptimeNs);
    this.memory.setU32(kept, requestId);
    this.memory.setU32(kept + 4, 1);
    this.memory.put(kept + 8, answer);
    return Buffer.from(answer);
  }

  /** One millisecond of `load`: dirties its pages, round robin. Stops early when `full` says so. */
  tick(full: () => boolean): void {
    const memory = this.memory;
    const wanted = memory.u64(At.loadPagesPerMs);
    if (wanted === 0n) return;
    const pages = Number(memory.u64(At.loadPages) & ~SPIN_BIT);
    const count = wanted > BigInt(LOAD_PAGES_PER_MS_MAX) ? LOAD_PAGES_PER_MS_MAX : Number(wanted);
    const changed = Number(memory.u64(At.loadBytes));
    let cursor = Number(memory.u64(At.loadCursor));
    let round = memory.u32(At.loadRound);
    let done = 0;
    for (; done < count && !full(); done += 1) {
      const gfn = this.loadFirstPage + cursor;
      memory.markPage(gfn);
      const start = gfn * PAGE_BYTES;
      memory.bytes.fill((round * 37 + 1) & 0xff, start, start + changed);
      cursor += 1;
      if (cursor === pages) {
        cursor = 0;
        round = (round + 1) >>> 0;
      }
    }
    memory.setU64(At.loadCursor, BigInt(cursor));
    memory.setU32(At.loadRound, round);
    memory.setU64(At.pagesDirtied, memory.u64(At.pagesDirtied) + BigInt(done));
    if ((memory.u64(At.loadPages) & SPIN_BIT) !== 0n) {
      memory.setU64(At.progress, memory.u64(At.progress) + 1n);
    }
  }

  private answer(request: Buffer, uptimeNs: bigint): Buffer {
    const memory = this.memory;
    const previousHash = memory.u64(At.hash);
    const hash = this.mix(previousHash, request);
    const sequence = memory.u64(At.sequence) + 1n;
    memory.setU64(At.hash, hash);
    memory.setU64(At.sequence, sequence);
    this.journal(sequence, hash);
    const op = request[5] ?? 0;
    const out = this.scratch.fill(0);
    const status = this.perform(op, request, out);
    out.writeUInt32LE(ANSWER_MAGIC, 0);
    out[4] = 1;
    out[5] = op;
    out.writeUInt16LE(status, 6);
    request.copy(out, 8, 8, 16);
    out.writeBigUInt64LE(memory.u64(At.bootId), 16);
    out.writeBigUInt64LE(sequence, 24);
    out.writeBigUInt64LE(previousHash, 32);
    out.writeBigUInt64LE(hash, 40);
    out.writeBigUInt64LE(uptimeNs, 56);
    out.writeBigUInt64LE(memory.u64(At.progress), 64);
    out.writeBigUInt64LE(memory.u64(At.pagesDirtied), 72);
    // 80…111: the gaps of a spinning loop. This guest has no loop of its own to be interrupted.
    out.writeBigUInt64LE(BigInt(this.loadPagesMax), 112);
    return out;
  }

  private journal(sequence: bigint, hash: bigint): void {
    const { disk } = this;
    if (disk === undefined) return;
    const slot = Number((sequence * 29n) % BigInt(JOURNAL_SLOTS));
    const offset = journalOffset(slot, disk.view.length);
    const value = sequence % 8n === 5n ? DISCARDED : hash | 1n;
    this.memory.setU64(JOURNAL_AT + slot * 8, value);
    if (value === DISCARDED) disk.zero(offset, JOURNAL_BYTES);
    else disk.write(offset, journalData(value));
  }

  /** Does what is asked, writes the answer's value field, and returns the status. */
  private perform(op: number, request: Buffer, out: Buffer): number {
    const memory = this.memory;
    const a = request.readBigUInt64LE(16);
    const b = request.readBigUInt64LE(24);
    const c = request.readBigUInt64LE(32);
    switch (op) {
      case Op.incr: {
        const counter = memory.u64(At.counter) + 1n;
        memory.setU64(At.counter, counter);
        out.writeBigUInt64LE(counter, 48);
        return Status.ok;
      }
      case Op.put: {
        const slot = this.keySlot(a);
        if (slot === undefined) return Status.tableFull;
        memory.setU64(slot, 1n);
        memory.setU64(slot + 8, a);
        memory.setU64(slot + 16, b);
        out.writeBigUInt64LE(b, 48);
        return Status.ok;
      }
      case Op.get: {
        const slot = this.keySlot(a);
        if (slot === undefined || memory.u64(slot) === 0n) return Status.notFound;
        out.writeBigUInt64LE(memory.u64(slot + 16), 48);
        return Status.ok;
      }
      case Op.stats:
        return Status.ok;
      case Op.load:
        return this.setLoad(a, b, c);
      case Op.end:
        this.ended = a < BigInt(ENDS.length) ? ENDS[Number(a)] : undefined;
        return this.ended === undefined ? Status.badArgument : Status.ok;
      default:
        return Status.badOp;
    }
  }

  private setLoad(pagesPerMs: bigint, bytes: bigint, workingSet: bigint): number {
    const pages = workingSet & ~SPIN_BIT;
    if (pagesPerMs !== 0n) {
      if (bytes < 1n || bytes > BigInt(PAGE_BYTES)) return Status.badArgument;
      if (pages < 1n || pages > BigInt(this.loadPagesMax)) return Status.badArgument;
    }
    this.memory.setU64(At.loadPagesPerMs, pagesPerMs);
    this.memory.setU64(At.loadBytes, bytes);
    this.memory.setU64(At.loadPages, workingSet);
    this.memory.setU64(At.loadCursor, 0n);
    return Status.ok;
  }

  /** Where this client's answers are, taking a free place; undefined when the table is full. */
  private clientSlot(client: number): number | undefined {
    const memory = this.memory;
    const start = Math.imul(client, 0x9e3779b1) >>> 0;
    for (let probe = 0; probe < this.clientSlots; probe += 1) {
      const at = this.clientsAt + ((start + probe) % this.clientSlots) * CLIENT_BYTES;
      if (memory.u32(at + 4) === 0) {
        memory.setU32(at, client);
        memory.setU32(at + 4, 1);
        return at;
      }
      if (memory.u32(at) === client) return at;
    }
    return undefined;
  }

  /** The slot of `key`, or the free one it would take; undefined when the table is full. */
  private keySlot(key: bigint): number | undefined {
    const memory = this.memory;
    const start = Number((key * 0x9e3779b97f4a7c15n) & 0xffff_ffff_ffff_ffffn) % this.keySlots;
    for (let probe = 0; probe < this.keySlots; probe += 1) {
      const at = this.keysAt + ((start + probe) % this.keySlots) * KEY_BYTES;
      if (memory.u64(at) === 0n || memory.u64(at + 8) === key) return at;
    }
    return undefined;
  }

  /**
   * FNV-1a 64 over the previous hash and bytes 5, 8…39 of the request, in 32-bit halves: the prime
   * is 2^40 + 435, so a product is the low half moved up by 40 bits plus 435 times the whole, and
   * every intermediate value stays below 2^53.
   */
  private mix(previousHash: bigint, request: Buffer): bigint {
    let low = 0x84222325;
    let high = 0xcbf29ce4;
    const add = (byte: number): void => {
      low = (low ^ byte) >>> 0;
      const product = low * 435;
      const carry = Math.floor(product / 0x1_0000_0000);
      high = (high * 435 + carry + low * 256) % 0x1_0000_0000;
      low = product % 0x1_0000_0000;
    };
    this.word.writeBigUInt64LE(previousHash, 0);
    for (const byte of this.word) add(byte);
    add(request[5] ?? 0);
    for (let at = 8; at < BEACON_REQUEST_BYTES; at += 1) add(request[at] ?? 0);
    return (BigInt(high) << 32n) | BigInt(low);
  }
}
