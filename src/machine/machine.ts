/**
 * The machine as the roles see it. Two implementations: KvmMachine (native/) and SimulatedMachine.
 *
 * One object serves both roles, since a standby's image becomes the running guest on promotion:
 *
 *   blank ──boot──▶ running ──beginReplication──▶ replicating ──endReplication──▶ running
 *     │                ▲
 *     └──(verify/apply epochs)──promote──┘            any ──stop──▶ stopped
 *
 * Disks are a part of it: their writes travel in the epochs (docs/adr/011-replicated-disk.md).
 * Bytes never cross into TypeScript page by page: the machine encodes into a caller's buffer and
 * decodes from one; TypeScript moves whole bodies. Every method is called on the event loop.
 */
import type { FtError } from '../common/errors';

/** One disk of the guest, as both hosts must have it. */
export interface DiskDescription {
  readonly bytes: number;
  readonly readOnly: boolean;
  /** What tells two read-only images apart (u32); 0 for one that is written, whose contents are
   * made equal by the sync. */
  readonly fingerprint: number;
}

/** What both hosts must agree on; compared field by field in the handshake. */
export interface MachineDescription {
  readonly kind: 'kvm' | 'simulated';
  readonly memoryBytes: number;
  readonly vcpus: number;
  /**
   * Name → value of every word of the processor ("cpuid.7.0.ebx" → number): that of the guest; of a
   * standby, what it offers until it is promoted.
   */
  readonly cpuFeatures: Readonly<Record<string, number>>;
  /** Devices in order ("virtio-net", "serial"). */
  readonly devices: readonly string[];
  /** In the order of the guest's disks; at most DISKS_MAX. */
  readonly disks: readonly DiskDescription[];
  readonly stateVersion: number;
}

/** An image on this host for one of the guest's disks. */
export interface DiskFile {
  /** A raw file or a block device. */
  readonly path: string;
  readonly readOnly: boolean;
  /** Where its map of differing regions is kept; empty: nowhere, and every resync is in full. */
  readonly mapPath: string;
}

/** When the machine ends an epoch by itself. */
export interface CutPolicy {
  /** Time between cuts, µs. */
  readonly intervalUs: number;
  /** Past this many dirty pages, the guest waits for room instead of running on. */
  readonly dirtyBudgetPages: number;
  /** Cut at once when output waits and no epoch is in flight. */
  readonly cutOnOutput: boolean;
  /** Cuts wait while this many epochs are cut and not yet committed. */
  readonly inFlightMax: number;
  /** Guest pages hashed at each cut for the audit. */
  readonly auditPages: number;
  /**
   * Acknowledged output leaves only for so long after the newest acknowledged cut, or after the
   * newest moment given to extendLease(); µs. 0: whenever it is acknowledged.
   */
  readonly leaseUs: number;
}

/** What an operator chooses of it; how long the lease is, each session says. */
export type CutSettings = Omit<CutPolicy, 'leaseUs'>;

/** How the guest ended itself. */
export interface GuestEnd {
  /** It switched itself off, or wants to be started again. */
  readonly kind: 'power-off' | 'reset';
  /** By what, in a few words. */
  readonly cause: string;
}

/** The guest's own clock across a takeover, µs since it booted. It never goes back. */
export interface GuestClock {
  /** At the cut that the guest goes on from. */
  readonly cutUs: number;
  /** When it runs again. */
  readonly resumedUs: number;
}

/** Facts of one cut. The object is reused: read it before the next call. */
export interface Cut {
  epoch: number;
  /** True for the first epoch whose image is restorable (see holdOutput). */
  base: boolean;
  dirtyPages: number;
  outputFrames: number;
  /** Guest stopped → guest about to run again. */
  pauseUs: number;
  harvestUs: number;
  copyUs: number;
  stateUs: number;
  resetUs: number;
  /** Pause over → taken by nextCut(). */
  wakeUs: number;
  /** Asked for → the guest's first vCPU stopped; 0 when nobody had to ask. Before the pause. */
  kickUs: number;
  /** The pause's beginning: until all vCPUs stood still and the devices were out of the way. */
  barrierUs: number;
  /** What nextCut() encoded. */
  chunk: EncodedChunk;
  /** True when the whole memory must be sent because the ring may have lost entries. */
  overrun: boolean;
  /** It has all that the guest ever did: the guest was halted before it, and has been since. */
  halted: boolean;
  /** The guest ended itself in this epoch; no later cut follows. */
  guestEnd: GuestEnd | undefined;
}

/** A Cut to be filled in at each cut, so that the hot path makes no objects. */
export function emptyCut(): Cut {
  const stages = { kickUs: 0, barrierUs: 0, harvestUs: 0, copyUs: 0, stateUs: 0, resetUs: 0 };
  const times = { ...stages, pauseUs: 0, wakeUs: 0 };
  const end = { overrun: false, halted: false, guestEnd: undefined };
  const chunk = { bytes: 0, rawBytes: 0, last: false };
  return { epoch: 0, base: false, dirtyPages: 0, outputFrames: 0, chunk, ...end, ...times };
}

/** One encoded piece of an epoch or of the sync, in the caller's buffer. */
export interface EncodedChunk {
  bytes: number;
  /** Page bytes that these records stand for (4096 × pages that were dirty). */
  rawBytes: number;
  /** True when nothing of this epoch (or of the scan) is left. */
  last: boolean;
  /** CRC-32C of the piece, where the machine sums it on the way; else whoever sends it does. */
  crc?: number;
}

export interface ApplyResult {
  pages: number;
  /** Guest frame numbers whose audit hash did not match. */
  auditMismatches: readonly number[];
  /** As Machine.diskBacklogBytes(), after this body. */
  diskBacklogBytes: number;
}

export interface MachineHandlers {
  /** At least one cut waits for nextCut(). */
  onCut(): void;
  /**
   * The guest ended itself and does not run any more. While replicating, one last cut that says the
   * same follows, or waits already; without, all that the guest said has left or is held.
   */
  onGuestEnd(end: GuestEnd): void;
  /** The machine cannot go on. */
  onStopped(error: FtError): void;
  /** disksSynced() became true. */
  onDisksSynced(): void;
  /**
   * Standby: a record of an epoch could not be written to an image here (FT_ERR_DISK_…), so the
   * image is a copy no more. Said once; nothing is promoted before the next beginSync().
   */
  onDiskFailed(error: FtError): void;
  /**
   * Active side: an image could not be read for the peer (FT_ERR_DISK_IO), so disksSynced() stays
   * false for the rest of this replication. The guest runs on.
   */
  onDiskSyncFailed?(error: FtError): void;
}

/** One disk's numbers, from the start of the process where nothing else is said. */
export interface DiskStats {
  readonly reads: number;
  readonly writes: number;
  readonly flushes: number;
  /** Ranges that the guest discarded; they read as zeros on both sides. */
  readonly zeroes: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Requests of the guest, and records of epochs, that failed in the image. */
  readonly errors: number;
  /** Regions that may differ from the peer's. */
  readonly regionsMarked: number;
  /** Sent for the sync of this session, and still to be read for it. */
  readonly syncBytes: number;
  readonly syncBytesLeft: number;
  /** Submitted or applied, and not yet in the image. */
  readonly backlogBytes: number;
}

export interface MachineStats {
  readonly outboxFrames: number;
  readonly outboxBytes: number;
  /** Bytes held at which the guest is paused. */
  readonly outboxLimitBytes: number;
  readonly framesReleased: number;
  readonly framesDropped: number;
  /** How often acknowledged output had to stay because the lease had ended. */
  readonly leaseExpired: number;
  readonly exits: Readonly<Record<string, number>>;
  readonly auditPagesHealed: number;
  /** Floor cuts, and the pages in them; they are made for comparisons only. */
  readonly floorEpochs: number;
  readonly floorPages: number;
  /** In the order of description.disks. */
  readonly disks: readonly DiskStats[];
}

/** What the guest printed last on its serial console, and how to type there. */
export interface MachineConsole {
  /** How many bytes of output have left this machine, ever; they are numbered from 0. */
  readonly head: number;
  /**
   * Copies output from byte `from` on into `into`. Of what is not kept any more (64 KiB are) nothing
   * is copied: `first` says which byte is the first one in `into`.
   */
  read(from: number, into: Uint8Array): { readonly first: number; readonly bytes: number };
  /** Types; returns how many bytes the guest had room for: 0 where it does not run. */
  type(typed: Uint8Array): number;
  /** Called when something was printed since it was last called; undefined: nobody watches. */
  watch(onOutput: (() => void) | undefined): void;
}

export interface Machine {
  readonly description: MachineDescription;
  setHandlers(handlers: MachineHandlers): void;

  // ── the active side ────────────────────────────────────────────────────────────────────────────
  /** Loads the kernel and starts the vCPUs, output open. */
  boot(): void;
  /**
   * Starts logging dirty pages and cutting epochs, numbered from `firstEpoch`. The shadow is zero,
   * as is the memory of a standby that begins to sync. Output stays open. Writes to disks go into
   * the epochs from here on, and so do the regions that the peer lacks: those marked in its map or
   * in ours, or all of a disk for which `peerDiskMaps` has nothing. Maps have the length that
   * regionMapBytes() gives (the caller checked it) and belong to the caller.
   *
   * With `catchUp` the standby holds its image of the last replication, and clears the pages of
   * catchUpMap(): the shadow is kept but for those, and the scan visits no others.
   */
  beginReplication(
    policy: CutPolicy,
    firstEpoch: number,
    peerDiskMaps: readonly (Uint8Array | undefined)[],
    catchUp?: boolean,
  ): void;
  /** Another time between cuts than the policy's, for the replication that goes on; µs. Nothing
   * happens without one. */
  setCutInterval(intervalUs: number): void;
  /**
   * Stops logging and cutting; waiting cuts are forgotten. The guest runs. Output mode and
   * lease unchanged.
   *
   * With `noteChanges` (the standby had acknowledged its base epoch) it is noted from here on which
   * pages change, until the next beginReplication(), or until they are more than a quarter of
   * memory or 32 MiB.
   */
  endReplication(noteChanges?: boolean): void;
  /**
   * The epoch of the last replication after which every changed page is known, those of epochs that
   * were never acknowledged included; it is at most the newest one that was committed. Undefined
   * when nothing is noted, or was given up.
   */
  notedSince(): number | undefined;
  /**
   * After beginReplication(): the pages that the standby has to clear, one bit a page (bit i mod 8 of
   * byte i / 8; none behind the last page). All of them where `catchUp` was not asked for, or could
   * not be had. Returns the bytes written: pageMapBytes() of this memory.
   */
  catchUpMap(into: Buffer): number;
  /**
   * Encodes the next slice of the initial sync: a scan over all memory, live, while the guest runs.
   * What changes behind the scan's back travels in the epochs.
   */
  scanNext(into: Buffer): EncodedChunk;
  /** 0…1: how far the scan has come. */
  scanProgress(): number;
  /** Every region that the peer lacks is in an epoch, or will be in the next one cut. True without
   * disks. */
  disksSynced(): boolean;
  /** 0…1: how far the disks have come; 1 without disks. */
  diskSyncProgress(): number;
  /**
   * The scan is done, and the disks are synced: the next cut is the base epoch. From that cut on
   * output is held; epochs from the base on are restorable.
   */
  holdOutput(): void;
  /**
   * Takes the oldest waiting cut, if there is one, and encodes its first piece into `into`, in one
   * step. Unless that piece was the `last`, encodeCut() follows before the next nextCut().
   */
  nextCut(into: Buffer): Cut | undefined;
  /** Encodes the next piece of the current cut into `into` (at most its length). */
  encodeCut(into: Buffer): EncodedChunk;
  /**
   * Epoch acknowledged (from the base on; before it nothing leaves): its output and everything older may leave, and further cuts may happen. The
   * lease now lasts until leaseUs after that epoch's cut, if it did not last longer; what is
   * found to be late frame by frame stays, and leaves with the next commit() or extendLease() that
   * makes the lease hold again.
   */
  commit(epoch: number): void;
  /** The clock of the lease, µs: it goes on while the process is stopped or the host suspended. */
  leaseNowUs(): number;
  /**
   * The standby showed that it did not suspect this side at `sentAtUs` (of leaseNowUs()) or later:
   * the lease lasts until leaseUs after that, and acknowledged output that waited for it leaves.
   */
  extendLease(sentAtUs: number): void;
  /** Output that is acknowledged has not left: the lease has ended. */
  outputWaits(): boolean;
  /** Sends these pages raw with the next epoch (their copies on the standby are known to differ). */
  heal(gfns: readonly number[]): void;
  /** This host alone owns the output: hands out what is held and passes on what comes. No lease is
   * asked for from here on. */
  openOutput(): void;
  /** Stops the vCPUs and forgets held output. */
  fence(): void;
  /**
   * The guest stands still from now on (on KVM it may run for some 100 µs yet), also one that is
   * booted or promoted later. Output mode, replication and cuts go on as they are; while
   * replicating, a cut with `halted` follows as soon as there is credit. Twice is once.
   */
  haltGuest(): void;
  /** The guest runs on, if it was halted. */
  resumeGuest(): void;

  // ── the standby ────────────────────────────────────────────────────────────────────────────────
  /**
   * Forgets memory and state: all zero, ready for a sync from its beginning. `peerSyncIds` are the
   * primary's diskSyncIds(). For a disk that was last in step in the same session: its map of
   * regions that may differ, for the primary's beginReplication(). For any other: undefined, and
   * from here on it is in step with nobody, since it is about to become a mixture.
   */
  beginSync(peerSyncIds: readonly string[]): readonly (Uint8Array | undefined)[];
  /** As beginSync(), but what memory holds is kept; clearPages() follows before the first body. */
  beginCatchUp(peerSyncIds: readonly string[]): readonly (Uint8Array | undefined)[];
  /** Clears the pages of a primary's catchUpMap(). Throws FT_ERR_PAGE_MAP when it does not fit this
   * memory, and has touched nothing then. */
  clearPages(map: Uint8Array): void;
  /** Checks a body whole and writes nothing; undefined when every record in it can be applied. */
  verify(body: Uint8Array): FtError | undefined;
  /** Applies a verified body to the image. Bodies in order. Disk records are put in line and are
   * written behind this call. */
  apply(body: Uint8Array): ApplyResult;
  /** Bytes of disk records that were applied and are not in the images yet. */
  diskBacklogBytes(): number;
  /** Restores the state of the last applied epoch and starts the vCPUs, output open; announces the
   * guest's address on the network. The guest's disk requests wait behind what is still being
   * applied. Throws FtError when the state cannot be restored here; then no vCPU has run, nothing has
   * left, and the machine is of no use any more. */
  promote(): GuestClock;

  // ── either side ────────────────────────────────────────────────────────────────────────────────
  /** The session in which each disk was last in step with its peer; "" for none. */
  diskSyncIds(): readonly string[];
  /** Both sides' disks are in step in `session`: the base epoch is acknowledged (primary), or held
   * (standby). */
  inStep(session: string): void;

  /** The guest's serial console; undefined where it has none. */
  readonly console?: MachineConsole;
  stats(): MachineStats;
  /**
   * Stops the vCPUs, ends what the disks have under way, and frees everything. Waits for slow disks
   * as long as they write, and some seconds for those that do nothing. What the disks could not be
   * closed with is returned: after FT_ERR_DISK_STUCK (storage that does not answer) this process
   * still has the images, and no other machine can have them.
   */
  close(): FtError | undefined;
}
