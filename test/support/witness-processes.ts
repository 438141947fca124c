/** Processes that claim at once, each with a Witness object of its own. */
import { type ChildProcess, fork } from 'node:child_process';
import path from 'node:path';
import { projectRoot } from '../../src/drill/process/process';
import type { Witness } from '../../src/witness/witness';

export interface ClaimingProcesses {
  readonly processes: number;
  /** As many generations are claimed, from the first on. */
  readonly rounds: number;
  /** What each opens: a directory, or the JSON of an etcd witness's options. */
  readonly where: string;
  readonly judge: Witness;
  /** How many of them prepare each claim. Default 0. */
  readonly prepared?: number;
}

/** Starts one that claims when it is sent { from, nodeId }, and waits until it is ready. */
export async function startClaimer(where: string): Promise<ChildProcess> {
  const worker = path.join(projectRoot, 'test/unit/witness-claimer.js');
  const stdio = ['ignore', 'ignore', 'inherit', 'ipc'] as const;
  const child = fork(worker, [where], { execArgv: [], stdio: [...stdio] });
  await answerOf(child);
  return child;
}

/** In each round every process claims the same generation; exactly one must win it. */
export async function claimInProcesses(options: ClaimingProcesses): Promise<void> {
  const names = Array.from({ length: options.processes }, (_, i) => `node-${i}`);
  const children = await Promise.all(names.map(() => startClaimer(options.where)));
  try {
    const winners = new Set<string>();
    for (let from = 0; from < options.rounds; from++) {
      for (const [i, child] of children.slice(0, options.prepared ?? 0).entries()) {
        const ready = answerOf(child);
        child.send({ prepare: from, nodeId: names[i] });
        await ready;
      }
      const answers = children.map((child) => answerOf(child));
      for (const [i, child] of children.entries()) child.send({ from, nodeId: names[i] });
      const results = (await Promise.all(answers)) as { outcome: string }[];
      const won = names.filter((_name, i) => results[i]?.outcome === 'won');
      const current = await options.judge.current('web');
      expect(results.map((result) => result.outcome)).not.toContain('error');
      expect(won).toEqual([current?.owner]);
      expect(current?.generation).toBe(from + 1);
      winners.add(won[0] as string);
    }
    expect(winners.size).toBeGreaterThan(1);
  } finally {
    for (const child of children) child.kill('SIGKILL');
  }
}

/** Its next message; rejects when the process ends instead. */
export function answerOf(child: ChildProcess): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const ended = (): void => reject(new Error('A claiming process ended by itself.'));
    child.once('exit', ended);
    child.once('message', (message) => {
      child.off('exit', ended);
      resolve(message);
    });
  });
}
