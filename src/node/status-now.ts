/**
 * How a node is doing at this moment: state, counters and levels, in the words of the status line
 * (docs/status-lines.md). Takes nothing away from anybody: whoever asks, as often as it likes, gets
 * the same, while rates and percentiles belong to the stretches of one reader (status.ts).
 */
import { PAGE_BYTES } from '../common/units';
import type { DiskStats, Machine, MachineStats } from '../machine/machine';
import type { PrimaryRole } from '../primary/primary-role';
import type { StandbyRole } from '../standby/standby-role';
import type { JournalMoment } from './journal';
import type { RunningNode } from './running-node';
import { stateSentence } from './state-words';

export type StatusLine = Readonly<Record<string, number | string | boolean>>;

export function statusNow(node: RunningNode): StatusLine {
  const { primary, standby, machine, life } = node;
  const { role, state } = node.state;
  const { nodeId, pair } = node.settings;
  const generation = (primary ?? standby)?.generation ?? 0;
  const common = {
    ...{ role, state, node: nodeId, pair, life, generation },
    ...protection(node),
    ...peerFields((primary ?? standby)?.lastPeer),
  };
  if (machine === undefined) return common;
  if (primary !== undefined) {
    const sync = syncFields(primary, machine, node.parts.clock.nowUs());
    return { ...common, ...primaryFields(primary, standby, machine), ...sync };
  }
  if (standby !== undefined) return { ...common, ...standbyFields(standby, machine) };
  return common;
}

/** Whether the guest would outlive this host's loss (primary), or its primary's (standby). */
function protection(node: RunningNode): { readonly protected: boolean; readonly why: string } {
  const { role, state } = node.state;
  const safe = role === 'primary' ? ['protected', 'switching'] : ['ready', 'active'];
  if (safe.includes(state)) return { protected: true, why: '' };
  const { refusal } = node;
  const reason = refusal ?? (node.primary ?? node.standby)?.why ?? '';
  const sentence = stateSentence(role, state);
  return { protected: false, why: reason === '' ? sentence : `${sentence} (${reason})` };
}

/** The other side, also one that is gone; nothing while none was seen in this life. */
function peerFields(
  peer: { readonly node: string; readonly address: string } | undefined,
): StatusLine {
  return peer === undefined ? {} : { peer: peer.node, peerAddress: peer.address };
}

/** How far a sync has come that goes on, in bytes and time; nothing at any other time. */
function syncFields(primary: PrimaryRole, machine: Machine, nowUs: number): StatusLine {
  if (primary.state !== 'syncing') return {};
  const { stats, syncProgress: done } = primary;
  const ofMemory = stats.syncPages * PAGE_BYTES;
  const disks = machine.stats().disks;
  const ofDisks = disks.reduce((total, disk) => total + disk.syncBytes + disk.syncBytesLeft, 0);
  const diskLeft = disks.reduce((total, disk) => total + disk.syncBytesLeft, 0);
  const elapsedMs = (nowUs - stats.syncBeganUs) / 1000;
  return {
    syncBytesTotal: ofMemory + ofDisks,
    syncBytesLeft: Math.round(ofMemory * (1 - machine.scanProgress()) + diskLeft),
    syncElapsedMs: Math.round(elapsedMs),
    // Of what was hardly begun nothing can be said.
    ...(done < 0.01 ? {} : { syncLeftMs: Math.round((elapsedMs * (1 - done)) / done) }),
  };
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
