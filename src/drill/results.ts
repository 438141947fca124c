/**
 * What drills leave behind: one Run for each, all of a scenario together with what the clients and the
 * network say of them. Drills on a sandbox pair and on a live pair leave the same, so that one report
 * tells of both.
 */
import type { DualActiveMoment } from './lan/dual-active';
import type { Silence } from './oracle/oracle-meter';
import type { Timeline } from './timeline';

/** One drill. Times in ms; undefined where there is none. */
export interface Run {
  readonly scenario: string;
  readonly n: number;
  /** Fault → first answer after the silence that it caused; undefined where the guest never stopped,
   * or was lost. */
  readonly failoverMs: number | undefined;
  /** The longest stretch without an answer that the fault caused; undefined where the guest was lost. */
  readonly silenceMs: number | undefined;
  /** Fault → the guest runs with its output open; undefined where it never stopped. */
  readonly promotedMs: number | undefined;
  readonly blackoutMs: number | undefined;
  /** The guest goes on where it was not before. */
  readonly moved: boolean;
  readonly guestLost: boolean;
  /** The sides had changed before the fault, since the machine stalled. */
  readonly unplanned: boolean;
  /** Everything mended → protected again. */
  readonly reprotectedMs: number;
  /** The last sync: "full", or "catch-up" when only what had changed was sent; and its bytes. */
  readonly syncKind: string;
  readonly syncBytes: number;
  /** Why the drill did not come to its end. */
  readonly failure: string | undefined;
}

/** What became of the clients' requests, by whoever judged them. */
export interface ClientVerdict {
  readonly requests: number;
  readonly retries: number;
  /** Answers that are gone, and answers that contradict others. */
  readonly lost: number;
  readonly regressed: number;
  readonly violations: readonly { readonly story: string }[];
}

/** A drill's picture, by the number of its run. */
export interface KeptTimeline extends Pick<Run, 'n' | 'failoverMs' | 'silenceMs'> {
  readonly timeline: Timeline;
}

export interface ScenarioResult {
  readonly scenario: { readonly name: string; readonly what: string };
  readonly runs: readonly Run[];
  readonly verdicts: readonly ClientVerdict[];
  /** Undefined where nobody watched the network. */
  readonly dualActive: readonly DualActiveMoment[] | undefined;
  readonly framesSeen: number;
  /** The first drill's and the slowest ones', TIMELINES_MAX at most. */
  readonly timelines: readonly KeptTimeline[];
}

/** As many pictures of one scenario are kept; a report of a thousand drills can still be opened. */
export const TIMELINES_MAX = 12;

/** Adds a picture; of too many, the one of the shortest silence goes, but never the first. */
export function keepTimeline(kept: KeptTimeline[], one: KeptTimeline): void {
  kept.push(one);
  if (kept.length <= TIMELINES_MAX) return;
  const [, ...others] = kept;
  const shortest = others.reduce((least, other) =>
    (other.silenceMs ?? 0) < (least.silenceMs ?? 0) ? other : least,
  );
  kept.splice(kept.indexOf(shortest), 1);
}

/**
 * What one fault cost, ms: `ranUs` is when the guest ran again (undefined: it never stopped), `silence`
 * the longest stretch without an answer around it; both monotonic µs, as the fault.
 */
export function figuresOfFault(
  faultUs: number,
  ranUs: number | undefined,
  silence: Silence | undefined,
): Pick<Run, 'failoverMs' | 'silenceMs' | 'promotedMs'> {
  const hasStopped = ranUs !== undefined;
  return {
    failoverMs: silence && hasStopped ? (silence.toUs - faultUs) / 1000 : undefined,
    silenceMs: silence && (silence.toUs - silence.fromUs) / 1000,
    promotedMs: hasStopped ? (ranUs - faultUs) / 1000 : undefined,
  };
}

/** A run that did not come to its end. */
export function failedRun(scenario: string, n: number, failure: string): Run {
  return {
    scenario,
    n,
    failoverMs: undefined,
    silenceMs: undefined,
    promotedMs: undefined,
    blackoutMs: undefined,
    moved: false,
    guestLost: false,
    unplanned: false,
    reprotectedMs: 0,
    syncKind: '',
    syncBytes: 0,
    failure,
  };
}
