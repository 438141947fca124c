/** The flags of replication and of the detection of losses. */
import type { FlagSpec } from './flag-spec';

export const REPLICATION_FLAGS: readonly FlagSpec[] = [
  {
    group: 'Replication',
    name: 'interval-us',
    value: 'N',
    type: { kind: 'integer', min: 20, max: 10_000_000 },
    fallback: '400',
    reload: true,
    help: 'time between cuts',
  },
  {
    group: 'Replication',
    name: 'in-flight',
    value: 'N',
    type: { kind: 'integer', min: 1, max: 64 },
    fallback: '16',
    help: 'epochs cut and not yet acknowledged, at most; 1 to 64',
  },
  {
    group: 'Replication',
    name: 'busy-poll',
    value: 'US',
    type: { kind: 'integer', min: 0, max: 100_000 },
    fallback: '0',
    help: 'with --machine kvm: stay awake so long after each event; 0 to 100000. Wants a CPU of its own',
  },
  {
    group: 'Replication',
    name: 'dirty-budget',
    value: 'PAGES',
    type: { kind: 'integer', min: 16, max: 60_000 },
    fallback: '4096',
    help: 'past this many dirty pages the guest waits for a cut',
  },
  {
    group: 'Replication',
    name: 'audit-pages',
    value: 'N',
    type: { kind: 'integer', min: 0, max: 64 },
    fallback: '2',
    help: 'guest pages compared on both hosts with an epoch, each 250 us at most; 0 to 64',
  },
  {
    group: 'Replication',
    name: 'no-cut-on-output',
    help: 'lets output wait for the interval instead of cutting at once',
  },
  {
    group: 'Replication',
    name: 'outbox-bytes-max',
    value: 'SIZE',
    type: { kind: 'size', min: 64 * 1024, max: 16 * 1024 ** 3 },
    fallback: '64M',
    help: 'held output at which the guest is paused',
  },
  {
    group: 'Detection',
    name: 'heartbeat-interval-ms',
    value: 'N',
    type: { kind: 'integer', min: 1, max: 10_000 },
    fallback: '10',
    help: 'time between heartbeats',
  },
  {
    group: 'Detection',
    name: 'suspect-after-ms',
    value: 'N',
    type: { kind: 'integer', min: 2, max: 60_000 },
    fallback: '50',
    help:
      'silence after which the peer is suspected; at least twice the heartbeat interval, and ' +
      'more than the time to the peer and back',
  },
];
