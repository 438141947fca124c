/**
 * The status line: one flat object per interval that says how the node is doing. Rates and
 * percentiles are those of the stretch since the last line; counters run from the start.
 */
import type { Clock } from '../common/clock';
import type { Histogram, WindowedHistogram } from '../common/histogram';
import type { DiskStats, MachineStats } from '../machine/machine';
import type { PrimaryStages, PrimaryStats } from '../primary/primary-stats';
import type { StandbyStages } from '../standby/standby-stats';
import { EventLoopWatch } from './event-loop';
import type { RunningNode } from './running-node';

export type StatusLine = Readonly<Record<string, number | string | boolean>>;

interface Before {
  atUs: number;
  epochsCommitted: number;
  epochsCut: number;
  dirtyPages: number;
  wireBytes: number;
  rawBytes: number;
  bodyBytes: number;
  epochsHeld: number;
}

export class StatusReporter {
  private before: Before;
  private readonly loop = new EventLoopWatch();

  constructor(
    private readonly node: RunningNode,
    private readonly clock: Clock,
  ) {
    this.before = this.snapshot();
  }

  /** Takes the line for the stretch since the last call. */
  next(): StatusLine {
    const { node, before } = this;
    const now = this.snapshot();
    this.before = now;
    const seconds = Math.max(1e-6, (now.atUs - before.atUs) / 1e6);
    const { role, state } = node.state;
    const common = { role, state, node: node.settings.nodeId, pair: node.settings.pair };
    const eventLoopUsMax = round(this.loop.takeMaxUs());
    const perSecond = (name: keyof Before): number => round((now[name] - before[name]) / seconds);
    if (node.primary !== undefined) {
      const epochs = now.epochsCut - before.epochsCut;
      const pages = now.dirtyPages - before.dirtyPages;
      return {
        ...common,
        generation: node.primary.generation,
        ...primaryFields(node, node.primary.stats),
        epochsPerSecond: perSecond('epochsCommitted'),
        dirtyPagesPerEpoch: epochs === 0 ? 0 : round(pages / epochs),
        wireBytesPerSecond: perSecond('wireBytes'),
        rawBytesPerSecond: perSecond('rawBytes'),
        bodyBytesPerSecond: perSecond('bodyBytes'),
        eventLoopUsMax,
      };
    }
    return {
      ...common,
      generation: node.standby?.generation ?? 0,
      ...standbyFields(node),
      epochsPerSecond: perSecond('epochsHeld'),
      eventLoopUsMax,
    };
  }

  private snapshot(): Before {
    const primary = this.node.primary?.stats;
    return {
      atUs: this.clock.nowUs(),
      epochsCommitted: primary?.epochsCommitted ?? 0,
      epochsCut: primary?.epochsCut ?? 0,
      dirtyPages: primary?.dirtyPages ?? 0,
      wireBytes: primary?.wireBytes ?? 0,
      rawBytes: primary?.rawBytes ?? 0,
      bodyBytes: primary?.bodyBytes ?? 0,
      epochsHeld: this.node.standby?.stats.epochsHeld ?? 0,
    };
  }
}

function primaryFields(node: RunningNode, stats: PrimaryStats): StatusLine {
  const machine = node.parts.machine.stats();
  const { pauseUs, ackUs, outputDelayUs } = stats;
  const line = {
    epochCut: stats.epochCut,
    epochCommitted: stats.epochCommitted,
    ...percentiles('pauseUs', pauseUs.window),
    ...percentiles('ackUs', ackUs.window),
    ...percentiles('outputDelayUs', outputDelayUs.window),
    inFlight: node.primary?.inFlight ?? 0,
    syncProgress: round(node.primary?.syncProgress ?? 0),
    outboxFrames: machine.outboxFrames,
    outboxBytes: machine.outboxBytes,
    framesReleased: machine.framesReleased,
    framesDropped: machine.framesDropped,
    auditMismatches: stats.auditMismatches,
    auditPagesHealed: machine.auditPagesHealed,
    overruns: stats.overruns,
    ...(machine.floorEpochs === 0
      ? {}
      : { floorEpochs: machine.floorEpochs, floorPages: machine.floorPages }),
    compressedChunks: stats.compressedChunks,
    chunks: stats.chunks,
    linksLost: stats.linksLost,
    guestClockStepUs: round(node.standby?.stats.guestClockStepUs ?? 0),
    guestClockBehindUs: round(node.standby?.stats.guestClockBehindUs ?? 0),
    ...diskFields(machine),
    ...syncFields(node, machine),
    ...stageFields(stats.stages),
  };
  for (const histogram of [pauseUs, ackUs, outputDelayUs]) histogram.endWindow();
  return line;
}

function standbyFields(node: RunningNode): StatusLine {
  const stats = node.standby?.stats;
  return {
    epochHeld: stats?.epochHeld ?? 0,
    epochApplied: stats?.epochApplied ?? 0,
    pagesApplied: stats?.pagesApplied ?? 0,
    auditMismatches: stats?.auditMismatches ?? 0,
    heldBytesMax: stats?.heldBytesMax ?? 0,
    connectionsRefused: stats?.refused ?? 0,
    ...(stats === undefined ? {} : stageFields(stats.stages)),
    ...diskFields(node.parts.machine.stats()),
    ...(hasDisks(node) ? { acksDeferred: stats?.acksDeferred ?? 0 } : {}),
  };
}

function hasDisks(node: RunningNode): boolean {
  return node.parts.machine.description.disks.length > 0;
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
function syncFields(node: RunningNode, { disks }: MachineStats): StatusLine {
  if (disks.length === 0) return {};
  const syncing = node.state.state === 'syncing';
  return {
    diskSyncProgress: syncing ? round(node.parts.machine.diskSyncProgress()) : 1,
    diskSyncBytes: disks.reduce((total, disk) => total + disk.syncBytes, 0),
    diskSyncBytesLeft: disks.reduce((total, disk) => total + disk.syncBytesLeft, 0),
  };
}

/** Where the time of an epoch went since the last line: "stageWakeUsP50" and so on. */
function stageFields(stages: PrimaryStages | StandbyStages): StatusLine {
  const line: Record<string, number> = {};
  for (const [name, histogram] of Object.entries<WindowedHistogram>({ ...stages })) {
    const stage = `stage${name.charAt(0).toUpperCase()}${name.slice(1)}Us`;
    Object.assign(line, percentiles(stage, histogram.window));
    histogram.endWindow();
  }
  return line;
}

function percentiles(name: string, histogram: Histogram): StatusLine {
  return {
    [`${name}P50`]: round(histogram.percentile(0.5)),
    [`${name}P99`]: round(histogram.percentile(0.99)),
    [`${name}Max`]: round(histogram.maxUs),
  };
}

/** Three digits behind the point are more than anybody reads. */
function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
