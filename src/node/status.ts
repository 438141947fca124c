/**
 * The status line: one flat object per interval that says how the node is doing. Rates and
 * percentiles are those of the stretch since the last line; counters run from the start of the
 * node's life (node/running-node.ts), since each life has roles and a machine of its own. Every
 * reader has a reporter of its own: how often others look changes nothing in what it is told.
 */
import type { Clock } from '../common/clock';
import type { WindowedHistogram } from '../common/histogram';
import type { PrimaryStages, PrimaryStats } from '../primary/primary-stats';
import type { StandbyStages, StandbyStats } from '../standby/standby-stats';
import { EventLoopWatch, FINE_MS } from './event-loop';
import type { RunningNode } from './running-node';
import { type StatusLine, statusNow } from './status-now';

type Stats = PrimaryStats | StandbyStats;

interface Before {
  atUs: number;
  life: number;
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
  private readonly loop: EventLoopWatch;
  private followed: Stats | undefined;

  /** The event loop is looked at every `loopMs`. */
  constructor(
    private readonly node: RunningNode,
    private readonly clock: Clock,
    loopMs = FINE_MS,
  ) {
    this.loop = new EventLoopWatch(loopMs);
    this.before = this.snapshot();
  }

  /** Takes the line for the stretch since the last call. */
  next(): StatusLine {
    const { node } = this;
    const now = this.snapshot();
    // A new life counts from zero.
    const before = this.before.life === now.life ? this.before : nothingBefore(this.before.atUs);
    this.before = now;
    const seconds = Math.max(1e-6, (now.atUs - before.atUs) / 1e6);
    const eventLoopUsMax = round(this.loop.takeMaxUs());
    const perSecond = (name: keyof Before): number => round((now[name] - before[name]) / seconds);
    if (node.primary !== undefined) {
      this.follow(node.primary.stats);
      const epochs = now.epochsCut - before.epochsCut;
      const pages = now.dirtyPages - before.dirtyPages;
      return {
        ...statusNow(node),
        ...primaryWindows(node.primary.stats, this),
        epochsPerSecond: perSecond('epochsCommitted'),
        dirtyPagesPerEpoch: epochs === 0 ? 0 : round(pages / epochs),
        wireBytesPerSecond: perSecond('wireBytes'),
        rawBytesPerSecond: perSecond('rawBytes'),
        bodyBytesPerSecond: perSecond('bodyBytes'),
        eventLoopUsMax,
      };
    }
    const stages = node.standby?.stats.stages;
    this.follow(node.standby?.stats);
    return {
      ...statusNow(node),
      ...(stages === undefined ? {} : stageFields(stages, this)),
      epochsPerSecond: perSecond('epochsHeld'),
      eventLoopUsMax,
    };
  }

  /** Nobody asks any more: what was kept for this reader alone is let go. */
  close(): void {
    this.follow(undefined);
    this.loop.close();
  }

  /** This reader is remembered by the histograms of one role at a time. */
  private follow(stats: Stats | undefined): void {
    if (stats === this.followed) return;
    for (const histogram of windowsOf(this.followed)) histogram.forget(this);
    this.followed = stats;
  }

  private snapshot(): Before {
    const primary = this.node.primary?.stats;
    return {
      atUs: this.clock.nowUs(),
      life: this.node.life,
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

function windowsOf(stats: Stats | undefined): readonly WindowedHistogram[] {
  if (stats === undefined) return [];
  const stages = Object.values<WindowedHistogram>({ ...stats.stages });
  if (!('pauseUs' in stats)) return stages;
  return [stats.pauseUs, stats.ackUs, stats.outputDelayUs, ...stages];
}

function nothingBefore(atUs: number): Before {
  const bytes = { wireBytes: 0, rawBytes: 0, bodyBytes: 0 };
  const epochs = { epochsCommitted: 0, epochsCut: 0, epochsHeld: 0 };
  return { atUs, life: 0, dirtyPages: 0, ...bytes, ...epochs };
}

function primaryWindows(stats: PrimaryStats, reader: object): StatusLine {
  const { pauseUs, ackUs, outputDelayUs } = stats;
  return {
    ...percentiles('pauseUs', pauseUs, reader),
    ...percentiles('ackUs', ackUs, reader),
    ...percentiles('outputDelayUs', outputDelayUs, reader),
    ...stageFields(stats.stages, reader),
  };
}

/** Where the time of an epoch went since the last line: "stageWakeUsP50" and so on. */
function stageFields(stages: PrimaryStages | StandbyStages, reader: object): StatusLine {
  const line: Record<string, number> = {};
  for (const [name, histogram] of Object.entries<WindowedHistogram>({ ...stages })) {
    const stage = `stage${name.charAt(0).toUpperCase()}${name.slice(1)}Us`;
    Object.assign(line, percentiles(stage, histogram, reader));
  }
  return line;
}

function percentiles(name: string, histogram: WindowedHistogram, reader: object): StatusLine {
  return histogram.look(reader, (seen) => ({
    [`${name}P50`]: round(seen.percentile(0.5)),
    [`${name}P99`]: round(seen.percentile(0.99)),
    [`${name}Max`]: round(seen.maxUs),
  }));
}

/** Three digits behind the point are more than anybody reads. */
function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
