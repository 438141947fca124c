/**
 * How a node is doing at this moment: state, counters and levels, in the words of the status line
 * (docs/status-lines.md). Takes nothing away from anybody: whoever asks, as often as it likes, gets
 * the same, while rates and percentiles belong to the stretches of one reader (status.ts).
 */
import type { DiskStats, Machine, MachineStats } from '../machine/machine';
import type { PrimaryRole } from '../primary/primary-role';
import type { StandbyRole } from '../standby/standby-role';
import type { JournalMoment } from './journal';
import type { RunningNode } from './running-node';

export type StatusLine = Readonly<Record<string, number | string | boolean>>;

export function statusNow(node: RunningNode): StatusLine {
  const { primary, standby, machine, life } = node;
  const { role, state } = node.state;
  const { nodeId, pair } = node.settings;
  const generation = (primary ?? standby)?.generation ?? 0;
  const common = { role, state, node: nodeId, pair, life, generation };
  if (machine === undefined) return common;
  if (primary !== undefined) return { ...common, ...primaryFields(primary, standby, machine) };
  if (standby !== undefined) return { ...common, ...standbyFields(standby, machine) };
  return common;
}

/** Where the node stands, for an event of the journal. */
export function momentOf(node: RunningNode): JournalMoment {
  const { primary, standby, life } = node;
  const epoch = primary?.stats.epochCommitted ?? standby?.stats.epochHeld ?? 0;
  const generation = (primary ?? standby)?.generation ?? 0;
  return { ...node.state, generation, epoch, life };
}

function primaryFields(
  primary: PrimaryRole,
  standby: StandbyRole | undefined,
  machine: Machine,
): StatusLine {
  const { stats } = primary;
  const counted = machine.stats();
  return {
    epochCut: stats.epochCut,
    epochCommitted: stats.epochCommitted,
    inFlight: primary.inFlight,
    guestHalted: primary.halted,
    syncProgress: round(primary.syncProgress),
    syncKind: stats.syncKind,
    syncPages: stats.syncPages,
    syncBytes: stats.syncWireBytes,
    syncMs: round(stats.syncUs / 1000),
    outboxFrames: counted.outboxFrames,
    outboxBytes: counted.outboxBytes,
    framesReleased: counted.framesReleased,
    framesDropped: counted.framesDropped,
    leaseExpired: counted.leaseExpired,
    auditMismatches: stats.auditMismatches,
    auditPagesHealed: counted.auditPagesHealed,
    overruns: stats.overruns,
    ...(counted.floorEpochs === 0
      ? {}
      : { floorEpochs: counted.floorEpochs, floorPages: counted.floorPages }),
    compressedChunks: stats.compressedChunks,
    chunks: stats.chunks,
    linksLost: stats.linksLost,
    guestClockStepUs: round(standby?.stats.guestClockStepUs ?? 0),
    guestClockBehindUs: round(standby?.stats.guestClockBehindUs ?? 0),
    ...diskFields(counted),
    ...diskSyncFields(machine, counted, primary.state === 'syncing'),
  };
}

function standbyFields(standby: StandbyRole, machine: Machine): StatusLine {
  const { stats } = standby;
  const counted = machine.stats();
  return {
    epochHeld: stats.epochHeld,
    epochApplied: stats.epochApplied,
    pagesApplied: stats.pagesApplied,
    auditMismatches: stats.auditMismatches,
    heldBytesMax: stats.heldBytesMax,
    connectionsRefused: stats.refused,
    ...diskFields(counted),
    ...(counted.disks.length > 0 ? { acksDeferred: stats.acksDeferred } : {}),
  };
}

/** Sums over the guest's disks; nothing when it has none. */
function diskFields({ disks }: MachineStats): StatusLine {
  if (disks.length === 0) return {};
  const sum = (name: keyof DiskStats): number =>
    disks.reduce((total, disk) => total + disk[name], 0);
  return {
    diskReads: sum('reads'),
    diskWrites: sum('writes'),
    diskFlushes: sum('flushes'),
    diskBytesRead: sum('bytesRead'),
    diskBytesWritten: sum('bytesWritten'),
    diskBacklogBytes: sum('backlogBytes'),
    diskErrors: sum('errors'),
    diskRegionsMarked: sum('regionsMarked'),
  };
}

/** How far the disks' sync has come, on the side that sends it. */
function diskSyncFields(machine: Machine, { disks }: MachineStats, syncing: boolean): StatusLine {
  if (disks.length === 0) return {};
  return {
    diskSyncProgress: syncing ? round(machine.diskSyncProgress()) : 1,
    diskSyncBytes: disks.reduce((total, disk) => total + disk.syncBytes, 0),
    diskSyncBytesLeft: disks.reduce((total, disk) => total + disk.syncBytesLeft, 0),
  };
}

/** Three digits behind the point are more than anybody reads. */
function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
