/** What a simulated machine is made with, and the faults that tests plant in one. */
import type { Clock } from '../common/clock';
import { FtError } from '../common/errors';
import { PAGE_BYTES } from '../common/units';
import type { SimulatedDiskOptions } from './simulated-disk';
import type { SimulatedHooks } from './simulated-hooks';
import type { SimulatedNetwork } from './simulated-network';

/** Test-only faults, to prove that audit, oracle and the judge of the disks can find something. */
export type MachineFault =
  | 'hide-dirty-page'
  | 'release-early'
  | 'ignore-lease'
  | 'forget-disk-marks';

export interface SimulatedMachineOptions extends SimulatedHooks {
  readonly memoryBytes: number;
  readonly clock: Clock;
  readonly network: SimulatedNetwork;
  readonly bootId: bigint;
  readonly outboxBytesMax: number;
  readonly faults?: readonly MachineFault[];
  /** The guest writes to the first of them. */
  readonly disks?: readonly SimulatedDiskOptions[];
}

/** The smallest memory that has room for the guest's tables and a page of load. */
export const SIMULATED_MEMORY_BYTES_MIN = 64 * 1024;

/** Throws FT_ERR_MACHINE_MEMORY. */
export function checkedMemoryBytes({ memoryBytes }: SimulatedMachineOptions): number {
  if (memoryBytes >= SIMULATED_MEMORY_BYTES_MIN && memoryBytes % PAGE_BYTES === 0) {
    return memoryBytes;
  }
  const message =
    `The simulated machine needs at least ${SIMULATED_MEMORY_BYTES_MIN} bytes of memory in ` +
    `whole pages of ${PAGE_BYTES}; set --memory accordingly.`;
  throw new FtError('FT_ERR_MACHINE_MEMORY', message, { memoryBytes });
}
