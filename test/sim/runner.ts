/**
 * Many schedules on all cores: batches of seeds are handed to worker threads, whoever is idle takes
 * the next. A schedule depends on its seed alone, so it does not matter where it runs.
 *
 *   main thread ── { first, count, mutation } ──▶ worker ── one Batch result ──▶ added up
 */
import { availableParallelism } from 'node:os';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
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
  /** For the test of the watch: this seed never ends, and lets nobody in. */
  readonly stallAt?: number | undefined;
}

export interface Totals {
  schedules: number;
  failures: Failure[];
  chaos: Chaos;
}

const BATCH = 50;
/** A schedule takes some 50 ms, and a busy machine some tens of times that. */
const SEED_SECONDS_MAX = 180;
const WATCH_MS = 100;

/** What a promise threw belongs to the schedule that ran last; it is told a turn of the loop later. */
const thrown: string[] = [];

export async function runChecked(seed: number, options: RunOptions): Promise<ScheduleOutcome> {
  thrown.length = 0;
  const outcome = await runSeed(seed, options);
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

async function runJob(job: Job, onSeed: (seed: number) => void): Promise<Totals> {
  const totals = noTotals();
  const mutate = job.mutation === undefined ? undefined : mutations[job.mutation].plant;
  for (let seed = job.first; seed < job.first + job.count; seed += 1) {
    onSeed(seed);
    while (seed === job.stallAt) thrown.length = 0;
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
  /** How long one schedule may take before it counts as one that never ends. */
  readonly secondsMax?: number;
  readonly stallAt?: number;
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
    return { ...job, mutation: what.mutation, stallAt: what.stallAt };
  };
  const onDone = (batch: Totals): void => {
    add(totals, batch);
    what.onProgress?.(totals);
  };
  const workers = Math.min(availableParallelism(), Math.ceil(what.count / BATCH));
  await Promise.all(
    Array.from({ length: workers }, () =>
      new SeedWorker(draw, onDone, what.secondsMax ?? SEED_SECONDS_MAX).run(),
    ),
  );
  totals.failures.sort((left, right) => left.seed - right.seed);
  return totals;
}

/**
 * One worker thread, fed with one job after another, and watched: a schedule that stays under way for
 * secondsMax is broken off together with its thread and told as a violation. What else its batch had,
 * a fresh thread does again.
 */
class SeedWorker {
  private worker: Worker | undefined;
  private job: Job | undefined;
  private readonly leftOver: Job[] = [];
  /** The seed that is under way, written by the thread. */
  private readonly under = new Int32Array(new SharedArrayBuffer(4));
  private seen = { seed: 0, sinceMs: 0 };
  private watch: NodeJS.Timeout | undefined;

  constructor(
    private readonly draw: () => Job | undefined,
    private readonly onDone: (batch: Totals) => void,
    private readonly secondsMax: number,
  ) {}

  /** Resolves when there is no job left. */
  run(): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (): void => {
        clearInterval(this.watch);
        this.worker?.terminate().then(() => resolve(), reject);
      };
      this.watch = setInterval(() => this.look(end, reject), WATCH_MS);
      this.begin(end, reject);
    });
  }

  private begin(end: () => void, reject: (error: Error) => void): void {
    const worker = new Worker(__filename, { workerData: this.under });
    this.worker = worker;
    worker.on('message', (batch: Totals) => {
      this.onDone(batch);
      this.feed(end);
    });
    worker.on('error', reject);
    this.feed(end);
  }

  private feed(end: () => void): void {
    this.job = this.leftOver.pop() ?? this.draw();
    Atomics.store(this.under, 0, 0);
    if (this.job === undefined) end();
    else this.worker?.postMessage(this.job);
  }

  private look(end: () => void, reject: (error: Error) => void): void {
    const { job, worker, seen } = this;
    const seed = Atomics.load(this.under, 0);
    const nowMs = performance.now();
    if (seed !== seen.seed) this.seen = { seed, sinceMs: nowMs };
    if (seed === 0 || seed !== seen.seed || job === undefined || worker === undefined) return;
    if (nowMs - seen.sinceMs < this.secondsMax * 1000) return;
    this.job = undefined;
    worker.removeAllListeners();
    worker.terminate().catch(reject);
    const before = { ...job, count: seed - job.first };
    const after = { ...job, first: seed + 1, count: job.first + job.count - seed - 1 };
    this.leftOver.push(...[before, after].filter((one) => one.count > 0));
    const violations = [`never ends: it was under way for ${this.secondsMax} s`];
    this.onDone({ ...noTotals(), schedules: 1, failures: [{ seed, violations }] });
    this.begin(end, reject);
  }
}

if (!isMainThread && parentPort !== null) {
  const port = parentPort;
  const under = workerData as Int32Array;
  catchAll();
  port.on('message', (job: Job) => {
    runJob(job, (seed) => Atomics.store(under, 0, seed)).then(
      (totals) => port.postMessage(totals),
      (error: unknown) => {
        throw error;
      },
    );
  });
}
