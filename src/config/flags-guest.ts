/** The flags of the guest and its machine. */
import { CPU_MODELS, MACHINES } from './choices';
import type { FlagSpec } from './flag-spec';

/** The address of a card that nobody gave one. */
export const DEFAULT_MAC = '52:54:00:12:34:56';

export const GUEST_FLAGS: readonly FlagSpec[] = [
  {
    group: 'Guest',
    name: 'machine',
    value: 'kvm|simulated',
    type: { kind: 'choice', choices: MACHINES },
    fallback: 'kvm',
    help: 'what runs the guest; "simulated" needs no /dev/kvm and serves UDP on --sim-port',
  },
  {
    group: 'Guest',
    name: 'kernel',
    value: 'PATH',
    type: { kind: 'path' },
    only: 'ft-primary',
    help: 'bzImage, or ELF image with a PVH note, to boot (needed with --machine kvm)',
  },
  {
    group: 'Guest',
    name: 'initrd',
    value: 'PATH',
    type: { kind: 'path' },
    only: 'ft-primary',
    help: 'initial RAM disk handed to the kernel',
  },
  {
    group: 'Guest',
    name: 'cmdline',
    value: 'STRING',
    type: { kind: 'text' },
    fallback: '',
    only: 'ft-primary',
    help: 'command line handed to the kernel',
  },
  {
    group: 'Guest',
    name: 'memory',
    value: 'SIZE',
    type: { kind: 'size', min: 1024 ** 2, max: 1024 ** 4, multipleOf: 4096 },
    fallback: '64M',
    help: 'guest memory, bytes or with K, M, G; the same on both hosts; at least 1M',
  },
  {
    group: 'Guest',
    name: 'cpu',
    value: 'MODEL',
    type: { kind: 'choice', choices: CPU_MODELS },
    fallback: 'host',
    help:
      'processor that the guest sees, and on a standby the most that it offers: host (all of this ' +
      'host), baseline (SSE2), x86-64-v2 (SSE4.2) or x86-64-v3 (AVX2)',
  },
  {
    group: 'Guest',
    name: 'tap',
    value: 'NAME',
    type: { kind: 'tap' },
    help: 'TAP device of the guest network card (needed with --machine kvm)',
  },
  {
    group: 'Guest',
    name: 'netns',
    value: 'NAME',
    type: { kind: 'netns' },
    help: 'network namespace that --tap is in (of ip netns, or a path), if not the one of this process',
  },
  {
    group: 'Guest',
    name: 'mac',
    value: 'AA:BB:CC:DD:EE:FF',
    type: { kind: 'mac' },
    fallback: DEFAULT_MAC,
    help: "the card's address; the same on both hosts, and each guest's own",
  },
  {
    group: 'Guest',
    name: 'console',
    value: 'stdio|none|file:PATH|unix:PATH',
    type: { kind: 'console' },
    fallback: 'none',
    help:
      "where the guest's serial console goes: a terminal (Ctrl-A x ends the command, Ctrl-A a " +
      'types Ctrl-A), a file, or a socket for one client at a time',
  },
  {
    group: 'Guest',
    name: 'disk',
    value: 'PATH[,ro]',
    type: { kind: 'disk' },
    repeats: true,
    help:
      'raw image or block device for a disk of the guest, at most 4; the same sizes in the same ' +
      'order on both hosts; "ro": only read, with the same contents on both hosts',
  },
  {
    group: 'Guest',
    name: 'disk-map-dir',
    value: 'DIR',
    type: { kind: 'path' },
    help:
      'where the maps of what differs between the hosts are kept, which make resyncs short ' +
      '(beside an image that is a file; for a block device there is none without this flag)',
  },
  {
    group: 'Guest',
    name: 'vcpus',
    value: 'N',
    type: { kind: 'integer', min: 1, max: 8 },
    fallback: '1',
    help: 'processors of the guest, 1 to 8; the same on both hosts',
  },
  {
    group: 'Guest',
    name: 'vcpu-cpu',
    value: 'N',
    type: { kind: 'integer', min: 0, max: 1023 },
    help: 'gives the vCPUs host CPUs N, N+1 … as far as there are; the rest keeps off them',
  },
  {
    group: 'Guest',
    name: 'sim-port',
    value: 'PORT',
    type: { kind: 'integer', min: 1, max: 65_535 },
    help: 'UDP port on 127.0.0.1 of the simulated guest (needed with --machine simulated)',
  },
];
