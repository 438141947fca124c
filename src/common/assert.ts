/**
 * Invariants of our own. A broken one stops the process: failing over beats replicating corruption.
 */
export function assert(condition: unknown, why: string): asserts condition {
  if (condition) return;
  process.stderr.write(`romulus: invariant broken: ${why}; stopping\n${new Error().stack}\n`);
  process.abort();
}
