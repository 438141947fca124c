/** The primary's side of the lease: which moments it hands to the machine, and what it says. */
import type { Logger } from '../../src/common/logger';
import { Lease, leaseUsOf } from '../../src/primary/lease';

class Bench {
  nowUs = 1_000_000;
  readonly extended: number[] = [];
  readonly said: string[] = [];
  readonly lease: Lease;

  constructor(suspectAfterMs = 50) {
    const logger: Logger = {
      info: () => undefined,
      warn: () => undefined,
      error: (message) => this.said.push(message),
    };
    const machine = {
      leaseNowUs: () => this.nowUs,
      extendLease: (sentAtUs: number) => {
        this.extended.push(sentAtUs);
      },
    };
    this.lease = new Lease(machine, logger);
    this.lease.begin(suspectAfterMs);
  }

  /** A beat that is echoed `roundTripUs` later. */
  beat(roundTripUs: number): void {
    const sequence = this.lease.nextBeat();
    this.nowUs += roundTripUs;
    expect(this.lease.echoed(sequence)).toBeUndefined();
  }
}

test('the lease is shorter than what the standby waits, and not by much', () => {
  for (const ms of [2, 10, 50, 300, 5000, 60_000]) {
    expect(leaseUsOf(ms)).toBeLessThanOrEqual(ms * 1000 - 500);
    expect(leaseUsOf(ms)).toBeLessThanOrEqual(ms * 990);
    expect(leaseUsOf(ms)).toBeGreaterThanOrEqual(ms * 700);
  }
});

test('an echo extends to the moment at which its beat was sent, not to that of its coming', () => {
  const bench = new Bench();
  const first = bench.lease.nextBeat();
  bench.nowUs += 10_000;
  const second = bench.lease.nextBeat();
  bench.nowUs += 10_000;
  bench.lease.echoed(first);
  bench.lease.echoed(second);
  expect(bench.extended).toEqual([1_000_000, 1_010_000]);
});

test('an echo counts once, an older one and none at all never', () => {
  const bench = new Bench();
  for (let i = 0; i < 3; i += 1) bench.lease.nextBeat();
  for (const echo of [0, 2, 2, 1, 0]) expect(bench.lease.echoed(echo)).toBeUndefined();
  expect(bench.extended).toHaveLength(1);
});

test('an echo of a beat that was never sent is refused', () => {
  const bench = new Bench();
  expect(bench.lease.echoed(1)?.code).toBe('FT_ERR_ECHO');
  bench.lease.nextBeat();
  expect(bench.lease.echoed(2)?.code).toBe('FT_ERR_ECHO');
  bench.lease.begin(50);
  expect(bench.lease.echoed(1)?.code).toBe('FT_ERR_ECHO');
  expect(bench.extended).toEqual([]);
});

test('a moment that is not remembered any more extends nothing', () => {
  const bench = new Bench();
  for (let i = 0; i < 1500; i += 1) bench.lease.nextBeat();
  bench.lease.echoed(400);
  expect(bench.extended).toEqual([]);
  bench.lease.echoed(1400);
  expect(bench.extended).toHaveLength(1);
});

test('a round trip longer than the lease is said once in a session', () => {
  const bench = new Bench(50);
  bench.beat(60_000);
  bench.beat(1000);
  for (let i = 0; i < 19; i += 1) bench.beat(60_000);
  expect(bench.said).toEqual([]);
  for (let i = 0; i < 100; i += 1) bench.beat(60_000);
  expect(bench.said).toHaveLength(1);
  expect(bench.said[0]).toMatch(/60 ms.*50 ms.*--suspect-after-ms/);
  bench.lease.begin(50);
  for (let i = 0; i < 100; i += 1) bench.beat(60_000);
  expect(bench.said).toHaveLength(2);
});
