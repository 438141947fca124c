/**
 * What the metrics page shows of a node: copies into the page's figures what the roles and the
 * machine count. Called once per scrape. What only one role knows is 0 while the node has the other.
 */
import type { WindowedHistogram } from '../common/histogram';
import type { Machine } from '../machine/machine';
import { type NodeFigures, newNodeFigures } from '../observe/node-figures';
import type { PrimaryRole } from '../primary/primary-role';
import type { StandbyRole } from '../standby/standby-role';
import type { RunningNode } from './running-node';

/** What histograms of stages look like from here: those of either role. */
type Stages = Readonly<Record<string, WindowedHistogram>>;

/** States in which a standby holds, or may come to hold, what this side cut. */
const REPLICATES: ReadonlySet<string> = new Set(['syncing', 'protected', 'switching', 'suspended']);

export function copyFigures(node: RunningNode, figures: NodeFigures): void {
  const { primary, standby, machine, tally } = node;
  Object.assign(figures, node.state);
  figures.life = node.life;
  figures.generation = (primary ?? standby)?.generation ?? 0;
  figures.protected = primary === undefined ? standby?.state === 'ready' : isProtected(primary);
  Object.assign(figures, tally.total(node));
  figures.fenced = tally.fenced;
  figures.switchovers = tally.switchovers;
  figures.statesEntered = tally.statesEntered;
  figures.blackoutUs = tally.blackoutUs;
  figures.heartbeatsMissed = (primary ?? standby)?.lateHeartbeats ?? 0;
  copyMachine(machine, figures);
  copyStages({ ...(primary ?? standby)?.stats.stages }, figures);
  copyStandby(standby, figures);
  if (primary === undefined) forgetPrimary(figures);
  else copyPrimary(primary, figures);
}

function isProtected({ state }: PrimaryRole): boolean {
  return state === 'protected' || state === 'switching';
}

function copyMachine(machine: Machine | undefined, figures: NodeFigures): void {
  const counted = machine?.stats();
  figures.outboxFrames = counted?.outboxFrames ?? 0;
  figures.outboxBytes = counted?.outboxBytes ?? 0;
  figures.outboxLimitBytes = counted?.outboxLimitBytes ?? 0;
  figures.framesReleased = counted?.framesReleased ?? 0;
  figures.framesDropped = counted?.framesDropped ?? 0;
  figures.leaseExpired = counted?.leaseExpired ?? 0;
  figures.auditPagesHealed = counted?.auditPagesHealed ?? 0;
  figures.disks = counted?.disks ?? [];
  const exits = Object.entries(counted?.exits ?? {});
  figures.guestExits = new Map(exits.map(([reason, count]) => [kebab(reason), count]));
}

/** "dirtyRingFull" → "dirty-ring-full" */
function kebab(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function copyStages(stages: Stages, figures: NodeFigures): void {
  figures.stages.clear();
  for (const [stage, histogram] of Object.entries(stages)) {
    figures.stages.set(stage, histogram.total);
  }
}

function copyStandby(standby: StandbyRole | undefined, figures: NodeFigures): void {
  const stats = standby?.stats;
  figures.epochsHeld = stats?.epochsHeld ?? 0;
  // Once it runs the guest itself, all that it held is in the image.
  const lag =
    standby?.state === 'active' ? 0 : (stats?.epochHeld ?? 0) - (stats?.epochApplied ?? 0);
  figures.applyLagEpochs = Math.max(0, lag);
  figures.pagesApplied = stats?.pagesApplied ?? 0;
  figures.acksDeferred = stats?.acksDeferred ?? 0;
  figures.takeoverUs = stats?.takeoverUs ?? 0;
  figures.guestClockStepUs = stats?.guestClockStepUs ?? 0;
  figures.guestClockBehindUs = stats?.guestClockBehindUs ?? 0;
}

function copyPrimary(primary: PrimaryRole, figures: NodeFigures): void {
  const { stats } = primary;
  const lag = REPLICATES.has(primary.state) ? primary.lag : { epochs: 0, us: 0 };
  figures.guestHalted = primary.halted === '' ? [] : primary.halted.split(' ');
  figures.epochsCut = stats.epochsCut;
  figures.epochsCommitted = stats.epochsCommitted;
  figures.epochsInFlight = primary.inFlight;
  figures.lagEpochs = lag.epochs;
  figures.lagUs = lag.us;
  figures.dirtyPages = stats.dirtyPages;
  figures.rawBytes = stats.rawBytes;
  figures.bodyBytes = stats.bodyBytes;
  figures.wireBytes = stats.wireBytes;
  figures.chunks = stats.chunks;
  figures.compressedChunks = stats.compressedChunks;
  figures.overruns = stats.overruns;
  figures.syncProgress = primary.syncProgress;
  figures.syncPages = stats.syncPages;
  figures.syncBytes = stats.syncWireBytes;
  figures.syncUs = stats.syncUs;
  figures.syncs = new Map([
    ['full', stats.syncsDone - stats.catchUpsDone],
    ['catch-up', stats.catchUpsDone],
  ]);
  figures.pauseUs = stats.pauseUs.total;
  figures.ackUs = stats.ackUs.total;
  figures.outputDelayUs = stats.outputDelayUs.total;
  figures.epochPages = stats.dirtyPagesPerEpoch;
}

/** What an earlier life counted as primary is over; a scraper sees a counter that began anew. */
function forgetPrimary(figures: NodeFigures): void {
  const fresh = newNodeFigures();
  figures.guestHalted = fresh.guestHalted;
  figures.epochsCut = 0;
  figures.epochsCommitted = 0;
  figures.epochsInFlight = 0;
  figures.lagEpochs = 0;
  figures.lagUs = 0;
  figures.dirtyPages = 0;
  figures.rawBytes = 0;
  figures.bodyBytes = 0;
  figures.wireBytes = 0;
  figures.chunks = 0;
  figures.compressedChunks = 0;
  figures.overruns = 0;
  figures.syncProgress = 0;
  figures.syncPages = 0;
  figures.syncBytes = 0;
  figures.syncUs = 0;
  figures.syncs = fresh.syncs;
  figures.pauseUs = fresh.pauseUs;
  figures.ackUs = fresh.ackUs;
  figures.outputDelayUs = fresh.outputDelayUs;
  figures.epochPages = fresh.epochPages;
}
