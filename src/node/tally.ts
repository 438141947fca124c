/**
 * What a node counts over all its lives, for the metrics: roles and machines count in their own life
 * alone, and what happens seldom must not be lost with it. Nothing here is touched per epoch.
 *
 *   life 1: primary, standby ─ lifeEnds ─┐
 *   life 2: primary, standby ─ lifeEnds ─┴▶ tally ── + the life that goes on ──▶ figures.ts
 */
import { FtError } from '../common/errors';
import { Histogram } from '../common/histogram';
import type { PrimaryRole } from '../primary/primary-role';
import type { SwitchoverDone } from '../primary/switchover';
import type { StandbyRole } from '../standby/standby-role';

/** The roles of one life; the standby's also when it was promoted since. */
export interface Life {
  readonly primary: PrimaryRole | undefined;
  readonly standby: StandbyRole | undefined;
}

/** The rare events of one life, or of several. */
export interface RareCounts {
  readonly auditMismatches: number;
  readonly linksLost: number;
  readonly connectionsRefused: number;
  /** Cause → how often this node took the guest over. */
  readonly failovers: ReadonlyMap<string, number>;
}

/** Codes that say that a switchover did not even begin. */
const REFUSED: ReadonlySet<string> = new Set([
  'FT_ERR_SWITCHOVER_ROLE',
  'FT_ERR_SWITCHOVER_STATE',
  'FT_ERR_SWITCHOVER_WITNESS',
]);

export class Tally {
  /** State → how often it was entered. */
  readonly statesEntered = new Map<string, number>();
  /** "lost" (to a claim) or "switchover" → how often the guest here was fenced. */
  readonly fenced = new Map<string, number>();
  /** "done", "refused" or "failed" → switchovers that were asked for here. */
  readonly switchovers = new Map<string, number>();
  /** Of the switchovers that were done. */
  readonly blackoutUs = new Histogram();
  /** Whoever dialled this node while it was the primary, or was turned away before a word. */
  private refusedAtDoor = 0;
  private before: RareCounts = {
    ...{ auditMismatches: 0, linksLost: 0, connectionsRefused: 0, failovers: new Map() },
  };

  entered(state: string): void {
    bump(this.statesEntered, state);
  }

  wasFenced(switchover: SwitchoverDone | undefined): void {
    bump(this.fenced, switchover === undefined ? 'lost' : 'switchover');
  }

  switchover(outcome: SwitchoverDone | FtError): void {
    if (outcome instanceof FtError) {
      bump(this.switchovers, REFUSED.has(outcome.code) ? 'refused' : 'failed');
      return;
    }
    bump(this.switchovers, 'done');
    this.blackoutUs.record(outcome.blackoutUs);
  }

  doorRefused(): void {
    this.refusedAtDoor += 1;
  }

  /** The roles of `life` are done with. */
  lifeEnds(life: Life): void {
    this.before = sum(this.before, countsOf(life));
  }

  /** All lives until now, the one that goes on included. */
  total(life: Life): RareCounts {
    const all = sum(this.before, countsOf(life));
    return { ...all, connectionsRefused: all.connectionsRefused + this.refusedAtDoor };
  }
}

function countsOf({ primary, standby }: Life): RareCounts {
  const mismatches = (primary?.stats.auditMismatches ?? 0) + (standby?.stats.auditMismatches ?? 0);
  return {
    auditMismatches: mismatches,
    linksLost: primary?.stats.linksLost ?? 0,
    connectionsRefused: standby?.stats.refused ?? 0,
    failovers: standby?.stats.failovers ?? new Map(),
  };
}

function sum(a: RareCounts, b: RareCounts): RareCounts {
  const failovers = new Map(a.failovers);
  for (const [cause, count] of b.failovers) bump(failovers, cause, count);
  return {
    auditMismatches: a.auditMismatches + b.auditMismatches,
    linksLost: a.linksLost + b.linksLost,
    connectionsRefused: a.connectionsRefused + b.connectionsRefused,
    failovers,
  };
}

function bump(counts: Map<string, number>, key: string, by = 1): void {
  counts.set(key, (counts.get(key) ?? 0) + by);
}
