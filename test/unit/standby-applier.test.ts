/** The checkpoint applier: whole epochs, in order, acked when held, applied without stalls. */
import { FtError } from '../../src/common/errors';
import { FrameFlag } from '../../src/wire/frame';
import { ApplierBench } from '../support/applier-bench';

const { last, base, lz4 } = FrameFlag;

test('a small epoch is acknowledged and applied at once', () => {
  const bench = new ApplierBench().ready();
  expect(bench.restorable).toBe(1);
  expect(bench.epoch(2, 'two')).toBeUndefined();
  expect(bench.acks).toEqual([1, 2]);
  expect(bench.machine.applied).toEqual(['scan', 'base', 'two']);
});

test('an epoch in pieces is acknowledged by its last piece, and none is applied before', () => {
  const bench = new ApplierBench().ready();
  bench.epoch(2, 'a', 0);
  bench.epoch(2, 'b', 0);
  expect(bench.machine.applied).toEqual(['scan', 'base']);
  expect(bench.acks).toEqual([1]);
  bench.epoch(2, 'c', last);
  expect(bench.acks).toEqual([1, 2]);
  bench.clock.advance(1);
  expect(bench.machine.applied).toEqual(['scan', 'base', 'a', 'b', 'c']);
});

test('epochs that are read together: one ack, before any of them is applied', () => {
  const bench = new ApplierBench().ready();
  const applied: number[] = [];
  bench.machine.apply = () => {
    applied.push(bench.acks.length);
    return { pages: 1, auditMismatches: [], diskBacklogBytes: 0 };
  };
  const error = bench.together(
    () => bench.epoch(2, 'two') ?? bench.epoch(3, 'three') ?? bench.epoch(4, 'half', 0),
  );
  expect(error).toBeUndefined();
  expect(bench.acks).toEqual([1, 3]);
  expect(applied).toEqual([2, 2]);
  expect(bench.applier.held).toBe(3);
  expect(bench.stats.epochsHeld).toBe(3);
});

test('a damaged frame takes the acks of its turn with it', () => {
  const bench = new ApplierBench().ready();
  expect(bench.together(() => bench.epoch(2, 'two') ?? bench.epoch(3, 'bad'))?.code).toBe(
    'FT_ERR_EPOCH_BODY',
  );
  bench.applier.stop();
  expect(bench.acks).toEqual([1]);
});

test('a piece of the scan within an epoch is applied after the epoch, as it was written', () => {
  const bench = new ApplierBench();
  bench.epoch(1, 'a', 0);
  bench.scan('scan');
  bench.epoch(1, 'b', 0);
  bench.clock.advance(10);
  expect(bench.machine.applied).toEqual([]);
  bench.epoch(1, 'c', last);
  expect(bench.machine.applied).toEqual(['a', 'scan', 'b', 'c']);
});

test('a large epoch is applied in slices; what comes meanwhile queues behind it', () => {
  const bench = new ApplierBench().ready();
  for (let i = 0; i < 9; i += 1) bench.epoch(2, `p${i}`, 0);
  const turns: number[] = [];
  bench.machine.applyCostMs = 0;
  const apply = bench.machine.apply.bind(bench.machine);
  bench.machine.apply = (body) => {
    turns.push(1);
    // Each piece takes half of what a turn may take.
    (bench.clock as unknown as { now: number }).now += 500;
    return apply(body);
  };
  bench.epoch(2, 'p9', last);
  expect(turns).toHaveLength(2);
  bench.clock.soon(() => {
    bench.epoch(3, 'three');
    expect(bench.acks).toEqual([1, 2, 3]);
    expect(turns.length).toBeLessThanOrEqual(6);
  });
  bench.clock.advance(100);
  expect(bench.machine.applied.slice(2)).toEqual(
    [...'0123456789'].map((i) => `p${i}`).concat('three'),
  );
  expect(bench.stats.epochApplied).toBe(3);
});

test('drain applies whole epochs at once and drops an unfinished one', () => {
  const bench = new ApplierBench().ready();
  bench.epoch(2, 'a', 0);
  bench.epoch(2, 'b', last);
  bench.epoch(3, 'c', 0);
  bench.applier.drain();
  expect(bench.machine.applied).toEqual(['scan', 'base', 'a', 'b']);
  expect(bench.applier.held).toBe(2);
});

test.each([
  ['an epoch again', (b: ApplierBench) => b.epoch(1, 'x')],
  ['a gap', (b: ApplierBench) => b.epoch(3, 'x')],
  ['epoch 0', (b: ApplierBench) => b.epoch(0, 'x')],
  ['a second base', (b: ApplierBench) => b.epoch(2, 'x', last | base)],
  ['a sync piece after the scan', (b: ApplierBench) => b.scan('x')],
  ['another epoch inside one', (b: ApplierBench) => b.epoch(2, 'x', 0) ?? b.epoch(3, 'y')],
  [
    'a piece that is suddenly base',
    (b: ApplierBench) => b.epoch(2, 'x', 0) ?? b.epoch(2, 'y', last | base),
  ],
])('%s is refused, and neither acknowledged nor applied', (_name, act) => {
  const bench = new ApplierBench().ready();
  expect(act(bench)?.code).toBe('FT_ERR_EPOCH_ORDER');
  expect(bench.acks).toEqual([1]);
  expect(bench.machine.applied).toEqual(['scan', 'base']);
});

test('a base before the end of the scan is refused', () => {
  const bench = new ApplierBench();
  bench.scan('scan');
  expect(bench.epoch(1, 'x', last | base)?.code).toBe('FT_ERR_EPOCH_ORDER');
  expect(bench.applier.restorable).toBe(false);
});

test('the first epoch of a session may have any number from 1', () => {
  const bench = new ApplierBench();
  expect(bench.epoch(41, 'x')).toBeUndefined();
  expect(bench.epoch(43, 'y')?.facts['expected']).toBe(42);
});

test('one damaged piece: the epoch is never acknowledged', () => {
  const bench = new ApplierBench().ready();
  expect(bench.epoch(2, 'a', 0)).toBeUndefined();
  expect(bench.epoch(2, 'bad', last)?.code).toBe('FT_ERR_EPOCH_BODY');
  expect(bench.acks).toEqual([1]);
});

test('a compressed body goes through the decompressor, and so does its error', () => {
  const bench = new ApplierBench({
    decompress: (body) =>
      Buffer.from(body).toString() === 'broken'
        ? new FtError('FT_ERR_FRAME_LZ4', 'no')
        : Buffer.from(`un${Buffer.from(body).toString()}`),
  }).ready();
  bench.epoch(2, 'packed', last | lz4);
  expect(bench.machine.applied.at(-1)).toBe('unpacked');
  expect(bench.epoch(3, 'broken', last | lz4)?.code).toBe('FT_ERR_FRAME_LZ4');
});

test('what is held is bounded by the memory and some', () => {
  const bench = new ApplierBench().ready();
  const piece = 'x'.repeat(8 * 1024 * 1024);
  let error: FtError | undefined;
  let pieces = 0;
  for (; error === undefined && pieces < 20; pieces += 1) error = bench.epoch(2, piece, 0);
  expect(error?.code).toBe('FT_ERR_HELD_BYTES');
  expect(pieces).toBe(9);
});

test('frozen: nothing is acknowledged or applied; thawed: everything, in order', () => {
  const bench = new ApplierBench().ready();
  bench.epoch(2, 'half', 0);
  bench.applier.freeze();
  bench.epoch(2, 'whole', last);
  bench.epoch(3, 'three');
  bench.clock.advance(10);
  expect(bench.acks).toEqual([1]);
  expect(bench.applier.held).toBe(1);
  expect(bench.applier.thaw()).toBeUndefined();
  bench.clock.advance(1);
  expect(bench.acks).toEqual([1, 3]);
  expect(bench.machine.applied.slice(2)).toEqual(['half', 'whole', 'three']);
});

test('frozen and then drained: the image is that of the last acknowledged epoch', () => {
  const bench = new ApplierBench().ready();
  bench.applier.freeze();
  bench.epoch(2, 'two');
  bench.applier.drain();
  expect(bench.machine.applied).toEqual(['scan', 'base']);
  expect(bench.acks).toEqual([1]);
});

test('a disorder that came while frozen is found when thawed', () => {
  const bench = new ApplierBench().ready();
  bench.applier.freeze();
  expect(bench.epoch(9, 'x')).toBeUndefined();
  expect(bench.applier.thaw()?.code).toBe('FT_ERR_EPOCH_ORDER');
});

test('audit mismatches count from the base epoch on', () => {
  const bench = new ApplierBench();
  bench.machine.mismatches = [3];
  bench.scan('scan');
  bench.epoch(1, 'early');
  bench.scan('rest', last);
  expect(bench.mismatches).toEqual([]);
  bench.epoch(2, 'base', last | base);
  bench.epoch(3, 'later');
  expect(bench.mismatches).toEqual([2, 3]);
});

test.each([
  ['kept', true, []],
  ['not kept when the audit finds fault with what was left to apply', false, [3]],
])('the image of a session that is over is %s', (_, kept, mismatches) => {
  const bench = new ApplierBench().ready();
  bench.machine.applyCostMs = 2;
  bench.together(() => bench.epoch(2, 'a', 0) ?? bench.epoch(2, 'b'));
  expect(bench.machine.applied).toEqual(['scan', 'base', 'a']);
  bench.machine.mismatches = mismatches;
  bench.applier.keepImage('s');
  expect(bench.machine.applied).toEqual(['scan', 'base', 'a', 'b']);
  expect(bench.applier.begin([], { session: 's', epoch: 1 }).catchUp).toBe(kept);
});

test('begin forgets everything', () => {
  const bench = new ApplierBench().ready();
  bench.epoch(2, 'a', 0);
  bench.applier.begin([]);
  expect(bench.applier.restorable).toBe(false);
  expect(bench.applier.held).toBe(0);
  bench.ready();
  expect(bench.machine.applied).toEqual(['scan', 'base']);
});

describe('the guest’s end', () => {
  const end = { kind: 'reset', cause: 'x' };

  test('counts when its epoch is held whole, not before', () => {
    const bench = new ApplierBench().ready();
    expect(bench.guestEnd(2)).toBeUndefined();
    bench.epoch(2, 'a', 0);
    expect(bench.ends).toEqual([]);
    bench.epoch(2, 'b', last);
    expect(bench.ends).toEqual([end]);
    expect(bench.acks).toEqual([1, 2]);
  });

  test('frozen, it waits in line with the epochs', () => {
    const bench = new ApplierBench().ready();
    bench.applier.freeze();
    bench.guestEnd(2);
    bench.epoch(2, 'two');
    expect(bench.ends).toEqual([]);
    expect(bench.applier.thaw()).toBeUndefined();
    expect(bench.ends).toEqual([end]);
  });

  test('of an epoch that is not the next one is refused', () => {
    expect(new ApplierBench().ready().guestEnd(1)?.code).toBe('FT_ERR_EPOCH_ORDER');
    expect(new ApplierBench().ready().guestEnd(3)?.code).toBe('FT_ERR_EPOCH_ORDER');
    expect(new ApplierBench().guestEnd(0)?.code).toBe('FT_ERR_EPOCH_ORDER');
    const within = new ApplierBench().ready();
    within.epoch(2, 'a', 0);
    expect(within.guestEnd(2)?.code).toBe('FT_ERR_EPOCH_ORDER');
    const twice = new ApplierBench().ready();
    twice.guestEnd(2);
    expect(twice.guestEnd(2)?.code).toBe('FT_ERR_EPOCH_ORDER');
    expect(new ApplierBench().ready().guestEnd(2, { kind: 'pause' })?.code).toBe('FT_ERR_MESSAGE');
  });

  test('is the last: no epoch follows', () => {
    const bench = new ApplierBench().ready();
    bench.guestEnd(2);
    expect(bench.epoch(2, 'two')).toBeUndefined();
    expect(bench.epoch(3, 'three')?.code).toBe('FT_ERR_EPOCH_ORDER');
  });

  test('is forgotten with a new sync', () => {
    const bench = new ApplierBench().ready();
    bench.guestEnd(2);
    bench.applier.begin([]);
    bench.ready();
    bench.epoch(2, 'two');
    expect(bench.ends).toEqual([]);
    expect(bench.acks).toEqual([1, 1, 2]);
  });
});
