/**
 * Every flag of ft-primary and ft-standby in one table: the parser, the help text and the "what is
 * allowed" part of error messages all read it.
 */

export type CommandName = 'ft-primary' | 'ft-standby';

export interface FlagSpec {
  readonly name: string;
  /** What stands for the value in the help; undefined for a switch. */
  readonly value?: string;
  readonly help: string;
  /** The default, as it would be written on the command line. */
  readonly fallback?: string;
  /** May be given more than once. */
  readonly repeats?: true;
  /** Commands that know the flag; both when absent. */
  readonly only?: CommandName;
  readonly group:
    | 'Guest'
    | 'Pair'
    | 'Witness'
    | 'Replication'
    | 'Detection'
    | 'Operation'
    | 'Testing';
}

export const FLAGS: readonly FlagSpec[] = [
  {
    group: 'Guest',
    name: 'machine',
    value: 'kvm|simulated',
    fallback: 'kvm',
    help: 'what runs the guest; "simulated" needs no /dev/kvm and serves UDP on --sim-port',
  },
  {
    group: 'Guest',
    name: 'kernel',
    value: 'PATH',
    only: 'ft-primary',
    help: 'bzImage, or ELF image with a PVH note, to boot (needed with --machine kvm)',
  },
  {
    group: 'Guest',
    name: 'initrd',
    value: 'PATH',
    only: 'ft-primary',
    help: 'initial RAM disk handed to the kernel',
  },
  {
    group: 'Guest',
    name: 'cmdline',
    value: 'STRING',
    fallback: '',
    only: 'ft-primary',
    help: 'command line handed to the kernel',
  },
  {
    group: 'Guest',
    name: 'memory',
    value: 'SIZE',
    fallback: '64M',
    help: 'guest memory, bytes or with K, M, G; the same on both hosts; at least 1M',
  },
  {
    group: 'Guest',
    name: 'cpu',
    value: 'MODEL',
    fallback: 'host',
    help:
      'processor that the guest sees, and on a standby the most that it offers: host (all of this ' +
      'host), baseline (SSE2), x86-64-v2 (SSE4.2) or x86-64-v3 (AVX2)',
  },
  {
    group: 'Guest',
    name: 'tap',
    value: 'NAME',
    help: 'TAP device of the guest network card (needed with --machine kvm)',
  },
  {
    group: 'Guest',
    name: 'netns',
    value: 'NAME',
    help: 'network namespace that --tap is in (of ip netns, or a path), if not the one of this process',
  },
  {
    group: 'Guest',
    name: 'mac',
    value: 'AA:BB:CC:DD:EE:FF',
    fallback: '52:54:00:12:34:56',
    help: "the card's address; the same on both hosts",
  },
  {
    group: 'Guest',
    name: 'console',
    value: 'stdio|none|file:PATH|unix:PATH',
    fallback: 'none',
    help:
      "where the guest's serial console goes: a terminal (Ctrl-A x ends the command, Ctrl-A a " +
      'types Ctrl-A), a file, or a socket for one client at a time',
  },
  {
    group: 'Guest',
    name: 'disk',
    value: 'PATH[,ro]',
    repeats: true,
    help:
      'raw image or block device for a disk of the guest, at most 4; the same sizes in the same ' +
      'order on both hosts; "ro": only read, with the same contents on both hosts',
  },
  {
    group: 'Guest',
    name: 'disk-map-dir',
    value: 'DIR',
    help:
      'where the maps of what differs between the hosts are kept, which make resyncs short ' +
      '(beside an image that is a file; for a block device there is none without this flag)',
  },
  {
    group: 'Guest',
    name: 'vcpus',
    value: 'N',
    fallback: '1',
    help: 'processors of the guest, 1 to 8; the same on both hosts',
  },
  {
    group: 'Guest',
    name: 'vcpu-cpu',
    value: 'N',
    help: 'gives the vCPUs host CPUs N, N+1 … as far as there are; the rest keeps off them',
  },
  {
    group: 'Guest',
    name: 'sim-port',
    value: 'PORT',
    help: 'UDP port on 127.0.0.1 of the simulated guest (needed with --machine simulated)',
  },
  {
    group: 'Pair',
    name: 'pair',
    value: 'NAME',
    fallback: 'default',
    help: 'name of the pair; the same on both hosts; generations are counted per pair',
  },
  {
    group: 'Pair',
    name: 'node',
    value: 'NAME',
    help: 'name of this node at the witness, differs between hosts (host name and role if absent)',
  },
  {
    group: 'Pair',
    name: 'witness',
    value: 'file:DIR|etcd:URL[,URL…]|none',
    help: 'who decides which side runs: a directory that both hosts see, etcd, or nobody (needed)',
  },
  {
    group: 'Pair',
    name: 'listen',
    value: 'HOST:PORT',
    help:
      'where the primary connects to (needed by ft-standby); with it ft-primary becomes the ' +
      'standby when another node runs the guest',
  },
  {
    group: 'Pair',
    name: 'standby',
    value: 'HOST:PORT',
    repeats: true,
    help:
      'where a standby listens; dialled while this node runs the guest; of several the first that ' +
      'answers is taken, and another one when it is lost',
  },
  {
    group: 'Pair',
    name: 'on-fenced',
    value: 'rejoin|exit',
    help:
      'when another node has won the guest: join as its standby in this process (default with ' +
      '--listen), or end with code 4 (default without)',
  },
  {
    group: 'Pair',
    name: 'tls-ca',
    value: 'PATH',
    help: 'authorities that sign the certificates of both nodes, in PEM; with it the link is TLS 1.3',
  },
  {
    group: 'Pair',
    name: 'tls-cert',
    value: 'PATH',
    help: "this node's certificate, in PEM; it names the pair (ftctl pki makes such)",
  },
  {
    group: 'Pair',
    name: 'tls-key',
    value: 'PATH',
    help: 'the key of that certificate, in PEM',
  },
  {
    group: 'Pair',
    name: 'insecure',
    help:
      'allows replication, metrics and etcd in the clear on an address that is not loopback; ' +
      'without --tls-cert anybody there can read the guest and write to it',
  },
  {
    group: 'Pair',
    name: 'force-claim',
    only: 'ft-primary',
    help: 'boots although another node owns the newest generation; only if that node is off for good',
  },
  {
    group: 'Witness',
    name: 'witness-prefix',
    value: 'PREFIX',
    fallback: '/romulus',
    help: 'with etcd: what the keys begin with; the same on both hosts',
  },
  {
    group: 'Witness',
    name: 'witness-ca',
    value: 'PATH',
    help: "with etcd over https: who signs etcd's certificate, in PEM (public authorities if absent)",
  },
  {
    group: 'Witness',
    name: 'witness-cert',
    value: 'PATH',
    help: "with etcd over https: this node's certificate, in PEM",
  },
  {
    group: 'Witness',
    name: 'witness-key',
    value: 'PATH',
    help: 'with etcd over https: the key of that certificate, in PEM',
  },
  {
    group: 'Witness',
    name: 'witness-user',
    value: 'NAME',
    help: 'with etcd: whom to log in as',
  },
  {
    group: 'Witness',
    name: 'witness-password-file',
    value: 'PATH',
    help: "with etcd: file that holds that user's password",
  },
  {
    group: 'Replication',
    name: 'interval-us',
    value: 'N',
    fallback: '400',
    help: 'time between cuts',
  },
  {
    group: 'Replication',
    name: 'in-flight',
    value: 'N',
    fallback: '16',
    help: 'epochs cut and not yet acknowledged, at most; 1 to 64',
  },
  {
    group: 'Replication',
    name: 'busy-poll',
    value: 'US',
    fallback: '0',
    help: 'with --machine kvm: stay awake so long after each event; 0 to 100000. Wants a CPU of its own',
  },
  {
    group: 'Replication',
    name: 'dirty-budget',
    value: 'PAGES',
    fallback: '4096',
    help: 'past this many dirty pages the guest waits for a cut',
  },
  {
    group: 'Replication',
    name: 'audit-pages',
    value: 'N',
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
    fallback: '64M',
    help: 'held output at which the guest is paused',
  },
  {
    group: 'Detection',
    name: 'heartbeat-interval-ms',
    value: 'N',
    fallback: '10',
    help: 'time between heartbeats',
  },
  {
    group: 'Detection',
    name: 'suspect-after-ms',
    value: 'N',
    fallback: '50',
    help:
      'silence after which the peer is suspected; at least twice the heartbeat interval, and ' +
      'more than the time to the peer and back',
  },
  {
    group: 'Operation',
    name: 'on-standby-loss',
    value: 'continue|pause',
    fallback: 'continue',
    help:
      'while a guest that was protected has no standby, after a takeover too: run on without one, ' +
      'or stand still until one holds it (docs/policies.md)',
  },
  {
    group: 'Operation',
    name: 'on-witness-loss',
    value: 'hold|pause|stop',
    fallback: 'hold',
    help:
      'when the standby is lost and the witness cannot say who goes on: run on with all output held, ' +
      'stand still, or end the guest and this process (docs/policies.md)',
  },
  {
    group: 'Operation',
    name: 'on-guest-end',
    value: 'exit|hold',
    fallback: 'exit',
    help:
      'when the guest switches itself off or resets: end this process, or stay (a primary for a ' +
      'look at console and figures, a standby for the next primary)',
  },
  {
    group: 'Operation',
    name: 'control',
    value: 'PATH',
    help: 'serves ftctl at this UNIX socket; only for the user that runs the command',
  },
  {
    group: 'Operation',
    name: 'metrics',
    value: 'HOST:PORT',
    help: 'serves Prometheus metrics there',
  },
  {
    group: 'Operation',
    name: 'status-interval-ms',
    value: 'N',
    help: 'prints a JSON status line on stdout every N ms, and a line per state change',
  },
  { group: 'Operation', name: 'help', help: 'prints this text' },
  { group: 'Operation', name: 'version', help: 'prints the version' },
  {
    group: 'Testing',
    name: 'measure-floor',
    only: 'ft-primary',
    help:
      'harvests dirty pages every --interval-us and replicates nothing: what dirty tracking alone ' +
      'costs here; not with --standby',
  },
  {
    group: 'Testing',
    name: 'test-fault',
    value: 'hide-dirty-page|release-early|ignore-lease',
    repeats: true,
    help: 'breaks a promise on purpose, to prove that tests notice; never in production',
  },
];

export function flagsOf(command: CommandName): readonly FlagSpec[] {
  return FLAGS.filter((flag) => flag.only === undefined || flag.only === command);
}
