/**
 * What the metrics page shows of a node: copies into the page's figures what the roles count.
 * Called once per scrape.
 */
import type { WindowedHistogram } from '../common/histogram';
import { type NodeFigures, newNodeFigures } from '../observe/metrics';
import type { RunningNode } from './running-node';

/** What histograms of stages look like from here: those of either role. */
type Stages = Readonly<Record<string, WindowedHistogram>>;

export function copyFigures(node: RunningNode, figures: NodeFigures): void {
  const machine = node.machine?.stats();
  figures.outboxFrames = machine?.outboxFrames ?? 0;
  figures.outboxBytes = machine?.outboxBytes ?? 0;
  figures.leaseExpired = machine?.leaseExpired ?? 0;
  figures.disks = machine?.disks ?? [];
  figures.life = node.life;
  const { primary, standby } = node;
  figures.failovers.clear();
  for (const [cause, count] of node.failoversBefore) figures.failovers.set(cause, count);
  figures.guestClockStepUs = 0;
  figures.guestClockBehindUs = 0;
  if (standby !== undefined) {
    for (const [cause, count] of standby.stats.failovers) {
      figures.failovers.set(cause, (figures.failovers.get(cause) ?? 0) + count);
    }
    figures.guestClockStepUs = standby.stats.guestClockStepUs;
    figures.guestClockBehindUs = standby.stats.guestClockBehindUs;
  }
  figures.stages.clear();
  const stages: Stages = { ...(primary?.stats.stages ?? standby?.stats.stages) };
  for (const [stage, histogram] of Object.entries(stages)) {
    figures.stages.set(stage, histogram.total);
  }
  if (primary === undefined) {
    figures.role = 'standby';
    figures.generation = standby?.generation ?? 0;
    figures.protected = standby?.state === 'ready';
    figures.heartbeatsMissed = standby?.lateHeartbeats ?? 0;
    figures.auditMismatches = standby?.stats.auditMismatches ?? 0;
    forgetPrimary(figures);
    return;
  }
  const { stats } = primary;
  figures.role = 'primary';
  figures.generation = primary.generation;
  figures.protected = primary.state === 'protected';
  figures.epochsCut = stats.epochsCut;
  figures.epochsCommitted = stats.epochsCommitted;
  figures.epochsInFlight = primary.inFlight;
  figures.dirtyPages = stats.dirtyPages;
  figures.rawBytes = stats.rawBytes;
  figures.wireBytes = stats.wireBytes;
  figures.heartbeatsMissed = primary.lateHeartbeats;
  figures.auditMismatches = stats.auditMismatches;
  figures.syncProgress = primary.syncProgress;
  figures.pauseUs = stats.pauseUs.total;
  figures.ackUs = stats.ackUs.total;
  figures.outputDelayUs = stats.outputDelayUs.total;
}

/** What an earlier life counted as primary is over; a scraper sees a counter that began anew. */
function forgetPrimary(figures: NodeFigures): void {
  const fresh = newNodeFigures();
  figures.epochsCut = 0;
  figures.epochsCommitted = 0;
  figures.epochsInFlight = 0;
  figures.dirtyPages = 0;
  figures.rawBytes = 0;
  figures.wireBytes = 0;
  figures.syncProgress = 0;
  figures.pauseUs = fresh.pauseUs;
  figures.ackUs = fresh.ackUs;
  figures.outputDelayUs = fresh.outputDelayUs;
}
