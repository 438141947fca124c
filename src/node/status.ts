/**
 * The status line: one flat object per interval that says how the node is doing. Rates and
 * percentiles are those of the stretch since the last line; counters run from the start of the
 * node's life (node/running-node.ts), since each life has roles and a machine of its own.
 */
import type { Clock } from '../common/clock';
import type { Histogram, WindowedHistogram } from '../common/histogram';
import type { PrimaryStages, PrimaryStats } from '../primary/primary-stats';
import type { StandbyStages } from '../standby/standby-stats';
import { EventLoopWatch } from './event-loop';
import type { RunningNode } from './running-node';
import { type StatusLine, statusNow } from './status-now';

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
  private readonly loop = new EventLoopWatch();

  constructor(
    private readonly node: RunningNode,
    private readonly clock: Clock,
  ) {
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
      const epochs = now.epochsCut - before.epochsCut;
      const pages = now.dirtyPages - before.dirtyPages;
      return {
        ...statusNow(node),
        ...primaryWindows(node.primary.stats),
        epochsPerSecond: perSecond('epochsCommitted'),
        dirtyPagesPerEpoch: epochs === 0 ? 0 : round(pages / epochs),
        wireBytesPerSecond: perSecond('wireBytes'),
        rawBytesPerSecond: perSecond('rawBytes'),
        bodyBytesPerSecond: perSecond('bodyBytes'),
        eventLoopUsMax,
      };
    }
    const stages = node.standby?.stats.stages;
    return {
      ...statusNow(node),
      ...(stages === undefined ? {} : stageFields(stages)),
      epochsPerSecond: perSecond('epochsHeld'),
      eventLoopUsMax,
    };
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

function nothingBefore(atUs: number): Before {
  const bytes = { wireBytes: 0, rawBytes: 0, bodyBytes: 0 };
  const epochs = { epochsCommitted: 0, epochsCut: 0, epochsHeld: 0 };
  return { atUs, life: 0, dirtyPages: 0, ...bytes, ...epochs };
}

function primaryWindows(stats: PrimaryStats): StatusLine {
  const { pauseUs, ackUs, outputDelayUs } = stats;
  const line = {
    ...percentiles('pauseUs', pauseUs.window),
    ...percentiles('ackUs', ackUs.window),
    ...percentiles('outputDelayUs', outputDelayUs.window),
    ...stageFields(stats.stages),
  };
  for (const histogram of [pauseUs, ackUs, outputDelayUs]) histogram.endWindow();
  return line;
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
