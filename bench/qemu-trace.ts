/**
 * What QEMU writes down of its checkpoints, read: one line of the trace `colo_vm_state_change` for
 * every stop and every start of the primary's virtual machine.
 *
 *   6144@1795262894.323710:colo_vm_state_change Change 'run' => 'stop'    a checkpoint begins
 *   6144@1795262894.326836:colo_vm_state_change Change 'stop' => 'run'    the guest runs again
 *   └ thread  └ wall clock, seconds (with -msg timestamp=on)
 *
 * Pure: no process is started and no file is read here.
 */

import { quantile, quantileOf } from '../src/common/quantile';

/** One change of the virtual machine; wall-clock time in µs. */
export interface VmChange {
  readonly atUs: number;
  readonly to: 'run' | 'stop';
}

/** What the changes within a stretch amount to. */
export interface Checkpoints {
  /** Pauses that began and ended within the stretch. */
  readonly count: number;
  readonly perSecond: number;
  readonly pauseUsP50: number;
  readonly pauseUsP99: number;
  readonly pauseUsMax: number;
  /** Part of the stretch in which the guest was not stopped, 0…1. */
  readonly runningPart: number;
}

const CHANGE = /^\d+@(\d+)\.(\d{6}):colo_vm_state_change Change '(run|stop)' => '(run|stop)'$/;

/** The changes in the order of the file; lines of other traces, and one cut off, are passed over. */
export function parseTrace(text: string): VmChange[] {
  const changes: VmChange[] = [];
  for (const line of text.split('\n')) {
    const match = CHANGE.exec(line);
    if (match === null) continue;
    const [, seconds, micros, , to] = match;
    changes.push({
      atUs: Number(seconds) * 1e6 + Number(micros),
      to: to === 'run' ? 'run' : 'stop',
    });
  }
  return changes;
}

/** The checkpoints whose pause lies within [fromUs, toUs], wall clock. */
export function countCheckpoints(
  changes: readonly VmChange[],
  fromUs: number,
  toUs: number,
): Checkpoints {
  const pauses: number[] = [];
  let stoppedUs: number | undefined;
  for (const { atUs, to } of changes) {
    if (to === 'stop') {
      // A second stop in a row would be an end of the migration, not the same pause.
      stoppedUs = atUs;
      continue;
    }
    if (stoppedUs !== undefined && stoppedUs >= fromUs && atUs <= toUs)
      pauses.push(atUs - stoppedUs);
    stoppedUs = undefined;
  }
  pauses.sort((a, b) => a - b);
  const spanUs = Math.max(1, toUs - fromUs);
  const paused = pauses.reduce((sum, us) => sum + us, 0);
  return {
    count: pauses.length,
    perSecond: (pauses.length * 1e6) / spanUs,
    pauseUsP50: quantile(pauses, 0.5),
    pauseUsP99: quantile(pauses, 0.99),
    pauseUsMax: pauses[pauses.length - 1] ?? 0,
    runningPart: 1 - Math.min(1, paused / spanUs),
  };
}

/** The value in the middle, the lower one of two (nearest rank); 0 of none. */
export function medianOf(values: readonly number[]): number {
  return quantileOf(values, 0.5);
}

/** What query-migrate said of a migration that has ended. */
export interface MigrationFigures {
  readonly totalMs: number;
  readonly downtimeMs: number;
  readonly transferredBytes: number;
}

/**
 * The state of a migration and, once it is "completed", its figures. Throws on an answer that is
 * none and on a migration that failed.
 */
export function readMigration(answer: unknown): {
  readonly status: string;
  readonly figures: MigrationFigures | undefined;
} {
  const fields = record(answer);
  const status = fields['status'];
  if (status === undefined) return { status: 'none', figures: undefined };
  if (typeof status !== 'string') throw new Error('query-migrate names no status.');
  if (status === 'failed' || status === 'cancelled') {
    throw new Error(`QEMU's migration ${status}: ${String(fields['error-desc'] ?? 'no reason')}.`);
  }
  if (status !== 'completed') return { status, figures: undefined };
  const number = (from: Record<string, unknown>, name: string): number => {
    const value = from[name];
    if (typeof value !== 'number') throw new Error(`query-migrate has no number "${name}".`);
    return value;
  };
  return {
    status,
    figures: {
      totalMs: number(fields, 'total-time'),
      downtimeMs: number(fields, 'downtime'),
      transferredBytes: number(record(fields['ram']), 'transferred'),
    },
  };
}

/** Thread ids of the vCPUs, from the answer to query-cpus-fast. */
export function readVcpuThreads(answer: unknown): number[] {
  if (!Array.isArray(answer)) throw new Error('query-cpus-fast did not answer with a list.');
  return answer.map((one) => {
    const tid = record(one)['thread-id'];
    if (typeof tid !== 'number') throw new Error('A vCPU of query-cpus-fast has no thread-id.');
    return tid;
  });
}

function record(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Error(`QEMU answered ${JSON.stringify(value)} where an object was due.`);
  }
  return value as Record<string, unknown>;
}
