/** The simulated machine keeps the contract of machine.ts. */
import fc from 'fast-check';
import type { CutPolicy, GuestEnd } from '../../src/machine/machine';
import {
  SimulatedMachine,
  type SimulatedMachineOptions,
} from '../../src/machine/simulated-machine';
import { PAGE_BYTES } from '../../src/machine/simulated-memory';
import type { SimulatedNetwork } from '../../src/machine/simulated-network';
import { beaconRequest } from '../sim/sim-lan';
import { ManualClock } from '../support/manual-clock';

const POLICY: CutPolicy = {
  intervalUs: 1000,
  dirtyBudgetPages: 1000,
  cutOnOutput: true,
  inFlightMax: 3,
  auditPages: 2,
  leaseUs: 0,
};

class Bench {
  readonly clock = new ManualClock();
  readonly sent: Buffer[] = [];
  readonly machine: SimulatedMachine;
  private onPacket: (payload: Buffer, from: string) => void = () => undefined;
  cutCalls = 0;
  readonly ends: GuestEnd[] = [];

  constructor(options: Partial<SimulatedMachineOptions> = {}) {
    const network: SimulatedNetwork = {
      open: (onPacket) => {
        this.onPacket = onPacket;
      },
      send: (payload) => void this.sent.push(payload),
      close: () => {
        this.onPacket = () => undefined;
      },
    };
    this.machine = new SimulatedMachine({
      memoryBytes: 256 * 1024,
      clock: this.clock,
      network,
      bootId: 99n,
      outboxBytesMax: 1024 * 1024,
      ...options,
    });
    this.machine.setHandlers({
      onCut: () => {
        this.cutCalls += 1;
      },
      onGuestEnd: (end) => this.ends.push(end),
      onStopped: () => undefined,
      onDisksSynced: () => undefined,
      onDiskFailed: () => undefined,
    });
  }

  ask(request: Buffer): void {
    this.onPacket(request, 'c');
  }

  /** Takes the next cut; its pieces, each as long as `pieceBytes` allows. */
  take(pieceBytes = 1024 * 1024): { epoch: number; base: boolean; pieces: Buffer[] } | undefined {
    let room = Buffer.alloc(pieceBytes);
    const cut = this.machine.nextCut(room);
    if (cut === undefined) return undefined;
    const { epoch, base } = cut;
    const pieces = [room.subarray(0, cut.chunk.bytes)];
    for (let { last } = cut.chunk; !last; ) {
      room = Buffer.alloc(pieceBytes);
      const chunk = this.machine.encodeCut(room);
      pieces.push(room.subarray(0, chunk.bytes));
      last = chunk.last;
    }
    return { epoch, base, pieces };
  }

  scan(): Buffer[] {
    const bodies: Buffer[] = [];
    for (let last = false; !last; ) {
      const room = Buffer.alloc(64 * 1024);
      const chunk = this.machine.scanNext(room);
      bodies.push(room.subarray(0, chunk.bytes));
      last = chunk.last;
    }
    return bodies;
  }
}

/** A primary whose base epoch was cut and committed, and a standby with that image. */
function replicated(
  options: Partial<SimulatedMachineOptions> = {},
  policy = POLICY,
): { p: Bench; s: Bench } {
  const p = new Bench(options);
  const s = new Bench(options);
  p.machine.boot();
  p.machine.beginReplication(policy, 1, []);
  s.machine.beginSync([]);
  for (const body of p.scan()) s.machine.apply(body);
  p.machine.holdOutput();
  p.clock.advance(2);
  for (let cut = p.take(); cut !== undefined; cut = p.take()) {
    for (const piece of cut.pieces) s.machine.apply(piece);
    p.machine.commit(cut.epoch);
  }
  return { p, s };
}

function drain(p: Bench, s: Bench): number[] {
  const mismatches: number[] = [];
  for (let cut = p.take(); cut !== undefined; cut = p.take()) {
    for (const piece of cut.pieces) {
      expect(s.machine.verify(piece)).toBeUndefined();
      mismatches.push(...s.machine.apply(piece).auditMismatches);
    }
    p.machine.commit(cut.epoch);
  }
  return mismatches;
}

test('output passes while open, is held from the base on, and leaves with its epoch', () => {
  const p = new Bench();
  p.machine.boot();
  p.ask(beaconRequest('incr', 1, 1));
  expect(p.sent).toHaveLength(1);
  p.machine.beginReplication(POLICY, 1, []);
  p.ask(beaconRequest('incr', 1, 2));
  expect(p.sent).toHaveLength(2);
  p.scan();
  p.machine.holdOutput();
  p.ask(beaconRequest('incr', 1, 3));
  expect(p.sent).toHaveLength(3);
  p.clock.advance(1.5);
  expect(p.take()).toMatchObject({ epoch: 1, base: true });
  p.machine.commit(1);
  p.ask(beaconRequest('incr', 1, 4));
  p.clock.advance(0);
  expect(p.sent).toHaveLength(3);
  const cut = p.take();
  expect(cut).toMatchObject({ epoch: 2, base: false });
  p.machine.commit(1);
  expect(p.sent).toHaveLength(3);
  p.machine.commit(2);
  expect(p.sent).toHaveLength(4);
});

test('cuts wait at the bound, the guest waits at its budget, and both go on', () => {
  const p = new Bench();
  p.machine.boot();
  p.machine.beginReplication({ ...POLICY, dirtyBudgetPages: 16, inFlightMax: 2 }, 1, []);
  p.scan();
  p.machine.holdOutput();
  p.clock.advance(20);
  let cuts = 0;
  while (p.take() !== undefined) cuts += 1;
  expect(cuts).toBe(2);
  p.ask(beaconRequest('load', 1, 1, 50n, 8n, 30n));
  p.clock.advance(10);
  expect(p.machine.memory.dirtyPages).toBeLessThanOrEqual(20);
  p.ask(beaconRequest('incr', 1, 2));
  const { outboxFrames } = p.machine.stats();
  p.machine.commit(2);
  p.clock.advance(1);
  expect(p.machine.stats().outboxFrames).toBeGreaterThan(outboxFrames);
});

test('the outbox bound stops the guest until something is released', () => {
  const p = new Bench({ outboxBytesMax: 400 });
  p.machine.boot();
  p.machine.beginReplication({ ...POLICY, inFlightMax: 1 }, 1, []);
  p.scan();
  p.machine.holdOutput();
  p.clock.advance(1.5);
  for (let id = 1; id <= 10; id += 1) p.ask(beaconRequest('incr', 1, id));
  expect(p.machine.stats().outboxFrames).toBe(4);
  p.machine.endReplication();
  p.machine.openOutput();
  expect(p.sent).toHaveLength(10);
});

test('a fenced machine says nothing any more and forgets what it held', () => {
  const { p } = replicated();
  p.ask(beaconRequest('incr', 1, 1));
  expect(p.machine.stats().outboxFrames).toBe(1);
  p.machine.fence();
  p.machine.openOutput();
  p.ask(beaconRequest('incr', 1, 2));
  p.clock.advance(10);
  expect(p.sent).toEqual([]);
  expect(p.machine.stats()).toMatchObject({ outboxFrames: 0, framesDropped: 1 });
});

test('epoch after epoch the copy is the same, and a promoted copy goes on', () => {
  const { p, s } = replicated();
  for (let id = 1; id <= 50; id += 1) {
    p.ask(beaconRequest(id % 2 === 0 ? 'incr' : 'put', 3, id, BigInt(id), 5n));
    p.clock.advance(0.3);
    expect(drain(p, s)).toEqual([]);
  }
  p.clock.advance(2);
  drain(p, s);
  expect(s.machine.memory.bytes.equals(p.machine.memory.bytes)).toBe(true);
  s.machine.promote();
  s.ask(beaconRequest('incr', 3, 51));
  expect(s.sent[0]?.readBigUInt64LE(24)).toBe(51n);
  expect(s.sent[0]?.readBigUInt64LE(48)).toBe(26n);
  // A request that was answered before gets the same answer, byte for byte, from the copy.
  s.ask(beaconRequest('incr', 3, 50));
  expect(s.sent[1]).toEqual(p.sent[49]);
});

test('uptime goes on from the cut and never back', () => {
  const { p, s } = replicated();
  p.clock.advance(5000);
  drain(p, s);
  p.ask(beaconRequest('stats', 1, 1));
  p.clock.advance(0);
  drain(p, s);
  s.machine.promote();
  s.ask(beaconRequest('stats', 1, 2));
  const before = p.sent[0]?.readBigUInt64LE(56) ?? 0n;
  const after = s.sent[0]?.readBigUInt64LE(56) ?? 0n;
  expect(after).toBeGreaterThanOrEqual(before);
});

test('a large epoch comes in pieces, and damaged pieces are refused whole', () => {
  const { p, s } = replicated();
  p.ask(beaconRequest('load', 1, 1, 40n, 4096n, 40n));
  p.clock.advance(0);
  drain(p, s);
  p.clock.advance(3);
  const cut = p.take(16 * 1024);
  expect(cut?.pieces.length).toBeGreaterThan(5);
  const image = Buffer.from(s.machine.memory.bytes);
  const piece = cut?.pieces[0] ?? Buffer.alloc(0);
  for (const length of [1, 7, 8, 9, piece.length - 1]) {
    expect(s.machine.verify(piece.subarray(0, length))?.code).toBe('FT_ERR_EPOCH_BODY');
  }
  const far = Buffer.from(piece);
  far.writeUInt32LE(64, 4);
  expect(s.machine.verify(far)?.message).toContain('beyond the memory');
  expect(s.machine.memory.bytes.equals(image)).toBe(true);
  for (const one of cut?.pieces ?? []) s.machine.apply(one);
  expect(s.machine.memory.bytes.equals(p.machine.memory.bytes)).toBe(false);
});

test('verify never throws and never writes, whatever the bytes', () => {
  const s = new Bench();
  s.machine.beginSync([]);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      const error = s.machine.verify(bytes);
      expect(error === undefined || error.code === 'FT_ERR_EPOCH_BODY').toBe(true);
    }),
  );
  expect(s.machine.memory.bytes.every((byte) => byte === 0)).toBe(true);
});

test('a page hidden from the dirty set is found by the audit and healed', () => {
  // All pages in each audit: a guest that keeps writing would heal the page before a slow one came.
  const policy = { ...POLICY, auditPages: 64 };
  const { p, s } = replicated({ faults: ['hide-dirty-page'] }, policy);
  p.ask(beaconRequest('load', 1, 1, 4n, 64n, 20n));
  const found: number[] = [];
  for (let i = 0; i < 400 && found.length === 0; i += 1) {
    p.clock.advance(1);
    found.push(...drain(p, s));
  }
  expect(found.length).toBeGreaterThan(0);
  const gfn = found[0] ?? 0;
  p.ask(beaconRequest('load', 1, 2));
  p.machine.heal([gfn]);
  p.clock.advance(1.5);
  drain(p, s);
  const at = gfn * PAGE_BYTES;
  const page = (bench: Bench): Buffer => bench.machine.memory.bytes.subarray(at, at + PAGE_BYTES);
  expect(page(s).equals(page(p))).toBe(true);
  expect(p.machine.stats().auditPagesHealed).toBe(1);
});

test('without the fault the audit is silent through all memory', () => {
  const { p, s } = replicated();
  p.ask(beaconRequest('load', 1, 1, 4n, 64n, 20n));
  for (let i = 0; i < 200; i += 1) {
    p.clock.advance(1);
    expect(drain(p, s)).toEqual([]);
  }
});

test('release-early leaks what should be held', () => {
  const { p } = replicated({ faults: ['release-early'] });
  p.ask(beaconRequest('incr', 1, 1));
  expect(p.sent).toHaveLength(1);
});

test('memory too small or not in whole pages is refused by name', () => {
  expect(() => new Bench({ memoryBytes: 4096 })).toThrow(/--memory/);
  expect(() => new Bench({ memoryBytes: 1024 * 1024 + 1 })).toThrow(/--memory/);
});

describe('a halted guest', () => {
  const INCR = (id: number): Buffer => beaconRequest('incr', 1, id, 0n);

  test('does nothing, and the cuts that are made of it say so', () => {
    const { p, s } = replicated();
    p.ask(INCR(1));
    p.machine.haltGuest();
    p.machine.haltGuest();
    p.ask(INCR(2));
    p.clock.advance(0);
    const room = Buffer.alloc(1024 * 1024);
    const halted: boolean[] = [];
    for (let cut = p.machine.nextCut(room); cut !== undefined; cut = p.machine.nextCut(room)) {
      halted.push(cut.halted);
      s.machine.apply(room.subarray(0, cut.chunk.bytes));
      p.machine.commit(cut.epoch);
    }
    // The output of the first request asked for a cut, and so did the halt.
    expect(halted.at(-1)).toBe(true);
    expect(p.sent).toHaveLength(1);
    p.clock.advance(5);
    drain(p, s);
    expect(p.sent).toHaveLength(1);
    expect(s.machine.memory.bytes.equals(p.machine.memory.bytes)).toBe(true);
    p.machine.resumeGuest();
    p.clock.advance(2);
    drain(p, s);
    expect(p.sent).toHaveLength(2);
  });

  test('a cut of an earlier halt is none of this one', () => {
    const { p } = replicated();
    p.machine.haltGuest();
    p.clock.advance(0);
    p.machine.resumeGuest();
    p.ask(INCR(1));
    p.machine.haltGuest();
    const room = Buffer.alloc(1024 * 1024);
    const first = p.machine.nextCut(room);
    expect(first?.halted).toBe(false);
    p.clock.advance(2);
    expect(p.machine.nextCut(room)?.halted).toBe(true);
  });

  test('waits when it is booted or promoted halted', () => {
    const bench = new Bench();
    bench.machine.haltGuest();
    bench.machine.boot();
    bench.ask(INCR(1));
    expect(bench.sent).toHaveLength(0);
    bench.machine.resumeGuest();
    expect(bench.sent).toHaveLength(1);
    const { s } = replicated();
    s.machine.haltGuest();
    s.machine.promote();
    s.ask(INCR(1));
    expect(s.sent).toHaveLength(0);
    s.machine.resumeGuest();
    expect(s.sent).toHaveLength(1);
  });

  test('output of an earlier session leaves with the base of the next, not before', () => {
    const { p } = replicated();
    p.ask(INCR(1));
    p.clock.advance(0);
    p.machine.haltGuest();
    p.machine.endReplication();
    p.machine.beginReplication(POLICY, 100, []);
    p.clock.advance(2);
    const bases: boolean[] = [];
    const commitAll = (): void => {
      for (let cut = p.take(); cut !== undefined; cut = p.take()) {
        bases.push(cut.base);
        p.machine.commit(cut.epoch);
        expect(p.sent).toHaveLength(bases.includes(true) ? 1 : 0);
      }
    };
    commitAll();
    p.machine.holdOutput();
    p.clock.advance(2);
    commitAll();
    expect([bases[0], bases.includes(true)]).toEqual([false, true]);
  });
});

describe('catch-up', () => {
  const pagesOf = (map: Buffer): number[] =>
    Array.from({ length: map.length * 8 }, (_, gfn) => gfn).filter(
      (gfn) => (((map[gfn >> 3] ?? 0) >> (gfn & 7)) & 1) === 1,
    );

  test('what was lost on the way and what changed since is in the map, and only that is sent', () => {
    const { p, s } = replicated();
    for (let i = 2; i < 30; i += 1) {
      p.ask(beaconRequest('incr', 1, i));
      p.clock.advance(2);
      drain(p, s);
    }
    // Cut, and never sent.
    p.ask(beaconRequest('put', 1, 40, 3n, 77n));
    p.clock.advance(2);
    p.machine.endReplication(true);
    p.machine.openOutput();
    const since = p.machine.notedSince();
    expect(since).toBeGreaterThan(1);
    p.ask(beaconRequest('put', 1, 41, 900n, 78n));
    p.machine.beginReplication(POLICY, 1, [], true);
    const map = Buffer.alloc(8);
    expect(p.machine.catchUpMap(map)).toBe(8);
    const pages = pagesOf(map);
    expect(pages.length).toBeGreaterThan(0);
    expect(pages.length).toBeLessThanOrEqual(16);
    s.machine.beginCatchUp([]);
    expect(s.machine.memory.bytes.equals(p.machine.memory.bytes)).toBe(false);
    s.machine.clearPages(map);
    const bodies = p.scan();
    expect(bodies.reduce((sum, body) => sum + body.length, 0)).toBeLessThan(17 * (PAGE_BYTES + 8));
    for (const body of bodies) s.machine.apply(body);
    p.machine.holdOutput();
    p.clock.advance(2);
    expect(drain(p, s)).toEqual([]);
    expect(s.machine.memory.bytes.equals(p.machine.memory.bytes)).toBe(true);
  });

  test('without noting, or with too much of it, the map is all of memory', () => {
    const { p } = replicated();
    p.machine.endReplication();
    expect(p.machine.notedSince()).toBeUndefined();
    p.machine.beginReplication(POLICY, 1, [], true);
    const map = Buffer.alloc(8);
    p.machine.catchUpMap(map);
    expect(pagesOf(map)).toHaveLength(64);
    p.machine.endReplication(true);
    expect(p.machine.notedSince()).toBe(0);
    p.ask(beaconRequest('load', 1, 50, 40n, 8n, 40n));
    p.clock.advance(3);
    expect(p.machine.notedSince()).toBeUndefined();
  });

  test('a map that does not fit touches nothing', () => {
    const { s } = replicated();
    const before = Buffer.from(s.machine.memory.bytes);
    expect(() => s.machine.clearPages(Buffer.alloc(9, 0xff))).toThrow(/map of pages/);
    expect(s.machine.memory.bytes.equals(before)).toBe(true);
  });
});
