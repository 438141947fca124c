/** Acks that wait for the disks: not forever, not without a word, and never frozen. */
import { FrameFlag } from '../../src/wire/frame';
import { ApplierBench } from '../support/applier-bench';

const { last, base } = FrameFlag;

describe('a backlog of the disks', () => {
  const MUCH = 16 * 1024 * 1024 + 1;

  test('acks wait until it is small again; then one ack speaks for all', () => {
    const bench = new ApplierBench().ready();
    bench.machine.backlogBytes = MUCH;
    bench.epoch(2, 'two');
    expect(bench.acks).toEqual([1, 2]);
    bench.epoch(3, 'three');
    bench.epoch(4, 'four');
    bench.clock.advance(20);
    expect(bench.acks).toEqual([1, 2]);
    expect(bench.applier.held).toBe(4);
    expect(bench.machine.applied.at(-1)).toBe('four');
    expect(bench.stats.acksDeferred).toBe(1);
    bench.machine.backlogBytes = MUCH - 1;
    bench.clock.advance(1);
    expect(bench.acks).toEqual([1, 2, 4]);
    const { looks } = bench.machine;
    expect(looks).toBeLessThan(25);
    bench.clock.advance(20);
    expect(bench.machine.looks).toBe(looks);
    expect(bench.acks).toEqual([1, 2, 4]);
  });

  test('an epoch that finds it small acknowledges what waited, once', () => {
    const bench = new ApplierBench().ready();
    bench.machine.backlogBytes = MUCH;
    bench.epoch(2, 'two');
    bench.epoch(3, 'three');
    bench.machine.backlogBytes = 0;
    bench.epoch(4, 'four');
    bench.epoch(5, 'five');
    expect(bench.acks).toEqual([1, 2, 5]);
    bench.clock.advance(20);
    expect(bench.acks).toEqual([1, 2, 5]);
  });

  test('the base is restorable, and promotable, before its ack', () => {
    const bench = new ApplierBench();
    bench.machine.backlogBytes = MUCH;
    bench.scan('scan', last);
    bench.epoch(7, 'base', last | base);
    expect(bench.restorable).toBe(7);
    expect(bench.acks).toEqual([]);
    bench.applier.drain();
    expect(bench.machine.applied).toEqual(['scan', 'base']);
  });

  test('frozen: nothing is acknowledged, however small it gets; thawed: what waited is', () => {
    const bench = new ApplierBench().ready();
    bench.machine.backlogBytes = MUCH;
    bench.epoch(2, 'two');
    bench.epoch(3, 'three');
    bench.applier.freeze();
    bench.machine.backlogBytes = 0;
    bench.clock.advance(50);
    expect(bench.acks).toEqual([1, 2]);
    expect(bench.applier.thaw()).toBeUndefined();
    bench.clock.advance(2);
    expect(bench.acks).toEqual([1, 2, 3]);
  });

  test('that does not shrink for ten seconds is a disk that hangs; said once', () => {
    const bench = new ApplierBench().ready();
    bench.machine.backlogBytes = MUCH;
    bench.epoch(2, 'two');
    bench.epoch(3, 'three');
    bench.clock.advance(9_000);
    bench.machine.backlogBytes += 4096;
    bench.epoch(4, 'four');
    bench.clock.advance(999);
    expect(bench.stuck).toEqual([]);
    bench.clock.advance(1);
    expect(bench.stuck).toHaveLength(1);
    expect(bench.stuck[0]?.code).toBe('FT_ERR_DISK_STUCK');
    expect(bench.stuck[0]?.message).toMatch(/^Nothing of 16781313 bytes .* for 10 s: /);
    bench.clock.advance(30_000);
    expect(bench.stuck).toHaveLength(1);
    expect(bench.acks).toEqual([1, 2]);
    expect(bench.clock.timers).toBe(0);
  });

  test('that shrinks, however slowly, is waited for', () => {
    const bench = new ApplierBench().ready();
    bench.machine.backlogBytes = MUCH + 20;
    bench.epoch(2, 'two');
    bench.epoch(3, 'three');
    for (let i = 0; i < 20; i += 1) {
      bench.clock.advance(9_999);
      bench.machine.backlogBytes -= 1;
      bench.clock.advance(1);
    }
    expect(bench.stuck).toEqual([]);
    expect(bench.acks).toEqual([1, 2]);
    bench.machine.backlogBytes -= 1;
    bench.clock.advance(1);
    expect(bench.acks).toEqual([1, 2, 3]);
    bench.clock.advance(30_000);
    expect(bench.stuck).toEqual([]);
  });

  test('frozen, nothing is said of it; thawed, it has ten seconds anew', () => {
    const bench = new ApplierBench().ready();
    bench.machine.backlogBytes = MUCH;
    bench.epoch(2, 'two');
    bench.epoch(3, 'three');
    bench.clock.advance(9_000);
    bench.applier.freeze();
    bench.clock.advance(60_000);
    expect(bench.applier.thaw()).toBeUndefined();
    bench.clock.advance(9_999);
    expect(bench.stuck).toEqual([]);
    bench.clock.advance(1);
    expect(bench.stuck).toHaveLength(1);
  });

  test('stopped: what waited is never acknowledged', () => {
    const bench = new ApplierBench().ready();
    bench.machine.backlogBytes = MUCH;
    bench.epoch(2, 'two');
    bench.epoch(3, 'three');
    bench.applier.stop();
    bench.machine.backlogBytes = 0;
    bench.clock.advance(50);
    expect(bench.acks).toEqual([1, 2]);
  });
});
