/** The failure detector: silence, closure, and the difference between a silent peer and a stall. */
import type { Clock, Timer } from '../../src/common/clock';
import { FailureDetector } from '../../src/common/failure-detector';
import { ManualClock } from '../support/manual-clock';

interface Watch {
  readonly detector: FailureDetector;
  readonly suspicions: { why: string; silentMs: number; atUs: number }[];
}

function watch(clock: Clock): Watch {
  const suspicions: Watch['suspicions'] = [];
  const detector = new FailureDetector({
    clock,
    suspectAfterMs: 50,
    stallGraceMs: 20,
    onSuspect: (why, silentMs) => suspicions.push({ why, silentMs, atUs: clock.nowUs() }),
  });
  return { detector, suspicions };
}

/** A clock whose timers wait while the process is stalled, as a real event loop's do. */
class StallingClock implements Clock {
  readonly inner = new ManualClock();
  private stalled = false;
  private waiting: (() => void)[] = [];

  nowUs(): number {
    return this.inner.nowUs();
  }
  after(delayMs: number, fn: () => void): Timer {
    return this.inner.after(delayMs, () => this.pass(fn));
  }
  every(intervalMs: number, fn: () => void): Timer {
    return this.inner.every(intervalMs, () => this.pass(fn));
  }
  soon(fn: () => void): void {
    this.inner.soon(fn);
  }
  stall(ms: number, inputAfterwards: () => void): void {
    this.stalled = true;
    this.inner.advance(ms);
    this.stalled = false;
    // Timers first, then waiting input, then what soon() was given: the order of Node's loop.
    const waiting = this.waiting;
    this.waiting = [];
    for (const fn of waiting) fn();
    inputAfterwards();
    this.inner.settle();
  }
  private pass(fn: () => void): void {
    if (this.stalled) this.waiting.push(fn);
    else fn();
  }
}

test('silence is suspected once, after the time and not before', () => {
  const clock = new ManualClock();
  const { detector, suspicions } = watch(clock);
  detector.start();
  clock.advance(49);
  expect(suspicions).toEqual([]);
  clock.advance(2);
  expect(suspicions).toMatchObject([{ why: 'silence' }]);
  clock.advance(500);
  expect(suspicions).toHaveLength(1);
});

test('a peer that is heard in time is never suspected', () => {
  const clock = new ManualClock();
  const { detector, suspicions } = watch(clock);
  detector.start();
  for (let i = 0; i < 200; i += 1) {
    clock.advance(10 + (i % 4) * 10);
    detector.heard();
  }
  expect(suspicions).toEqual([]);
  expect(detector.late).toBeGreaterThan(0);
  clock.advance(60);
  expect(suspicions).toHaveLength(1);
});

test('a closed connection is suspected at once, a stopped watch never', () => {
  const clock = new ManualClock();
  const { detector, suspicions } = watch(clock);
  detector.start();
  detector.closed();
  expect(suspicions).toMatchObject([{ why: 'closed', silentMs: 0 }]);
  detector.closed();
  expect(suspicions).toHaveLength(1);
  detector.start();
  detector.stop();
  detector.closed();
  clock.advance(1000);
  expect(suspicions).toHaveLength(1);
});

test('our own stall is not the silence of a peer whose heartbeats wait in the socket', () => {
  const clock = new StallingClock();
  const { detector, suspicions } = watch(clock);
  detector.start();
  clock.stall(400, () => detector.heard());
  clock.inner.advance(30);
  detector.heard();
  expect(suspicions).toEqual([]);
  expect(detector.stalls).toBe(1);
});

test('after a stall a peer that stays silent is still suspected, a grace later', () => {
  const clock = new StallingClock();
  const { detector, suspicions } = watch(clock);
  detector.start();
  clock.stall(400, () => undefined);
  expect(suspicions).toEqual([]);
  clock.inner.advance(21);
  expect(suspicions).toHaveLength(1);
  expect(suspicions[0]?.silentMs).toBeGreaterThan(400);
});

test('a second look that was asked for before a restart is forgotten', () => {
  const clock = new StallingClock();
  const { detector, suspicions } = watch(clock);
  detector.start();
  clock.stall(51, () => detector.start());
  expect(suspicions).toEqual([]);
  clock.inner.advance(49);
  expect(suspicions).toEqual([]);
  clock.inner.advance(2);
  expect(suspicions).toHaveLength(1);
});
