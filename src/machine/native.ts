/**
 * The addon's typed face: loads build/Release/romulus.node and says what it exports.
 * Only this folder knows of the addon. Layouts of `facts`: native/binding/native_machine.h.
 */
import path from 'node:path';
import { FtError, toFtError } from '../common/errors';
import type { DiskDescription, DiskFile, DiskStats } from './machine';

export interface NativeMachineOptions {
  readonly memoryBytes: number;
  readonly vcpus: number;
  /** "host" or "baseline": native/kvm/cpuid_model.h. */
  readonly cpuModel: string;
  readonly kernelPath: string;
  /** Empty: none. */
  readonly initrdPath: string;
  readonly cmdline: string;
  readonly disks: readonly DiskFile[];
  readonly tapName: string;
  /** Network namespace of the TAP: native/core/net_namespace.h. Empty: this process's. */
  readonly netns: string;
  /** Six bytes. */
  readonly mac: Uint8Array;
  /** Where the serial console goes: native/machine/console.h. */
  readonly consoleKind: 'none' | 'file' | 'stdio' | 'unix';
  /** Of "file": opened for appending, not owned; else −1. */
  readonly consoleFd: number;
  /** Of "unix": the socket's path; else empty. */
  readonly consolePath: string;
  /** Host CPU for the first vCPU's thread; −1: any. */
  readonly vcpuCpu: number;
  readonly outboxBytesMax: number;
  readonly kvmPath: string;
  /** Not 0: floor cuts this often instead of replication. */
  readonly floorIntervalUs: number;
  readonly hideDirtyPage: boolean;
  readonly releaseEarly: boolean;
}

export interface NativeStats {
  outboxFrames: number;
  outboxBytes: number;
  framesReleased: number;
  framesDropped: number;
  leaseExpired: number;
  auditPagesHealed: number;
  floorEpochs: number;
  floorPages: number;
  exits: Record<string, number>;
  disks: DiskStats[];
}

export interface NativeMachine {
  cpuFeatures(): Record<string, number>;
  boot(): void;
  beginReplication(
    intervalUs: number,
    dirtyBudgetPages: number,
    cutOnOutput: boolean,
    inFlightMax: number,
    auditPages: number,
    leaseUs: number,
    firstEpoch: number,
    peerDiskMaps: readonly (Uint8Array | undefined)[],
    catchUp: boolean,
  ): void;
  setCutInterval(intervalUs: number): void;
  endReplication(noteChanges: boolean): void;
  notedSince(): number | undefined;
  catchUpMap(into: Uint8Array): number;
  scanNext(into: Uint8Array): void;
  scanProgress(): number;
  holdOutput(): void;
  nextCut(into: Uint8Array): boolean;
  encodeCut(into: Uint8Array): void;
  commit(epoch: number): void;
  leaseNowUs(): number;
  extendLease(sentAtUs: number): void;
  heal(gfns: Uint32Array): void;
  openOutput(): void;
  fence(): void;
  outputWaits(): boolean;
  haltGuest(): void;
  resumeGuest(): void;
  disksSynced(): boolean;
  diskSyncProgress(): number;
  beginSync(peerSyncIds: readonly string[]): (Uint8Array | undefined)[];
  beginCatchUp(peerSyncIds: readonly string[]): (Uint8Array | undefined)[];
  clearPages(map: Uint8Array): void;
  verify(body: Uint8Array): Error | undefined;
  apply(body: Uint8Array): number[] | undefined;
  diskBacklogBytes(): number;
  promote(): void;
  /** In the order of the options. */
  disks(): DiskDescription[];
  diskSyncIds(): string[];
  inStep(session: string): void;
  stats(): NativeStats;
  watchConsole(wanted: boolean): void;
  consoleHead(): number;
  readConsole(from: number, into: Uint8Array): number;
  typeConsole(typed: Uint8Array): number;
  /** Throws what the disks could not be closed with; everything is closed even so, but for what
   * waits for storage that does not answer (FT_ERR_DISK_STUCK). */
  close(): void;
}

export interface NativeRawSocket {
  write(
    buffers: readonly Uint8Array[],
    lengths: readonly number[],
    from: number,
    count: number,
    skip: number,
  ): number;
  watch(readable: boolean, writable: boolean): void;
  aim(gap: Uint8Array, roomBytes: number): void;
  close(): void;
}

export interface Addon {
  readonly NativeMachine: new (
    options: NativeMachineOptions,
    facts: Float64Array,
    onCut: () => void,
    /** A number of native/machine/power.h's GuestEnd. */
    onGuestEnd: (how: number) => void,
    onStopped: (message: string) => void,
    onDisksSynced: () => void,
    /** An image could not be written with an epoch's records, or not be read for the peer. */
    onDiskFailed: (during: 'apply' | 'sync', code: string, message: string) => void,
    /** The guest printed something, while it is watched. */
    onConsole: () => void,
  ) => NativeMachine;
  crc32c(bytes: Uint8Array): number;
  /** native/binding/raw_socket.h */
  readonly RawSocket: new (
    fd: number,
    room: Uint8Array,
    onReadable: (bytes: number) => void,
    onWritable: () => void,
  ) => NativeRawSocket;
  /** native/binding/loop_hooks.h; 0: the event loop sleeps as usual. */
  setBusyPoll(us: number): void;
  /** native/core/memory_keeper.h: once in a process's life; returns the keeper's process id. */
  startMemoryKeeper(): number;
  /** native/core/service_notify.h: one datagram, sent at once or not at all (it throws then). */
  systemdNotify(address: string, text: string): void;
  /** native/core/confine.h; throws when only a part of it can be had. */
  confine(wanted: Confinement): Confined;
  probeKvm(path: string): void;
}

/** native/core/confine.h: what this process may still write, and the TCP ports it may listen at. */
export interface Confinement {
  readonly writable: readonly string[];
  readonly bindPorts: readonly number[];
}

/** native/core/confine.h: what the kernel granted. */
export interface Confined {
  /** The version of Landlock, 0 without it. */
  readonly landlock: number;
  /** It is 0 because something forbids this process to ask for it. */
  readonly forbidden: boolean;
}

/** The folder that holds package.json, seen from src/ and from dist/src/ alike. */
function packageRoot(): string {
  const up = path.resolve(__dirname, '..', '..');
  return path.basename(up) === 'dist' ? path.dirname(up) : up;
}

let loaded: Addon | undefined;

/** Loads the addon once. Throws FT_ERR_ADDON when it was not built. */
export function addon(): Addon {
  if (loaded !== undefined) return loaded;
  const file = path.join(packageRoot(), 'build', 'Release', 'romulus.node');
  try {
    loaded = require(file) as Addon;
  } catch (thrown) {
    throw new FtError(
      'FT_ERR_ADDON',
      `cannot load the native addon ${file}; build it with "make build"`,
      { file },
      thrown,
    );
  }
  return loaded;
}

/** Throws an FtError (FT_ERR_KVM_…) when this host's KVM cannot run a protected guest. */
export function probeKvm(path = '/dev/kvm'): void {
  try {
    addon().probeKvm(path);
  } catch (thrown) {
    throw toFtError(thrown);
  }
}
