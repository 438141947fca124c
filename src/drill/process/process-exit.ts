/**
 * What is put right when this process ends, however it ends (but for SIGKILL): the newest entry
 * first, so processes end before the namespace they live in is removed.
 */

/** The signals that end a command, and the exit code that a shell gives them. */
const SIGNALS = [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const;

const tasks = new Map<string, () => void>();
let hooked = false;
let onFirst: (() => void) | undefined;

/** Runs `task` once at the end of this process; a second task of the same name is ignored. */
export function atExit(name: string, task: () => void): void {
  if (!tasks.has(name)) tasks.set(name, task);
  hook();
}

/**
 * The first signal calls `act`, which brings the process to its end in its own time; the second one
 * ends it at once. Without this the first one does.
 */
export function onFirstSignal(act: () => void): void {
  onFirst = act;
  hook();
}

function hook(): void {
  if (hooked) return;
  hooked = true;
  process.on('exit', () => {
    for (const one of [...tasks.values()].reverse()) one();
  });
  // With a handler a signal no longer ends the process by itself, so it is ended here.
  for (const [signal, code] of SIGNALS) {
    process.on(signal, () => {
      const act = onFirst;
      onFirst = undefined;
      if (act === undefined) process.exit(code);
      act();
    });
  }
}
