/** Time as drills measure it, and waiting. */

/** Microseconds of CLOCK_MONOTONIC: comparable between the processes of one host. */
export function monotonicUs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e6 + nanoseconds / 1e3;
}

/** Waits, monotonic. */
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Asks again and again until it is true; throws `what` when time is over. */
export async function until(
  what: string,
  isTrue: () => boolean | Promise<boolean>,
  timeoutMs: number,
): Promise<void> {
  const endUs = monotonicUs() + timeoutMs * 1000;
  while (!(await isTrue())) {
    if (monotonicUs() > endUs) throw new Error(`Waited ${timeoutMs} ms in vain for ${what}.`);
    await sleep(10);
  }
}
