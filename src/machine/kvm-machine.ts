/**
 * The KVM machine: a thin, checked face over the native one. See machine.ts for what each method
 * means, native/machine/machine.h for threads and locks.
 */
import { FtError, toFtError } from '../common/errors';
import {
  type ApplyResult,
  type Cut,
  type CutPolicy,
  type DiskFile,
  type EncodedChunk,
  emptyCut,
  type GuestClock,
  type GuestEnd,
  type Machine,
  type MachineDescription,
  type MachineHandlers,
  type MachineStats,
} from './machine';
import { addon, type NativeMachine } from './native';
import { NativeConsole } from './native-console';

/** A file opened for appending (the caller closes it), this process's stdio, or a UNIX socket. */
export type KvmConsole =
  | { readonly kind: 'none' | 'stdio' }
  | { readonly kind: 'file'; readonly fd: number }
  | { readonly kind: 'unix'; readonly path: string };

export interface KvmMachineOptions {
  readonly memoryBytes: number;
  readonly vcpus: number;
  /** What processor the guest sees, or a standby offers; "host" when undefined. */
  readonly cpuModel?: string | undefined;
  /** Empty on a standby: its guest comes from the primary. */
  readonly kernelPath: string;
  /** Handed to the kernel as its initial RAM disk; undefined: none. */
  readonly initrdPath?: string | undefined;
  readonly cmdline: string;
  /** The guest's disks, in order; none when undefined. */
  readonly disks?: readonly DiskFile[] | undefined;
  readonly tapName: string;
  /** Network namespace of the TAP, a name of `ip netns` or a path; undefined: this process's. */
  readonly netns?: string | undefined;
  /** "52:54:00:12:34:56" */
  readonly mac: string;
  /** Where the serial console goes; nowhere when undefined. */
  readonly console?: KvmConsole | undefined;
  /** Host CPU for the first vCPU's thread; the next ones follow as far as there are. */
  readonly vcpuCpu?: number | undefined;
  readonly outboxBytesMax: number;
  readonly kvmPath?: string | undefined;
  /** From boot on, only harvest dirty pages and arm them again, this often (µs), to measure what
   * that alone costs; such a machine cannot be replicated. */
  readonly floorIntervalUs?: number | undefined;
  readonly testFault?: 'hide-dirty-page' | 'release-early' | 'ignore-lease' | undefined;
}

/** Smallest buffer that encodeCut and scanNext take (EpochEncoder::kChunkRoomMin). */
const CHUNK_ROOM_MIN = 256 * 1024;
const FACTS_LENGTH = 19;
/** By the numbers of native/machine/power.h. */
const GUEST_ENDS: readonly (GuestEnd | undefined)[] = [
  undefined,
  { kind: 'power-off', cause: 'power-off by port 0x604' },
  { kind: 'power-off', cause: 'power-off by a KVM system event' },
  { kind: 'reset', cause: 'reset by the keyboard controller' },
  { kind: 'reset', cause: 'reset by port 0xcf9' },
  { kind: 'reset', cause: 'triple fault' },
  { kind: 'reset', cause: 'reset by a KVM system event' },
];
const NO_MISMATCHES: readonly number[] = [];

export class KvmMachine implements Machine {
  description: MachineDescription;
  readonly #native: NativeMachine;
  readonly #ignoresLease: boolean;
  readonly #outboxLimitBytes: number;
  readonly #facts = new Float64Array(FACTS_LENGTH);
  #handlers: MachineHandlers = {
    onCut() {},
    onGuestEnd() {},
    onStopped() {},
    onDisksSynced() {},
    onDiskFailed() {},
  };
  readonly console: NativeConsole;
  readonly #cut = emptyCut();
  readonly #chunk: EncodedChunk = { bytes: 0, rawBytes: 0, last: false, crc: 0 };

  /** Throws FtError: FT_ERR_KVM_…, FT_ERR_TAP_…, FT_ERR_NETNS…, FT_ERR_DISK_…, FT_ERR_MEMORY_SIZE,
   * FT_ERR_VCPU…, FT_ERR_CONSOLE, FT_ERR_ADDON. */
  static create(options: KvmMachineOptions): KvmMachine {
    return new KvmMachine(options);
  }

  private constructor(options: KvmMachineOptions) {
    this.#ignoresLease = options.testFault === 'ignore-lease';
    this.#outboxLimitBytes = options.outboxBytesMax;
    this.#native = natively(
      () =>
        new (addon().NativeMachine)(
          {
            memoryBytes: options.memoryBytes,
            vcpus: options.vcpus,
            cpuModel: options.cpuModel ?? 'host',
            kernelPath: options.kernelPath,
            initrdPath: options.initrdPath ?? '',
            cmdline: options.cmdline,
            disks: options.disks ?? [],
            tapName: options.tapName,
            netns: options.netns ?? '',
            mac: parseMac(options.mac),
            consoleKind: options.console?.kind ?? 'none',
            consoleFd: options.console?.kind === 'file' ? options.console.fd : -1,
            consolePath: options.console?.kind === 'unix' ? options.console.path : '',
            vcpuCpu: options.vcpuCpu ?? -1,
            outboxBytesMax: options.outboxBytesMax,
            kvmPath: options.kvmPath ?? '/dev/kvm',
            floorIntervalUs: options.floorIntervalUs ?? 0,
            hideDirtyPage: options.testFault === 'hide-dirty-page',
            releaseEarly: options.testFault === 'release-early',
          },
          this.#facts,
          () => this.#handlers.onCut(),
          (how) => {
            const end = GUEST_ENDS[how];
            if (end !== undefined) this.#handlers.onGuestEnd(end);
          },
          (message) => this.#handlers.onStopped(new FtError('FT_ERR_MACHINE', message)),
          () => this.#handlers.onDisksSynced(),
          (during, code, message) => {
            const error = new FtError(code, message);
            if (during === 'apply') this.#handlers.onDiskFailed(error);
            else this.#handlers.onDiskSyncFailed?.(error);
          },
          () => this.console.printed(),
        ),
    );
    this.console = new NativeConsole(this.#native, this.#facts);
    const disks = this.#native.disks();
    this.description = {
      kind: 'kvm',
      memoryBytes: options.memoryBytes,
      vcpus: options.vcpus,
      cpuFeatures: this.#native.cpuFeatures(),
      devices: ['serial', 'virtio-net', ...disks.map(() => 'virtio-blk'), 'virtio-rng'],
      disks,
      stateVersion: 2,
    };
  }

  setHandlers(handlers: MachineHandlers): void {
    this.#handlers = handlers;
  }

  boot(): void {
    natively(() => this.#native.boot());
  }

  beginReplication(
    policy: CutPolicy,
    firstEpoch: number,
    peerDiskMaps: readonly (Uint8Array | undefined)[],
    catchUp = false,
  ): void {
    natively(() =>
      this.#native.beginReplication(
        policy.intervalUs,
        policy.dirtyBudgetPages,
        policy.cutOnOutput,
        policy.inFlightMax,
        policy.auditPages,
        this.#ignoresLease ? 0 : policy.leaseUs,
        firstEpoch,
        peerDiskMaps,
        catchUp,
      ),
    );
  }

  setCutInterval(intervalUs: number): void {
    natively(() => this.#native.setCutInterval(intervalUs));
  }

  endReplication(noteChanges = false): void {
    natively(() => this.#native.endReplication(noteChanges));
  }

  notedSince(): number | undefined {
    return this.#native.notedSince();
  }

  catchUpMap(into: Buffer): number {
    return this.#native.catchUpMap(into);
  }

  scanNext(into: Buffer): EncodedChunk {
    checkRoom(into);
    this.#native.scanNext(into);
    return this.#readChunk();
  }

  scanProgress(): number {
    return this.#native.scanProgress();
  }

  disksSynced(): boolean {
    return this.#native.disksSynced();
  }

  diskSyncProgress(): number {
    return this.#native.diskSyncProgress();
  }

  holdOutput(): void {
    this.#native.holdOutput();
  }

  nextCut(into: Buffer): Cut | undefined {
    checkRoom(into);
    if (!this.#native.nextCut(into)) return undefined;
    const facts = this.#facts;
    const cut = this.#cut;
    cut.epoch = facts[0] as number;
    cut.base = facts[1] === 1;
    cut.overrun = facts[2] === 1;
    cut.dirtyPages = facts[3] as number;
    cut.outputFrames = facts[4] as number;
    cut.pauseUs = facts[5] as number;
    cut.harvestUs = facts[6] as number;
    cut.copyUs = facts[7] as number;
    cut.resetUs = facts[8] as number;
    cut.stateUs = facts[9] as number;
    cut.guestEnd = GUEST_ENDS[facts[10] as number];
    cut.wakeUs = facts[11] as number;
    cut.kickUs = facts[12] as number;
    cut.barrierUs = facts[13] as number;
    cut.halted = facts[18] === 1;
    readChunk(cut.chunk, facts, 14);
    return cut;
  }

  encodeCut(into: Buffer): EncodedChunk {
    checkRoom(into);
    this.#native.encodeCut(into);
    return this.#readChunk();
  }

  commit(epoch: number): void {
    this.#native.commit(epoch);
  }

  leaseNowUs(): number {
    return this.#native.leaseNowUs();
  }

  extendLease(sentAtUs: number): void {
    this.#native.extendLease(sentAtUs);
  }

  heal(gfns: readonly number[]): void {
    this.#native.heal(Uint32Array.from(gfns));
  }

  openOutput(): void {
    this.#native.openOutput();
  }

  fence(): void {
    this.#native.fence();
  }

  outputWaits(): boolean {
    return this.#native.outputWaits();
  }

  haltGuest(): void {
    this.#native.haltGuest();
  }

  resumeGuest(): void {
    this.#native.resumeGuest();
  }

  beginSync(peerSyncIds: readonly string[]): readonly (Uint8Array | undefined)[] {
    return natively(() => this.#native.beginSync(peerSyncIds));
  }

  beginCatchUp(peerSyncIds: readonly string[]): readonly (Uint8Array | undefined)[] {
    return natively(() => this.#native.beginCatchUp(peerSyncIds));
  }

  clearPages(map: Uint8Array): void {
    natively(() => this.#native.clearPages(map));
  }

  verify(body: Uint8Array): FtError | undefined {
    const error = this.#native.verify(body);
    return error === undefined ? undefined : toFtError(error);
  }

  apply(body: Uint8Array): ApplyResult {
    const mismatches = natively(() => this.#native.apply(body));
    return {
      pages: this.#facts[0] as number,
      auditMismatches: mismatches ?? NO_MISMATCHES,
      diskBacklogBytes: this.#facts[1] as number,
    };
  }

  diskBacklogBytes(): number {
    return this.#native.diskBacklogBytes();
  }

  promote(): GuestClock {
    natively(() => this.#native.promote());
    // The guest brought its processor with it. Its vCPUs run, so nothing may fail any more; asking a
    // machine that is not closed cannot.
    this.description = { ...this.description, cpuFeatures: this.#native.cpuFeatures() };
    return { cutUs: this.#facts[0] as number, resumedUs: this.#facts[1] as number };
  }

  diskSyncIds(): readonly string[] {
    return this.#native.diskSyncIds();
  }

  inStep(session: string): void {
    this.#native.inStep(session);
  }

  stats(): MachineStats {
    return { ...this.#native.stats(), outboxLimitBytes: this.#outboxLimitBytes };
  }

  close(): FtError | undefined {
    // What its threads have queued for the event loop may still come, and asks the native object.
    setImmediate(() => this.#native);
    this.console.close();
    try {
      this.#native.close();
      return undefined;
    } catch (thrown) {
      // The machine is closed even so, and whoever closes it has nothing left to undo.
      return toFtError(thrown);
    }
  }

  #readChunk(): EncodedChunk {
    readChunk(this.#chunk, this.#facts, 0);
    return this.#chunk;
  }
}

/** An encoded piece as it stands in the facts from `at` on. */
function readChunk(chunk: EncodedChunk, facts: Float64Array, at: number): void {
  chunk.bytes = facts[at] as number;
  chunk.rawBytes = facts[at + 1] as number;
  chunk.last = facts[at + 2] === 1;
  chunk.crc = facts[at + 3] as number;
}

/** Runs a native call; what it throws comes out as an FtError with the native code. */
function natively<T>(call: () => T): T {
  try {
    return call();
  } catch (thrown) {
    throw toFtError(thrown);
  }
}

function checkRoom(into: Buffer): void {
  if (into.length < CHUNK_ROOM_MIN) {
    throw new RangeError(`a chunk buffer has at least ${CHUNK_ROOM_MIN} bytes, not ${into.length}`);
  }
}

function parseMac(text: string): Uint8Array {
  const parts = text.split(':');
  const bytes = parts.map((part) =>
    /^[0-9a-fA-F]{2}$/.test(part) ? Number.parseInt(part, 16) : -1,
  );
  if (bytes.length !== 6 || bytes.includes(-1)) {
    throw new FtError('FT_ERR_CONFIG', `"${text}" is no MAC address such as 52:54:00:12:34:56`);
  }
  return Uint8Array.from(bytes);
}
