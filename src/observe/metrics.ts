/**
 * The metrics of one node. Whoever counts bumps plain numbers and histograms on a NodeFigures, in
 * place, as often as it likes; prom-client sees them only when somebody scrapes. Nothing here runs
 * per epoch.
 *
 *   hot path ── figures.epochsCut++ ──▶ NodeFigures ◀── read at scrape ── Registry ── /metrics
 */
import { Counter, Gauge, Registry } from 'prom-client';
import { Histogram } from '../common/histogram';
import { LogHistogramMetric } from './log-histogram-metric';

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
  role: 'primary' | 'standby';
  /** Which life of the node this is, from 1. */
  life: number;
  generation: number;
  /** A standby holds a restorable image and acknowledges. */
  protected: boolean;
  epochsCut: number;
  epochsCommitted: number;
  epochsInFlight: number;
  dirtyPages: number;
  /** Page bytes that the epochs stood for, and what they took on the wire. */
  rawBytes: number;
  wireBytes: number;
  outboxFrames: number;
  outboxBytes: number;
  leaseExpired: number;
  heartbeatsMissed: number;
  auditMismatches: number;
  /** 0…1. */
  syncProgress: number;
  /** In the order of the guest's disks. */
  disks: readonly DiskFigures[];
  /** Of the takeover on this node, if there was one. */
  guestClockStepUs: number;
  guestClockBehindUs: number;
  /** Cause ("silence", "closed", "switchover") → how often this node took over for it. */
  readonly failovers: Map<string, number>;
  /** Stage of an epoch's way on this node ("wake", "encode") → what it took. */
  readonly stages: Map<string, Histogram>;
  /** Replaced by the owner when it counts in histograms of its own. */
  pauseUs: Histogram;
  ackUs: Histogram;
  outputDelayUs: Histogram;
  eventLoopDelayUs: Histogram;
}

export function newNodeFigures(): NodeFigures {
  return {
    role: 'standby',
    life: 0,
    generation: 0,
    protected: false,
    epochsCut: 0,
    epochsCommitted: 0,
    epochsInFlight: 0,
    dirtyPages: 0,
    rawBytes: 0,
    wireBytes: 0,
    outboxFrames: 0,
    outboxBytes: 0,
    leaseExpired: 0,
    heartbeatsMissed: 0,
    auditMismatches: 0,
    syncProgress: 0,
    disks: [],
    guestClockStepUs: 0,
    guestClockBehindUs: 0,
    failovers: new Map(),
    stages: new Map(),
    pauseUs: new Histogram(),
    ackUs: new Histogram(),
    outputDelayUs: new Histogram(),
    eventLoopDelayUs: new Histogram(),
  };
}

type Read = (figures: NodeFigures) => number;

const COUNTERS: readonly (readonly [string, string, Read])[] = [
  ['ft_epochs_cut_total', 'Epochs cut on this node.', (f) => f.epochsCut],
  ['ft_epochs_committed_total', 'Epochs acknowledged by the standby.', (f) => f.epochsCommitted],
  ['ft_epoch_dirty_pages_total', 'Pages that the epochs carried.', (f) => f.dirtyPages],
  [
    'ft_replication_raw_bytes_total',
    'Bytes of the pages that the epochs stood for.',
    (f) => f.rawBytes,
  ],
  [
    'ft_replication_wire_bytes_total',
    'Bytes that replication put on the wire, headers included.',
    (f) => f.wireBytes,
  ],
  [
    'ft_heartbeats_missed_total',
    'Heartbeats of the peer that came late.',
    (f) => f.heartbeatsMissed,
  ],
  [
    'ft_lease_expired_total',
    'How often acknowledged output had to wait, because the lease on the release path had ended.',
    (f) => f.leaseExpired,
  ],
  [
    'ft_audit_mismatches_total',
    'Pages found to differ between the hosts. Anything but 0 is a defect.',
    (f) => f.auditMismatches,
  ],
];

const GAUGES: readonly (readonly [string, string, Read])[] = [
  ['ft_epochs_in_flight', 'Epochs cut and not yet acknowledged.', (f) => f.epochsInFlight],
  ['ft_outbox_frames', 'Network frames held back.', (f) => f.outboxFrames],
  ['ft_outbox_bytes', 'Bytes of the network frames held back.', (f) => f.outboxBytes],
  [
    'ft_node_life',
    'Lives of this node: 1, and one more for each time it joined anew.',
    (f) => f.life,
  ],
  ['ft_generation', 'Generation that this node takes part in.', (f) => f.generation],
  ['ft_protected', '1 while a standby could take over.', (f) => (f.protected ? 1 : 0)],
  [
    'ft_sync_progress_ratio',
    'How far the sync has come, of memory or disks, whichever is behind; 0 to 1.',
    (f) => f.syncProgress,
  ],
  [
    'ft_guest_clock_step_seconds',
    "By how much the guest's clock went on while this node took it over; never negative.",
    (f) => f.guestClockStepUs / 1e6,
  ],
  [
    'ft_guest_clock_behind_seconds',
    "By how much the guest's clock fell behind real time while this node took it over.",
    (f) => f.guestClockBehindUs / 1e6,
  ],
];

type ReadDisk = (disk: DiskFigures) => number;

const DISK_COUNTERS: readonly (readonly [string, string, ReadDisk])[] = [
  ['ft_disk_reads_total', 'Reads that the guest asked for.', (d) => d.reads],
  ['ft_disk_writes_total', 'Writes of the guest, or of its epochs.', (d) => d.writes],
  ['ft_disk_flushes_total', 'Flushes of the guest, or of its epochs.', (d) => d.flushes],
  ['ft_disk_discards_total', 'Ranges discarded by the guest.', (d) => d.zeroes],
  ['ft_disk_read_bytes_total', 'Bytes read for the guest.', (d) => d.bytesRead],
  ['ft_disk_written_bytes_total', 'Bytes written to the image.', (d) => d.bytesWritten],
  ['ft_disk_errors_total', 'Operations that failed in the image.', (d) => d.errors],
];

const DISK_GAUGES: readonly (readonly [string, string, ReadDisk])[] = [
  [
    'ft_disk_regions_marked',
    "Regions that may differ from the peer's image, and would be sent when it returns.",
    (d) => d.regionsMarked,
  ],
  ['ft_disk_sync_sent_bytes', 'Sent for the sync of this session.', (d) => d.syncBytes],
  ['ft_disk_sync_left_bytes', 'Still to be read for the sync.', (d) => d.syncBytesLeft],
  [
    'ft_disk_backlog_bytes',
    'Submitted or applied, and not in the image yet.',
    (d) => d.backlogBytes,
  ],
];

const HISTOGRAMS: readonly (readonly [string, string, (figures: NodeFigures) => Histogram])[] = [
  ['ft_epoch_pause_seconds', 'How long the guest stood still for a cut.', (f) => f.pauseUs],
  ['ft_epoch_ack_seconds', 'From the cut to the acknowledgement.', (f) => f.ackUs],
  ['ft_output_delay_seconds', 'How long output was held back.', (f) => f.outputDelayUs],
  [
    'ft_event_loop_delay_seconds',
    'How much later than due the event loop came round.',
    (f) => f.eventLoopDelayUs,
  ],
];

const LOOP_PROBE_MS = 10;

export class NodeMetrics {
  readonly registry = new Registry();
  readonly figures: NodeFigures;
  /** Called before each scrape: copies into the figures what others count elsewhere. */
  refresh: () => void = () => {};
  private probe: NodeJS.Timeout | undefined;

  constructor(figures: NodeFigures = newNodeFigures()) {
    this.figures = figures;
    const registers = [this.registry];
    for (const [name, help, read] of COUNTERS) {
      new Counter({
        name,
        help,
        registers,
        collect() {
          this.reset();
          this.inc(read(figures));
        },
      });
    }
    for (const [name, help, read] of GAUGES) {
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(read(figures));
        },
      });
    }
    for (const [name, help, read] of HISTOGRAMS) {
      new LogHistogramMetric({ name, help, registers, read: () => read(figures) });
    }
    new LogHistogramMetric({
      name: 'ft_epoch_stage_seconds',
      help: 'What each stage of an epoch took on this node.',
      registers,
      label: 'stage',
      // A stage takes microseconds: 1 µs … 2^17 µs (131 ms).
      boundsUs: Array.from({ length: 18 }, (_, i) => 2 ** i),
      read: () => figures.stages,
    });
    this.labelled(registers);
    this.disks(registers);
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  /** The page that Prometheus reads. */
  async text(): Promise<string> {
    this.refresh();
    return this.registry.metrics();
  }

  /** Starts to measure the event loop, with a timer that keeps no process alive. */
  startLoopProbe(): void {
    if (this.probe !== undefined) return;
    let dueMs = performance.now() + LOOP_PROBE_MS;
    this.probe = setInterval(() => {
      const nowMs = performance.now();
      this.figures.eventLoopDelayUs.record((nowMs - dueMs) * 1000);
      dueMs = nowMs + LOOP_PROBE_MS;
    }, LOOP_PROBE_MS);
    this.probe.unref();
  }

  stopLoopProbe(): void {
    clearInterval(this.probe);
    this.probe = undefined;
  }

  private disks(registers: Registry[]): void {
    const { figures } = this;
    const labelNames = ['disk'];
    for (const [name, help, read] of DISK_COUNTERS) {
      new Counter({
        name,
        help,
        labelNames,
        registers,
        collect() {
          this.reset();
          for (const [disk, one] of figures.disks.entries()) this.inc({ disk }, read(one));
        },
      });
    }
    for (const [name, help, read] of DISK_GAUGES) {
      new Gauge({
        name,
        help,
        labelNames,
        registers,
        collect() {
          for (const [disk, one] of figures.disks.entries()) this.set({ disk }, read(one));
        },
      });
    }
  }

  private labelled(registers: Registry[]): void {
    const { figures } = this;
    new Gauge({
      name: 'ft_role',
      help: '1 for the role that this node has.',
      labelNames: ['role'],
      registers,
      collect() {
        this.set({ role: 'primary' }, figures.role === 'primary' ? 1 : 0);
        this.set({ role: 'standby' }, figures.role === 'standby' ? 1 : 0);
      },
    });
    new Counter({
      name: 'ft_failovers_total',
      help: 'Times that this node took the guest over.',
      labelNames: ['cause'],
      registers,
      collect() {
        this.reset();
        for (const [cause, count] of figures.failovers) this.inc({ cause }, count);
      },
    });
  }
}
