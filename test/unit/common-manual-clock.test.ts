/** The clock of the tests: order is what everything on it relies on. */
import { ManualClock } from '../support/manual-clock';

test('callbacks run in the order of their times, and of asking among equals', () => {
  const clock = new ManualClock(0);
  const seen: string[] = [];
  const note = (name: string) => () => seen.push(`${name}@${clock.nowUs()}`);
  clock.after(2, note('b'));
  clock.after(1, note('a'));
  clock.after(2, note('c'));
  clock.every(1.5, note('tick'));
  clock.soon(note('soon'));
  clock.advance(3);
  expect(seen).toEqual(['soon@0', 'a@1000', 'tick@1500', 'b@2000', 'c@2000', 'tick@3000']);
});

test('a cancelled timer does not run, also when cancelled by one that runs', () => {
  const clock = new ManualClock();
  let runs = 0;
  const later = clock.after(2, () => runs++);
  const ticks = clock.every(1, () => {
    later.cancel();
    ticks.cancel();
    runs++;
  });
  clock.advance(10);
  expect([runs, clock.timers]).toEqual([1, 0]);
});

test('who waits for what is left until a moment comes to it, wherever the moment lies', () => {
  for (let at = 0; at < 2000; at += 1) {
    const clock = new ManualClock(1_000_000 + at / 7);
    clock.advance(at / 997);
    const dueUs = clock.nowUs() + at / 13;
    let waits = 0;
    const wait = (): void => {
      const leftMs = (dueUs - clock.nowUs()) / 1000;
      if (leftMs <= 0) return;
      waits += 1;
      // Wakes early each time, as timers do.
      clock.after(leftMs / 2, wait);
    };
    wait();
    for (let events = 0; events < 10_000 && clock.timers > 0; events += 1) clock.runNext(1e9);
    expect([at, clock.timers, clock.nowUs() >= dueUs]).toEqual([at, 0, true]);
    expect(waits).toBeLessThan(100);
  }
});

test('what soon() adds runs before time moves', () => {
  const clock = new ManualClock(0);
  const times: number[] = [];
  clock.after(1, () => clock.soon(() => clock.soon(() => times.push(clock.nowUs()))));
  clock.after(2, () => times.push(clock.nowUs()));
  clock.advance(5);
  expect(times).toEqual([1000, 2000]);
});
