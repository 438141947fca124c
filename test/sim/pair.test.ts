/**
 * Seeded random schedules: kills, stops, partitions, a witness that fails, at any moment, around
 * the production roles. Every answer and every promotion is checked against the two promises. A
 * failing seed is named; `SIM_SEED=n` replays it alone, `SIM_SCHEDULES=n` runs that many.
 */
import { Random } from './random';
import { type Chaos, noChaos, runSchedule } from './schedule';

const SCHEDULES = Number(process.env['SIM_SCHEDULES'] ?? 200);
const ONLY = process.env['SIM_SEED'];
/** Schedules per test, so that a test stays far within its time. */
const PER_TEST = 50;

function seedsOf(first: number): number[] {
  return Array.from({ length: Math.min(PER_TEST, SCHEDULES - first) }, (_, i) => first + i + 1);
}

const batches: number[][] =
  ONLY === undefined
    ? Array.from({ length: Math.ceil(SCHEDULES / PER_TEST) }, (_, i) => seedsOf(i * PER_TEST))
    : [[Number(ONLY)]];

const happened: Chaos = noChaos();

test.each(batches.map((seeds) => [seeds[0] ?? 0, seeds.at(-1) ?? 0, seeds] as const))(
  'schedules %d to %d keep both promises',
  async (_first, _last, seeds) => {
    for (const seed of seeds) {
      const outcome = await runSchedule(new Random(seed));
      if (outcome.violations.length > 0) {
        throw new Error(
          `seed ${seed}: ${outcome.violations.join('; ')}\n${outcome.story.join('\n')}`,
        );
      }
      for (const key of Object.keys(happened) as (keyof Chaos)[]) {
        happened[key] += outcome.chaos[key];
      }
    }
  },
  120_000,
);

test('the schedules were wild enough to mean something', () => {
  if (ONLY !== undefined) return;
  expect(happened.promotions).toBeGreaterThan(SCHEDULES / 4);
  expect(happened.fenced).toBeGreaterThan(SCHEDULES / 30);
  expect(happened.answers).toBeGreaterThan(SCHEDULES * 10);
  expect(happened.inPart).toBeGreaterThan(SCHEDULES / 4);
  expect(happened.whole).toBeGreaterThan(SCHEDULES);
  expect(happened.compared).toBeGreaterThan(SCHEDULES / 4);
  expect(happened.diskFailures).toBeGreaterThan(SCHEDULES / 20);
  process.stdout.write(`${SCHEDULES} schedules: ${JSON.stringify(happened)}\n`);
});

test('the checks can fail: output that leaves too early is found', async () => {
  let found = 0;
  for (let seed = 1; seed <= 40 && found === 0; seed += 1) {
    const outcome = await runSchedule(new Random(seed), { faults: ['release-early'] });
    found += outcome.violations.length;
  }
  expect(found).toBeGreaterThan(0);
}, 120_000);
