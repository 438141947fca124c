/**
 * What the metrics page shows of one node: plain numbers and histograms. Whoever counts bumps its
 * own in place, as often as it likes; node/figures.ts copies them in here once per scrape.
 */
import { Histogram } from '../common/histogram';

/** One disk of the guest, as the machine counts it. */
export interface DiskFigures {
  readonly reads: number;
  readonly writes: number;
  readonly flushes: number;
  readonly zeroes: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly errors: number;
  readonly regionsMarked: number;
  readonly syncBytes: number;
  readonly syncBytesLeft: number;
  readonly backlogBytes: number;
}

/** All that is shown. Times in µs here; the metrics are in seconds. */
export interface NodeFigures {
  version: string;
  role: 'primary' | 'standby';
  state: string;
  /** Which life of the node this is, from 1. */
  life: number;
  generation: number;
  /** A standby holds a restorable image and acknowledges. */
  protected: boolean;
  /** Why the guest stands still; none while it runs. */
  guestHalted: readonly string[];

  epochsCut: number;
  epochsCommitted: number;
  epochsHeld: number;
  epochsInFlight: number;
  lagEpochs: number;
  lagUs: number;
  dirtyPages: number;
  /** Page bytes that the epochs stood for; what page deltas made of them, and the sync; and what
   * that took on the wire. */
  rawBytes: number;
  bodyBytes: number;
  wireBytes: number;
  chunks: number;
  compressedChunks: number;
  overruns: number;
  auditMismatches: number;
  auditPagesHealed: number;
  linksLost: number;
  connectionsRefused: number;
  heartbeatsMissed: number;
  leaseExpired: number;
  /** Of a standby: epochs held and not applied yet, pages applied, stretches of waiting for disks. */
  applyLagEpochs: number;
  pagesApplied: number;
  acksDeferred: number;

  outboxFrames: number;
  outboxBytes: number;
  outboxLimitBytes: number;
  framesReleased: number;
  framesDropped: number;

  /** 0…1. */
  syncProgress: number;
  syncPages: number;
  syncBytes: number;
  syncUs: number;
  /** In the order of the guest's disks. */
  disks: readonly DiskFigures[];
  /** Of the takeover on this node, if there was one. */
  takeoverUs: number;
  guestClockStepUs: number;
  guestClockBehindUs: number;
  /** When the certificate that this node shows ends, Unix time in seconds; undefined without TLS. */
  tlsExpirySeconds: number | undefined;

  /** Label → count, of the whole process: see TALLY_LABELS for the labels that always stand there. */
  failovers: ReadonlyMap<string, number>;
  fenced: ReadonlyMap<string, number>;
  switchovers: ReadonlyMap<string, number>;
  statesEntered: ReadonlyMap<string, number>;
  syncs: ReadonlyMap<string, number>;
  guestExits: ReadonlyMap<string, number>;
  /** Stage of an epoch's way on this node ("wake", "encode") → what it took. */
  readonly stages: Map<string, Histogram>;

  pauseUs: Histogram;
  ackUs: Histogram;
  outputDelayUs: Histogram;
  /** Pages of each epoch, recorded as if they were µs. */
  epochPages: Histogram;
  blackoutUs: Histogram;
  eventLoopDelayUs: Histogram;
}

/** Every state that a node can be in, of either role. */
export const STATES = [
  ...['starting', 'solo', 'syncing', 'protected', 'switching', 'suspended'],
  ...['joining', 'ready', 'suspecting', 'promoting', 'active'],
  ...['fenced', 'ended', 'stopped'],
] as const;

/**
 * The values of each label that are known beforehand. They stand there with 0 from the first scrape
 * on, so that the first event is an increase and not the birth of a series.
 */
export const LABELS = {
  role: ['primary', 'standby'],
  state: STATES,
  failovers: ['silence', 'closed', 'switchover'],
  fenced: ['lost', 'switchover'],
  switchovers: ['done', 'refused', 'failed'],
  syncs: ['full', 'catch-up'],
  halts: ['switchover', 'standby-loss', 'witness-loss'],
  exits: [
    ...['io', 'mmio', 'halt', 'interrupted', 'dirty-ring-full', 'shutdown', 'system-event'],
    ...['internal-error', 'fail-entry', 'other'],
  ],
} as const;

export function newNodeFigures(): NodeFigures {
  const none = new Map<string, number>();
  return {
    ...{ version: '', role: 'standby', state: 'joining', life: 0, generation: 0 },
    ...{ protected: false, guestHalted: [] },
    ...{ epochsCut: 0, epochsCommitted: 0, epochsHeld: 0, epochsInFlight: 0 },
    ...{ lagEpochs: 0, lagUs: 0, dirtyPages: 0, rawBytes: 0, bodyBytes: 0, wireBytes: 0 },
    ...{ chunks: 0, compressedChunks: 0, overruns: 0, auditMismatches: 0, auditPagesHealed: 0 },
    ...{ linksLost: 0, connectionsRefused: 0, heartbeatsMissed: 0, leaseExpired: 0 },
    ...{ applyLagEpochs: 0, pagesApplied: 0, acksDeferred: 0 },
    ...{ outboxFrames: 0, outboxBytes: 0, outboxLimitBytes: 0 },
    ...{ framesReleased: 0, framesDropped: 0 },
    ...{ syncProgress: 0, syncPages: 0, syncBytes: 0, syncUs: 0, disks: [] },
    ...{ takeoverUs: 0, guestClockStepUs: 0, guestClockBehindUs: 0, tlsExpirySeconds: undefined },
    ...{ failovers: none, fenced: none, switchovers: none, statesEntered: none },
    ...{ syncs: none, guestExits: none, stages: new Map() },
    ...{ pauseUs: new Histogram(), ackUs: new Histogram(), outputDelayUs: new Histogram() },
    ...{ epochPages: new Histogram(), blackoutUs: new Histogram() },
    eventLoopDelayUs: new Histogram(),
  };
}
