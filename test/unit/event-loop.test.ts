/** How late the event loop is, for several watches by one timer. */
import { Histogram } from '../../src/common/histogram';
import { COARSE_MS, EventLoopWatch, FINE_MS } from '../../src/node/event-loop';

const pass = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

function block(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

test('each watch is told of a blocked loop once; a histogram has every look', async () => {
  const looks = new Histogram();
  const [coarse, fine] = [new EventLoopWatch(COARSE_MS, looks), new EventLoopWatch(FINE_MS)];
  try {
    await pass(30);
    block(60);
    await pass(30);
    expect(coarse.takeMaxUs()).toBeGreaterThan(55_000);
    expect(fine.takeMaxUs()).toBeGreaterThan(55_000);
    expect(looks.maxUs).toBeGreaterThan(55_000);
    expect([coarse.takeMaxUs(), fine.takeMaxUs()]).toEqual([0, 0]);
  } finally {
    coarse.close();
    fine.close();
  }
});

test('the timer goes at the pace of who wants it finest, and ends with the last watch', async () => {
  const looks = new Histogram();
  const started = jest.spyOn(global, 'setInterval');
  const stopped = jest.spyOn(global, 'clearInterval');
  const coarse = new EventLoopWatch(COARSE_MS, looks);
  const [fine, another] = [new EventLoopWatch(FINE_MS), new EventLoopWatch(FINE_MS)];
  fine.close();
  another.close();
  expect(started.mock.calls.map(([, ms]) => ms)).toEqual([COARSE_MS, FINE_MS, COARSE_MS]);
  coarse.close();
  expect(stopped.mock.lastCall?.[0]).toBe(started.mock.results[2]?.value);
  const { count } = looks;
  await pass(3 * COARSE_MS);
  expect(looks.count).toBe(count);
  started.mockRestore();
  stopped.mockRestore();
});

test('who begins to look while the loop is away takes nothing from the others', async () => {
  const coarse = new EventLoopWatch(COARSE_MS);
  await pass(30);
  coarse.takeMaxUs();
  block(60);
  const fine = new EventLoopWatch(FINE_MS);
  expect(coarse.takeMaxUs()).toBeGreaterThan(45_000);
  fine.close();
  coarse.close();
});
