/** The flags of ft-drill, and which of its commands know each. */
import type { FlagSpec } from '../config/flags';
import { matrixDefaults } from './matrix';
import { WITNESS_KINDS } from './pair/sandbox-witness';

export const DRILL_COMMANDS = ['list', 'run', 'sandbox'] as const;
export type DrillCommand = (typeof DRILL_COMMANDS)[number];

/** The switch without which no live node is killed. */
export const KILL_SWITCH = 'i-understand-that-it-kills';

export const DEFAULT_HTTP_PORT = 9471;

const PROBE_RATE_MAX = 1000;

/** Flags of `run` for a pair of its own and for a live one, for those alone, and of `sandbox`. */
export type FlagRoom = 'run' | 'sandbox pair' | 'live pair' | 'sandbox' | 'all';

export type DrillFlag = FlagSpec & { readonly room: FlagRoom };

/** A row of the table; the node's own groups mean nothing here. */
type Row =
  | Omit<Extract<DrillFlag, { readonly value: string }>, 'group'>
  | Omit<Extract<DrillFlag, { readonly value?: undefined }>, 'group'>;

const ROWS: readonly Row[] = [
  {
    room: 'run',
    name: 'runs',
    value: 'N',
    type: { kind: 'integer', min: 1, max: 100_000 },
    help: 'does each scenario so often [once]',
  },
  {
    room: 'run',
    name: 'drills',
    value: 'N',
    type: { kind: 'integer', min: 1, max: 1_000_000 },
    help: 'does so many drills in all, spread evenly over the scenarios (instead of --runs)',
  },
  {
    room: 'run',
    name: 'json',
    value: 'FILE',
    type: { kind: 'path' },
    help: 'writes the report there for machines; again after each scenario',
  },
  {
    room: 'run',
    name: 'html',
    value: 'FILE',
    type: { kind: 'path' },
    help: 'writes the report there as one page, with a picture of each drill',
  },
  {
    room: 'all',
    name: 'logs',
    value: 'FOLDER',
    type: { kind: 'path' },
    help: 'keeps what each process says there [a temporary folder, removed unless a drill failed]',
  },
  {
    room: 'sandbox pair',
    name: 'witness',
    value: 'KIND',
    type: { kind: 'choice', choices: WITNESS_KINDS },
    help: 'an etcd of its own, or a directory [etcd where it is installed]',
  },
  {
    room: 'sandbox pair',
    name: 'memory',
    value: 'SIZE',
    type: { kind: 'size', min: 16 * 1024 ** 2, max: 64 * 1024 ** 3, multipleOf: 4096 },
    fallback: matrixDefaults.memory,
    help: "the guest's memory",
  },
  {
    room: 'sandbox pair',
    name: 'suspect-after-ms',
    value: 'MS',
    type: { kind: 'integer', min: 10, max: 10_000 },
    fallback: `${matrixDefaults.suspectAfterMs}`,
    help: 'after so long without a sign a node suspects the other one',
  },
  {
    room: 'sandbox pair',
    name: 'clients',
    value: 'N',
    type: { kind: 'integer', min: 1, max: 500 },
    fallback: `${matrixDefaults.clients}`,
    help: 'clients that ask the guest all the while',
  },
  {
    room: 'sandbox pair',
    name: 'rate',
    value: 'N',
    type: { kind: 'integer', min: 10, max: 20_000 },
    fallback: `${matrixDefaults.ratePerSecond}`,
    help: 'requests a second of all clients together',
  },
  {
    room: 'sandbox pair',
    name: 'seed',
    value: 'N',
    type: { kind: 'integer', min: 0, max: 4_294_967_295 },
    help: 'draws the same moments again [another one each time]',
  },
  {
    room: 'sandbox pair',
    name: 'test-fault',
    value: 'FAULT',
    type: { kind: 'name' },
    help: 'plants a defect in both nodes, to see the drills find it (as ft-primary --test-fault)',
  },
  {
    room: 'live pair',
    name: 'live',
    value: 'SOCKET',
    type: { kind: 'socket-path' },
    repeats: true,
    help: "the control socket of the live pair's primary, for one switchover; twice, for more runs",
  },
  {
    room: 'live pair',
    name: 'probe',
    value: 'URL',
    type: { kind: 'text' },
    help: 'the client: tcp://HOST:PORT, udp://HOST:PORT, http://… or https://…, icmp://HOST',
  },
  {
    room: 'live pair',
    name: 'probe-rate',
    value: 'N',
    type: { kind: 'integer', min: 1, max: PROBE_RATE_MAX },
    fallback: '50',
    help: 'probes a second; the gap is known as exactly as they are apart',
  },
  {
    room: 'live pair',
    name: 'gap-ms-max',
    value: 'MS',
    type: { kind: 'integer', min: 1, max: 600_000 },
    help: 'a longer gap without an answer is a broken promise',
  },
  {
    room: 'live pair',
    name: 'settle-s',
    value: 'S',
    type: { kind: 'integer', min: 1, max: 3600 },
    fallback: '60',
    help: 'the pair must be protected again within this time',
  },
  { room: 'live pair', name: 'yes', help: 'does not ask at the terminal' },
  {
    room: 'live pair',
    name: KILL_SWITCH,
    help: 'allows the scenarios that kill a node of the live pair',
  },
  {
    room: 'sandbox',
    name: 'http-port',
    value: 'PORT',
    type: { kind: 'integer', min: 1, max: 65_534 },
    fallback: `${DEFAULT_HTTP_PORT}`,
    help: "node a's dashboard on loopback; node b's has the next port",
  },
  {
    room: 'sandbox',
    name: 'restart-s',
    value: 'S',
    type: { kind: 'integer', min: 0, max: 3600 },
    fallback: '5',
    help: 'starts a node that has ended again after so long',
  },
  { room: 'all', name: 'help', help: 'prints this text' },
  { room: 'all', name: 'version', help: 'prints the version' },
];

export const DRILL_FLAGS: readonly DrillFlag[] = ROWS.map((row) => ({
  ...row,
  group: 'Operation',
}));

/** Flags of a command; all rooms of `run`, since --live says which pair it is. */
export function flagsOfCommand(command: DrillCommand): readonly DrillFlag[] {
  const rooms: Readonly<Record<DrillCommand, readonly FlagRoom[]>> = {
    list: ['all'],
    run: ['run', 'sandbox pair', 'live pair', 'all'],
    sandbox: ['sandbox', 'all'],
  };
  return DRILL_FLAGS.filter(({ room }) => rooms[command].includes(room));
}
