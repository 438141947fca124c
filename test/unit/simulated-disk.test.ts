/** The simulated disk: its records in an epoch, and the map of what may differ. */
import { FtError } from '../../src/common/errors';
import { type DiskRecord, SimulatedDisk } from '../../src/machine/simulated-disk';
import { forEachDiskRecord, SimulatedSlot, verifyBody } from '../../src/machine/simulated-epoch';
import { SimulatedMemory } from '../../src/machine/simulated-memory';
import { SimulatedImage } from '../../src/machine/simulated-region-map';
import { ManualClock } from '../support/manual-clock';

const REGION = 65_536;
const DISKS = [
  { bytes: 4 * REGION, readOnly: false, fingerprint: 0 },
  { bytes: REGION, readOnly: true, fingerprint: 1 },
];

function bodyOf(records: DiskRecord[], pieceBytes = 1024 * 1024): Buffer[] {
  const slot = new SimulatedSlot();
  slot.fill(new SimulatedMemory(65_536), new Uint32Array(0), 0);
  slot.state.writeUInt32LE(1, 0);
  slot.diskRecords = records;
  const pieces: Buffer[] = [];
  for (let last = false; !last; ) {
    const into = Buffer.alloc(pieceBytes);
    const chunk = slot.encode(into);
    pieces.push(into.subarray(0, chunk.bytes));
    last = chunk.last;
  }
  return pieces;
}

describe('disk records', () => {
  const write = { disk: 0, offset: 512, bytes: 1024, data: Buffer.alloc(1024, 7) };
  const zero = { disk: 0, offset: 0, bytes: 4 * REGION, data: undefined };

  test('arrive as they were logged, in order, also over several pieces', () => {
    for (const pieceBytes of [1024 * 1024, 1100]) {
      const found: DiskRecord[] = [];
      for (const piece of bodyOf([write, zero, write], pieceBytes)) {
        expect(verifyBody(piece, 16, DISKS)).toBeUndefined();
        forEachDiskRecord(piece, (record) => found.push(record));
      }
      expect(found).toEqual([write, zero, write]);
    }
  });

  test.each<[string, Partial<DiskRecord>, RegExp]>([
    ['a disk that is not there', { disk: 2 }, /does not exist/],
    ['a disk that is read-only', { disk: 1 }, /read-only/],
    ['beyond the end', { offset: 4 * REGION - 512 }, /beyond the end/],
    ['far beyond the end', { offset: 2 ** 50 }, /beyond the end/],
    ['between sectors', { offset: 100 }, /no whole sectors/],
    ['nothing', { bytes: 0, data: undefined }, /no whole sectors/],
    ['half a sector', { bytes: 256, data: Buffer.alloc(256) }, /no whole sectors/],
  ])('%s is refused', (_name, change, words) => {
    const [body] = bodyOf([{ ...write, ...change }]);
    expect(verifyBody(body ?? Buffer.alloc(0), 16, DISKS)?.message).toMatch(words);
  });

  test('cut off anywhere, or of an unknown form, they are refused', () => {
    const whole = bodyOf([write])[0] ?? Buffer.alloc(0);
    for (let length = 1; length < 8 + 16 + 1024; length += 1) {
      expect(verifyBody(whole.subarray(0, length), 16, DISKS)).toBeInstanceOf(FtError);
    }
    const strange = Buffer.from(whole);
    strange.writeUInt32LE(2, 20);
    expect(verifyBody(strange, 16, DISKS)).toBeInstanceOf(FtError);
  });
});

describe('the map', () => {
  class Side {
    synced = 0;
    failures = 0;
    readonly disk: SimulatedDisk;

    constructor(
      readonly clock: ManualClock,
      readonly image = new SimulatedImage(4 * REGION),
    ) {
      const handlers = {
        onSynced: () => {
          this.synced += 1;
        },
        onSyncFailed: () => undefined,
        onApplyFailed: () => {
          this.failures += 1;
        },
      };
      this.disk = new SimulatedDisk(0, clock, { image, latencyMs: 1 }, handlers, false);
    }

    get marked(): number[] {
      return [...this.image.marks.keys()].filter((region) => this.image.marks[region] !== 0);
    }
  }

  /** Hands one log over, as an epoch does. */
  function ship(from: Side, to: Side, epoch: number): void {
    for (const record of from.disk.takeLog(epoch)) {
      to.disk.promise(record);
      to.disk.apply(record);
    }
  }

  function inStepPair(): { clock: ManualClock; a: Side; b: Side } {
    const clock = new ManualClock();
    const [a, b] = [new Side(clock), new Side(clock)];
    a.disk.beginReplication(b.disk.beginSync(a.disk.syncId));
    clock.advance(5);
    expect(a.synced).toBe(1);
    ship(a, b, 1);
    b.disk.inStep('s1');
    a.disk.acked(1);
    a.disk.inStep('s1');
    clock.advance(20);
    return { clock, a, b };
  }

  const data = (): Buffer => Buffer.alloc(512, 9);

  test('a region is marked from the write until both have it', () => {
    const { clock, a, b } = inStepPair();
    expect([a.marked, b.marked]).toEqual([[], []]);
    a.disk.write(REGION, data());
    expect(a.marked).toEqual([1]);
    clock.advance(20);
    expect(a.marked).toEqual([1]);
    ship(a, b, 2);
    expect([a.marked, b.marked]).toEqual([[1], [1]]);
    clock.advance(20);
    expect([a.marked, b.marked]).toEqual([[1], []]);
    a.disk.acked(2);
    expect([a.marked, b.marked]).toEqual([[], []]);
    expect(a.image.bytes.equals(b.image.bytes)).toBe(true);
  });

  test('acknowledged and not yet written here: still marked', () => {
    const { clock, a, b } = inStepPair();
    a.disk.write(2 * REGION, data());
    ship(a, b, 2);
    a.disk.acked(2);
    expect(a.marked).toEqual([2]);
    clock.advance(20);
    expect(a.marked).toEqual([]);
  });

  test('promised and never applied: still marked, and said at the next sync', () => {
    const { clock, a, b } = inStepPair();
    a.disk.write(3 * REGION, data());
    for (const record of a.disk.takeLog(2)) b.disk.promise(record);
    clock.advance(50);
    expect(b.marked).toEqual([3]);
    expect([...(b.disk.beginSync('s1') ?? [])]).toEqual([8]);
    expect(b.disk.beginSync('s2')).toBeUndefined();
    expect(b.disk.syncId).toBe('');
  });

  test('alone: every write stays marked, and a sync of what differs sends just that', () => {
    const { clock, a, b } = inStepPair();
    a.disk.endReplication();
    a.disk.write(0, data());
    a.disk.zero(3 * REGION, 512);
    clock.advance(20);
    expect(a.marked).toEqual([0, 3]);
    a.disk.beginReplication(b.disk.beginSync(a.disk.syncId));
    clock.advance(5);
    expect(a.disk.stats().syncBytes).toBe(2 * REGION);
    ship(a, b, 9);
    clock.advance(20);
    a.disk.acked(9);
    expect(a.marked).toEqual([0, 3]);
    a.disk.inStep('s2');
    expect(a.marked).toEqual([]);
    expect(a.image.bytes.equals(b.image.bytes)).toBe(true);
  });

  test('a failed write stays marked, and is told once', () => {
    const { clock, a, b } = inStepPair();
    b.image.failing = true;
    a.disk.write(0, data());
    a.disk.write(REGION, data());
    ship(a, b, 2);
    clock.advance(20);
    expect(b.failures).toBe(1);
    expect(b.marked).toEqual([0, 1]);
    expect(b.disk.stats().errors).toBe(2);
  });
});
