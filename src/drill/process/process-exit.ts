/**
 * What is put right when this process ends, however it ends (but for SIGKILL): the newest entry
 * first, so processes end before the namespace they live in is removed.
 */

const tasks = new Map<string, () => void>();
let hooked = false;

/** Runs `task` once at the end of this process; a second task of the same name is ignored. */
export function atExit(name: string, task: () => void): void {
  if (!tasks.has(name)) tasks.set(name, task);
  if (hooked) return;
  hooked = true;
  process.on('exit', () => {
    for (const one of [...tasks.values()].reverse()) one();
  });
  // With a handler a signal no longer ends the process by itself, so it is ended here.
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    process.once(signal, () => process.exit(code));
  }
}
