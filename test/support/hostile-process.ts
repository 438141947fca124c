/** Hostile clients (hostile-clients.ts) as a process that a test or a benchmark starts and waits for. */
import path from 'node:path';
import { projectRoot, WatchedProcess } from '../../src/drill/process/process';
import type { HostileOrder } from './hostile-clients';

export interface HostileResult {
  /** How often each hostile thing was done. */
  readonly counts: Readonly<Record<string, number>>;
  readonly attempts: number;
  /** What came back that only a friend should get; empty when nobody was let in. */
  readonly letIn: Readonly<Record<string, number>>;
  /** Processor time that the clients took themselves. */
  readonly cpuMs: number;
}

export interface HostileSetting {
  readonly netns?: string | undefined;
  /** Words before the command, such as ['nice', '-n', '19']; they must exec what follows. */
  readonly wrap?: readonly string[];
  /** The attack begins now. */
  readonly onReady?: () => void;
}

/** Runs the clients to their end; throws when they do not come to one. */
export async function attack(
  order: HostileOrder,
  setting: HostileSetting = {},
): Promise<HostileResult> {
  const { netns, wrap = [], onReady } = setting;
  const script = path.join(projectRoot, 'dist/test/support/hostile-clients.js');
  const [command = '', ...args] = [...wrap, process.execPath, script, JSON.stringify(order)];
  const child = new WatchedProcess({
    name: `hostile-${order.kind}`,
    command,
    args,
    netns,
  });
  try {
    await child.waitFor('its start', (line) => line.fields['event'] === 'ready', 15_000);
    onReady?.();
    const { fields } = await child.waitFor(
      'the end of the attack',
      (line) => line.fields['event'] === 'done',
      order.ms + 15_000,
    );
    const counts = fields['counts'] as Record<string, number>;
    const { patienceLost: _given, ...deeds } = counts;
    return {
      counts,
      attempts: Object.values(deeds).reduce((sum, count) => sum + count, 0),
      letIn: fields['letIn'] as Record<string, number>,
      cpuMs: Number(fields['cpuMs']),
    };
  } finally {
    await child.stop();
  }
}
