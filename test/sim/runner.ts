/**
 * Many schedules on all cores: batches of seeds are handed to worker threads, whoever is idle takes
 * the next. A schedule depends on its seed alone, so it does not matter where it runs.
 *
 *   main thread ── { first, count, mutation } ──▶ worker ── one Batch result ──▶ added up
 */
import { availableParallelism } from 'node:os';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { type Chaos, noChaos } from './chaos';
import { type MutationName, mutations } from './mutations';
import { type RunOptions, runSeed, type ScheduleOutcome } from './schedule';

export interface Failure {
  readonly seed: number;
  readonly violations: readonly string[];
}

export interface Job {
  readonly first: number;
  readonly count: number;
  readonly mutation: MutationName | undefined;
  /** The rest of the batch is of no interest once a violation is found. */
  readonly stopAtFirst: boolean;
}

export interface Totals {
  schedules: number;
  failures: Failure[];
  chaos: Chaos;
}

const BATCH = 50;

/** What a promise threw belongs to the schedule that ran last; it is told a turn of the loop later. */
const thrown: string[] = [];

export async function runChecked(seed: number, options: RunOptions): Promise<ScheduleOutcome> {
  thrown.length = 0;
  let outcome: ScheduleOutcome;
  try {
    outcome = await runSeed(seed, options);
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    outcome = { violations: [`it threw: ${what}`], story: [], chaos: noChaos() };
  }
  await new Promise((resolve) => setImmediate(resolve));
  const violations = [...outcome.violations, ...thrown.map((what) => `a promise threw: ${what}`)];
  return { ...outcome, violations };
}

/**
 * What would end a process ends one simulated host, or its schedule: broken invariants, and what
 * promises throw.
 */
export function catchAll(): void {
  // Errors are values here, made by the thousand, and nobody reads where they were made.
  Error.stackTraceLimit = 0;
  process.abort = () => {
    throw new Error('an invariant is broken');
  };
  process.on('unhandledRejection', (error) => {
    thrown.push(error instanceof Error ? error.message : String(error));
  });
}

export function noTotals(): Totals {
  return { schedules: 0, failures: [], chaos: noChaos() };
}

export function add(to: Totals, from: Totals): void {
  to.schedules += from.schedules;
  to.failures.push(...from.failures);
  const { hits, ...counts } = from.chaos;
  for (const key of Object.keys(counts) as (keyof typeof counts)[]) to.chaos[key] += counts[key];
  for (const [state, count] of Object.entries(hits)) {
    to.chaos.hits[state] = (to.chaos.hits[state] ?? 0) + count;
  }
}

async function runJob(job: Job): Promise<Totals> {
  const totals = noTotals();
  const mutate = job.mutation === undefined ? undefined : mutations[job.mutation].plant;
  for (let seed = job.first; seed < job.first + job.count; seed += 1) {
    const options = mutate === undefined ? {} : { mutate };
    const { violations, chaos } = await runChecked(seed, options);
    const failures = violations.length === 0 ? [] : [{ seed, violations }];
    add(totals, { schedules: 1, failures, chaos });
    if (failures.length > 0 && job.stopAtFirst) break;
  }
  return totals;
}

export interface RunMany {
  readonly first: number;
  readonly count: number;
  readonly mutation?: MutationName;
  /** Ends the run with the first violation; the least failing seed is among the failures then. */
  readonly stopAtFirst?: boolean;
  readonly onProgress?: (totals: Totals) => void;
}

/** Runs seeds `first` … `first + count − 1`. */
export async function runMany(what: RunMany): Promise<Totals> {
  const totals = noTotals();
  const endSeed = what.first + what.count;
  const stopAtFirst = what.stopAtFirst ?? false;
  let next = what.first;
  const draw = (): Job | undefined => {
    if (next >= endSeed || (stopAtFirst && totals.failures.length > 0)) return undefined;
    const job = { first: next, count: Math.min(BATCH, endSeed - next), stopAtFirst };
    next += job.count;
    return { ...job, mutation: what.mutation };
  };
  const workers = Math.min(availableParallelism(), Math.ceil(what.count / BATCH));
  await Promise.all(
    Array.from({ length: workers }, () =>
      runWorker(draw, (batch) => {
        add(totals, batch);
        what.onProgress?.(totals);
      }),
    ),
  );
  totals.failures.sort((left, right) => left.seed - right.seed);
  return totals;
}

function runWorker(draw: () => Job | undefined, onDone: (batch: Totals) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(__filename);
    const feed = (): void => {
      const job = draw();
      if (job !== undefined) worker.postMessage(job);
      else worker.terminate().then(() => resolve(), reject);
    };
    worker.on('message', (batch: Totals) => {
      onDone(batch);
      feed();
    });
    worker.on('error', reject);
    feed();
  });
}

if (!isMainThread && parentPort !== null) {
  const port = parentPort;
  catchAll();
  port.on('message', (job: Job) => {
    runJob(job).then(
      (totals) => port.postMessage(totals),
      (error: unknown) => {
        throw error;
      },
    );
  });
}
