/**
 * Every metric of a node in one table: its name, which never changes its meaning, what kind it is,
 * and where among the figures it stands. Units are Prometheus' base units: seconds, bytes, ratios.
 * docs/metrics.md says the same for people; a test holds the two together.
 */
import type { Histogram } from '../common/histogram';
import { type DiskFigures, LABELS, type NodeFigures } from './node-figures';

/** A number; a number per value of the row's label; or undefined: there is nothing to show. */
export type Reading = number | undefined | Iterable<readonly [string, number]>;

export interface ValueRow {
  readonly name: string;
  readonly help: string;
  readonly label?: string;
  readonly read: (figures: NodeFigures) => Reading;
}

export interface HistogramRow {
  readonly name: string;
  readonly help: string;
  readonly label?: string;
  /** Upper edges, powers of two; 8 µs … 8.4 s when absent. */
  readonly bounds?: readonly number[];
  /** Values are whole numbers and not µs. */
  readonly whole?: true;
  readonly read: (figures: NodeFigures) => Histogram | ReadonlyMap<string, Histogram>;
}

const row = (name: string, help: string, read: (figures: NodeFigures) => Reading): ValueRow => ({
  name,
  help,
  read,
});

/** One series per value of `label`: 0 for each that is known, then what was counted. */
function counts(
  name: string,
  help: string,
  label: string,
  known: readonly string[],
  read: (figures: NodeFigures) => ReadonlyMap<string, number>,
): ValueRow {
  const zero = known.map((value) => [value, 0] as const);
  return { name, help, label, read: (figures) => new Map([...zero, ...read(figures)]) };
}

/** 1 for the values of `label` that hold, 0 for the others. */
function flags(
  name: string,
  help: string,
  label: string,
  known: readonly string[],
  holds: (figures: NodeFigures, value: string) => boolean,
): ValueRow {
  const read = (figures: NodeFigures): Reading =>
    known.map((value) => [value, holds(figures, value) ? 1 : 0] as const);
  return { name, help, label, read };
}

/** One series per disk, by its number. */
function disks(name: string, help: string, read: (disk: DiskFigures) => number): ValueRow {
  const all = (figures: NodeFigures): Reading =>
    figures.disks.map((disk, index) => [`${index}`, read(disk)] as const);
  return { name, help, label: 'disk', read: all };
}

export const COUNTERS: readonly ValueRow[] = [
  counts(
    'ft_state_entered_total',
    'How often this node entered each state.',
    'state',
    LABELS.state,
    (f) => f.statesEntered,
  ),
  counts(
    'ft_failovers_total',
    'Times that this node took the guest over, by what led to it.',
    'cause',
    LABELS.failovers,
    (f) => f.failovers,
  ),
  counts(
    'ft_fenced_total',
    'Times that this node lost its guest to the other one: to a claim, or in a switchover.',
    'cause',
    LABELS.fenced,
    (f) => f.fenced,
  ),
  counts(
    'ft_switchovers_total',
    'Switchovers that this node was asked for.',
    'outcome',
    LABELS.switchovers,
    (f) => f.switchovers,
  ),
  counts(
    'ft_syncs_total',
    'Syncs of a standby that came to their end.',
    'kind',
    LABELS.syncs,
    (f) => f.syncs,
  ),
  counts(
    'ft_guest_exits_total',
    'Exits of the guest to user space, by reason.',
    'reason',
    LABELS.exits,
    (f) => f.guestExits,
  ),
  row('ft_epochs_cut_total', 'Epochs cut on this node.', (f) => f.epochsCut),
  row('ft_epochs_committed_total', 'Epochs acknowledged by the standby.', (f) => f.epochsCommitted),
  row('ft_epochs_held_total', 'Epochs that this node held whole as standby.', (f) => f.epochsHeld),
  row('ft_epoch_dirty_pages_total', 'Pages that the epochs carried.', (f) => f.dirtyPages),
  row(
    'ft_replication_raw_bytes_total',
    'Bytes of the pages that the epochs stood for.',
    (f) => f.rawBytes,
  ),
  row(
    'ft_replication_body_bytes_total',
    'Bytes of epochs and syncs as page deltas, before compression.',
    (f) => f.bodyBytes,
  ),
  row(
    'ft_replication_wire_bytes_total',
    'Bytes that replication put on the wire, headers included.',
    (f) => f.wireBytes,
  ),
  row('ft_replication_chunks_total', 'Pieces of epochs and syncs sent.', (f) => f.chunks),
  row(
    'ft_replication_compressed_chunks_total',
    'Pieces that were sent compressed.',
    (f) => f.compressedChunks,
  ),
  row(
    'ft_dirty_ring_overruns_total',
    'Cuts that could not trust the dirty ring and sent all of memory.',
    (f) => f.overruns,
  ),
  row(
    'ft_audit_mismatches_total',
    'Pages found to differ between the hosts. Anything but 0 is a defect.',
    (f) => f.auditMismatches,
  ),
  row(
    'ft_audit_pages_healed_total',
    'Pages that were sent again because they differed.',
    (f) => f.auditPagesHealed,
  ),
  row('ft_links_lost_total', 'Standbys that were lost without a word.', (f) => f.linksLost),
  row(
    'ft_connections_refused_total',
    'Connections for replication that were refused or cut off.',
    (f) => f.connectionsRefused,
  ),
  row(
    'ft_heartbeats_missed_total',
    'Heartbeats of the peer that came late.',
    (f) => f.heartbeatsMissed,
  ),
  row(
    'ft_lease_expired_total',
    'How often acknowledged output had to wait, because the lease on the release path had ended.',
    (f) => f.leaseExpired,
  ),
  row('ft_standby_pages_applied_total', 'Pages written to the image here.', (f) => f.pagesApplied),
  row(
    'ft_standby_acks_deferred_total',
    'Stretches in which acknowledgements waited for the disks here.',
    (f) => f.acksDeferred,
  ),
  row(
    'ft_output_frames_released_total',
    'Network frames of the guest that left.',
    (f) => f.framesReleased,
  ),
  row(
    'ft_output_frames_dropped_total',
    'Network frames of the guest that were forgotten, since another node goes on without them.',
    (f) => f.framesDropped,
  ),
  disks('ft_disk_reads_total', 'Reads that the guest asked for.', (d) => d.reads),
  disks('ft_disk_writes_total', 'Writes of the guest, or of its epochs.', (d) => d.writes),
  disks('ft_disk_flushes_total', 'Flushes of the guest, or of its epochs.', (d) => d.flushes),
  disks('ft_disk_discards_total', 'Ranges discarded by the guest.', (d) => d.zeroes),
  disks('ft_disk_read_bytes_total', 'Bytes read for the guest.', (d) => d.bytesRead),
  disks('ft_disk_written_bytes_total', 'Bytes written to the image.', (d) => d.bytesWritten),
  disks('ft_disk_errors_total', 'Operations that failed in the image.', (d) => d.errors),
  row('process_cpu_seconds_total', 'Time that the process took of all CPUs.', () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  }),
];

const START_SECONDS = Date.now() / 1000 - process.uptime();

export const GAUGES: readonly ValueRow[] = [
  {
    name: 'ft_build_info',
    help: 'Always 1; the version is in the label.',
    label: 'version',
    read: (f) => [[f.version, 1]],
  },
  flags(
    'ft_role',
    '1 for the role that this node has.',
    'role',
    LABELS.role,
    (f, role) => f.role === role,
  ),
  flags(
    'ft_state',
    '1 for the state that this node is in.',
    'state',
    LABELS.state,
    (f, state) => f.state === state,
  ),
  row(
    'ft_node_life',
    'Lives of this node: 1, and one more for each time it joined anew.',
    (f) => f.life,
  ),
  row('ft_generation', 'Generation that this node takes part in.', (f) => f.generation),
  row('ft_protected', '1 while a standby could take over.', (f) => (f.protected ? 1 : 0)),
  flags(
    'ft_guest_halted',
    '1 for each reason for which the guest stands still.',
    'reason',
    LABELS.halts,
    (f, reason) => f.guestHalted.includes(reason),
  ),
  row('ft_epochs_in_flight', 'Epochs sent and not yet acknowledged.', (f) => f.epochsInFlight),
  row(
    'ft_replication_lag_epochs',
    'Epochs cut that the standby does not hold yet.',
    (f) => f.lagEpochs,
  ),
  row(
    'ft_replication_lag_seconds',
    'Age of the oldest epoch that the standby does not hold yet; 0 when it holds all.',
    (f) => f.lagUs / 1e6,
  ),
  row(
    'ft_replication_compression_ratio',
    'Page bytes that went for one byte on the wire, since the life of this node began.',
    (f) => (f.wireBytes === 0 ? undefined : f.rawBytes / f.wireBytes),
  ),
  row(
    'ft_standby_apply_lag_epochs',
    'Epochs held here that are not in the image yet.',
    (f) => f.applyLagEpochs,
  ),
  row('ft_outbox_frames', 'Network frames held back.', (f) => f.outboxFrames),
  row('ft_outbox_bytes', 'Bytes of the network frames held back.', (f) => f.outboxBytes),
  row(
    'ft_outbox_limit_bytes',
    'Bytes held back at which the guest is paused.',
    (f) => f.outboxLimitBytes,
  ),
  row(
    'ft_sync_progress_ratio',
    'How far the sync has come, of memory or disks, whichever is behind; 0 to 1.',
    (f) => f.syncProgress,
  ),
  row('ft_sync_pages', 'Pages that the newest sync visits.', (f) => f.syncPages),
  row(
    'ft_sync_last_bytes',
    'Bytes on the wire of the newest sync that came to its end.',
    (f) => f.syncBytes,
  ),
  row(
    'ft_sync_last_seconds',
    'How long the newest sync took that came to its end.',
    (f) => f.syncUs / 1e6,
  ),
  row(
    'ft_guest_takeover_seconds',
    'From the newest state that was complete here to the first step of the guest here.',
    (f) => f.takeoverUs / 1e6,
  ),
  row(
    'ft_guest_clock_step_seconds',
    "By how much the guest's clock went on while this node took it over; never negative.",
    (f) => f.guestClockStepUs / 1e6,
  ),
  row(
    'ft_guest_clock_behind_seconds',
    "By how much the guest's clock fell behind real time while this node took it over.",
    (f) => f.guestClockBehindUs / 1e6,
  ),
  disks(
    'ft_disk_regions_marked',
    "Regions that may differ from the peer's image, and would be sent when it returns.",
    (d) => d.regionsMarked,
  ),
  disks('ft_disk_sync_sent_bytes', 'Sent for the sync of this session.', (d) => d.syncBytes),
  disks('ft_disk_sync_left_bytes', 'Still to be read for the sync.', (d) => d.syncBytesLeft),
  disks(
    'ft_disk_backlog_bytes',
    'Submitted or applied, and not in the image yet.',
    (d) => d.backlogBytes,
  ),
  row(
    'ft_tls_certificate_expiry_seconds',
    "When the first of this node's certificate and its authority ends, Unix time.",
    (f) => f.tlsExpirySeconds,
  ),
  row('process_start_time_seconds', 'When the process began, Unix time.', () => START_SECONDS),
  row('process_resident_memory_bytes', 'Memory of the process in RAM, the guest included.', () =>
    process.memoryUsage.rss(),
  ),
];

/** Powers of two from 2^first to 2^last. */
const powers = (first: number, last: number): number[] =>
  Array.from({ length: last - first + 1 }, (_, i) => 2 ** (first + i));

export const HISTOGRAMS: readonly HistogramRow[] = [
  {
    name: 'ft_epoch_pause_seconds',
    help: 'How long the guest stood still for a cut.',
    read: (f) => f.pauseUs,
  },
  {
    name: 'ft_epoch_ack_seconds',
    help: 'From the cut to the acknowledgement.',
    read: (f) => f.ackUs,
  },
  {
    name: 'ft_output_delay_seconds',
    help: 'How long output was held back.',
    read: (f) => f.outputDelayUs,
  },
  {
    name: 'ft_epoch_pages',
    help: 'Pages that an epoch carried.',
    bounds: powers(0, 16),
    whole: true,
    read: (f) => f.epochPages,
  },
  {
    name: 'ft_epoch_stage_seconds',
    help: 'What each stage of an epoch took on this node.',
    label: 'stage',
    // A stage takes microseconds: 1 µs … 131 ms.
    bounds: powers(0, 17),
    read: (f) => f.stages,
  },
  {
    name: 'ft_switchover_blackout_seconds',
    help: 'How long the guest stood still while this node handed it over.',
    read: (f) => f.blackoutUs,
  },
  {
    name: 'ft_event_loop_delay_seconds',
    help: 'How much later than due the event loop came round, looked at every 10 ms or more often.',
    read: (f) => f.eventLoopDelayUs,
  },
];
