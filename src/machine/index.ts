/**
 * Makes the machine that a node asks for. The KVM one is loaded only when it is wanted, so that the
 * simulated one runs on hosts where the addon cannot be loaded.
 */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../common/clock';
import { toFtError } from '../common/errors';
import type { KvmMachineOptions } from './kvm-machine';
import type { Machine } from './machine';
import type { Confined, Confinement, NativeRawSocket } from './native';
import { type MachineFault, SimulatedMachine } from './simulated-machine';
import { UdpNetwork } from './simulated-network';

export interface SimulatedGuestOptions {
  readonly memoryBytes: number;
  /** UDP port on 127.0.0.1 that the guest serves. */
  readonly simPort: number;
  readonly outboxBytesMax: number;
  readonly faults: readonly MachineFault[];
}

/** Throws FtError when this host cannot run such a machine. */
export function createKvmMachine(options: KvmMachineOptions): Machine {
  const { KvmMachine } = require('./kvm-machine') as typeof import('./kvm-machine');
  return KvmMachine.create(options);
}

/** Throws FT_ERR_MACHINE_MEMORY. */
export function createSimulatedMachine(options: SimulatedGuestOptions, clock: Clock): Machine {
  return new SimulatedMachine({
    memoryBytes: options.memoryBytes,
    clock,
    network: new UdpNetwork(options.simPort),
    bootId: randomBytes(8).readBigUInt64LE(),
    outboxBytesMax: options.outboxBytesMax,
    faults: options.faults,
  });
}

/** Opens sockets by the addon: src/transport/byte-stream.ts. Throws FT_ERR_ADDON. */
export function nativeSockets(): (
  fd: number,
  room: Buffer,
  onReadable: (bytes: number) => void,
  onWritable: () => void,
) => NativeRawSocket {
  const { addon } = require('./native') as typeof import('./native');
  const { RawSocket } = addon();
  return (fd, room, onReadable, onWritable) => new RawSocket(fd, room, onReadable, onWritable);
}

/** How long the event loop stays awake after something came, µs; 0: as usual. Throws FT_ERR_ADDON. */
export function setBusyPoll(us: number): void {
  const { addon } = require('./native') as typeof import('./native');
  addon().setBusyPoll(us);
}

/**
 * Lets peers hear of this process's death at once, whatever memory it leaves behind: starts the
 * keeper of native/core/memory_keeper.h, once however often it is asked for. Throws FT_ERR_ADDON, or
 * FT_ERR_KEEPER when there is no room for one more process: then a death is noticed later, no more.
 */
export function keepMemoryPastDeath(): void {
  const { addon } = require('./native') as typeof import('./native');
  if (!memoryKept) addon().startMemoryKeeper();
  memoryKept = true;
}

let memoryKept = false;

/**
 * One word to the supervisor whose socket is at `address` (systemd's NOTIFY_SOCKET). Throws
 * FT_ERR_ADDON, FT_ERR_NOTIFY_ADDRESS, or FT_ERR_NOTIFY when it could not be sent at once.
 */
export function notifySupervisor(address: string, text: string): void {
  const { addon } = require('./native') as typeof import('./native');
  try {
    addon().systemdNotify(address, text);
  } catch (thrown) {
    throw toFtError(thrown);
  }
}

/**
 * Gives up for good what this process does not need; returns what the kernel granted. Throws
 * FT_ERR_ADDON, or FT_ERR_CONFINE: then the process should end.
 */
export function confineProcess(wanted: Confinement): Confined {
  const { addon } = require('./native') as typeof import('./native');
  try {
    return addon().confine(wanted);
  } catch (thrown) {
    throw toFtError(thrown);
  }
}

/** CRC-32C by the addon. Throws FT_ERR_ADDON when it was not built. */
export function nativeChecksum(): (bytes: Uint8Array) => number {
  const { addon } = require('./native') as typeof import('./native');
  return addon().crc32c;
}
