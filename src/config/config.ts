/**
 * One validated, typed value per command. What is in here can be relied on: every combination that
 * makes no sense was refused with FT_ERR_CONFIG before anything was opened.
 */
import os from 'node:os';
import type { Address } from '../common/address';
import { FtError } from '../common/errors';
import { LOG_LEVELS, type LogLevel } from '../common/logger';
import {
  CPU_MODELS,
  type CpuModel,
  LOG_FORMATS,
  MACHINES,
  ON_FENCED,
  ON_GUEST_END,
  ON_STANDBY_LOSS,
  ON_WITNESS_LOSS,
  TEST_FAULTS,
  type TestFault,
} from './choices';
import { type ConsoleConfig, type DiskConfig, parseConsole } from './compound-values';
import { readDisks } from './disks';
import type { Environment } from './environment';
import type { CommandName } from './flags';
import { type Flags, located } from './given';
import { type HttpConfig, readHttp } from './http';
import { printConfig } from './print';
import { readSources } from './sources';
import { readTls, refusePlaintext, type TlsConfig } from './tls';
import {
  configError,
  parseAddress,
  parseChoice,
  parseMac,
  parseName,
  parseNetns,
  parseSocketPath,
  parseTap,
} from './values';
import { readWitness, type WitnessConfig } from './witness';

export type { CpuModel, TestFault } from './choices';
export type { ConsoleConfig } from './compound-values';

export interface GuestConfig {
  readonly kind: 'kvm' | 'simulated';
  readonly memoryBytes: number;
  readonly vcpus: number;
  readonly cpu: CpuModel;
  /** Undefined for a standby: its guest comes with the epochs. */
  readonly kernel: string | undefined;
  /** Undefined: none. */
  readonly initrd: string | undefined;
  readonly cmdline: string;
  readonly tap: string | undefined;
  /** Network namespace of the TAP; undefined: this process's. */
  readonly netns: string | undefined;
  readonly mac: string;
  readonly console: ConsoleConfig;
  readonly disks: readonly DiskConfig[];
  /** Where the maps of differing regions are kept; undefined: beside each image. */
  readonly diskMapDir: string | undefined;
  readonly vcpuCpu: number | undefined;
  readonly simPort: number;
  readonly outboxBytesMax: number;
  /** Only measure what dirty tracking costs, at this interval. */
  readonly floorIntervalUs: number | undefined;
  readonly faults: readonly TestFault[];
}

/** When the machine ends an epoch by itself; the same fields as the machine's CutPolicy. */
export interface PolicyConfig {
  readonly intervalUs: number;
  readonly dirtyBudgetPages: number;
  readonly cutOnOutput: boolean;
  readonly inFlightMax: number;
  readonly auditPages: number;
}

/** What of the log is written, and in which form. */
export interface LogConfig {
  readonly level: LogLevel;
  readonly format: (typeof LOG_FORMATS)[number];
}

export interface NodeConfig {
  readonly guest: GuestConfig;
  readonly pair: string;
  readonly nodeId: string;
  readonly witness: WitnessConfig;
  /** Standbys to dial, in order; none: the guest runs unprotected. */
  readonly standbys: readonly Address[];
  readonly policy: PolicyConfig;
  readonly heartbeatIntervalMs: number;
  /** How long the event loop stays awake after something came; 0: it sleeps as usual. */
  readonly busyPollUs: number;
  readonly suspectAfterMs: number;
  /** Where primaries connect to; undefined: this node is never a standby. */
  readonly listen: Address | undefined;
  /** This node's certificate; undefined: the link is not encrypted. */
  readonly tls: TlsConfig | undefined;
  /** The process gives up what it does not need. */
  readonly confine: boolean;
  /** What becomes of a guest that was protected and is not now. */
  readonly onStandbyLoss: 'continue' | 'pause';
  /** What becomes of a guest that lost its standby while the witness cannot be asked. */
  readonly onWitnessLoss: 'hold' | 'pause' | 'stop';
  /** What becomes of the process when another node has won the guest. */
  readonly onFenced: 'rejoin' | 'exit';
  /** Path of the control socket; undefined: none. */
  readonly control: string | undefined;
  /** Undefined: no HTTP server. */
  readonly http: HttpConfig | undefined;
  readonly statusIntervalMs: number | undefined;
  readonly log: LogConfig;
  /** What becomes of the process when the guest ends itself. */
  readonly onGuestEnd: 'exit' | 'hold';
}

export interface PrimaryConfig extends NodeConfig {
  readonly command: 'ft-primary';
  readonly forceClaim: boolean;
}

export interface StandbyConfig extends NodeConfig {
  readonly command: 'ft-standby';
  readonly listen: Address;
}

/** What the command line asks for; help and version win over everything else. */
export type Request<T> =
  | { readonly kind: 'help' | 'version' }
  /** --print-config: the text to print. */
  | { readonly kind: 'print'; readonly text: string }
  | {
      readonly kind: 'run';
      readonly config: T;
      /** What the config was read from. */
      readonly flags: Flags;
      /** Defaults that are no words in the table: printConfig(). */
      readonly derived: Readonly<Record<string, string>>;
    };

/** Throws FT_ERR_CONFIG. */
export function readPrimaryConfig(
  words: readonly string[],
  environment: Environment = {},
): Request<PrimaryConfig> {
  return readRequest('ft-primary', words, environment, (flags) => {
    const forceClaim = flags.has('force-claim');
    return { ...readNode(flags, 'primary'), command: 'ft-primary', forceClaim };
  });
}

/** Throws FT_ERR_CONFIG. */
export function readStandbyConfig(
  words: readonly string[],
  environment: Environment = {},
): Request<StandbyConfig> {
  return readRequest('ft-standby', words, environment, (flags) => {
    const why = 'a standby must know where the primary connects to';
    const listen = readListen(flags, flags.needed('listen', why));
    return { ...readNode(flags, 'standby'), command: 'ft-standby', listen };
  });
}

function readRequest<T extends NodeConfig>(
  command: CommandName,
  words: readonly string[],
  environment: Environment,
  read: (flags: Flags) => T,
): Request<T> {
  const flags = readSources(command, words, environment);
  if (flags.has('help')) return { kind: 'help' };
  if (flags.has('version')) return { kind: 'version' };
  const config = located(flags, () => read(flags));
  const derived = { node: config.nodeId, 'on-fenced': config.onFenced };
  if (!flags.has('print-config')) return { kind: 'run', config, flags, derived };
  return { kind: 'print', text: printConfig(command, flags, derived) };
}

function readListen(flags: Flags, text: string): Address {
  const listen = parseAddress('listen', text, 0);
  refusePlaintext(flags, 'listen', text, listen);
  return listen;
}

function readOnFenced(flags: Flags): 'rejoin' | 'exit' {
  const text = flags.text('on-fenced') ?? (flags.has('listen') ? 'rejoin' : 'exit');
  const wanted = parseChoice('on-fenced', text, ON_FENCED);
  if (wanted === 'exit' || flags.has('listen')) return wanted;
  const message =
    '--on-fenced rejoin needs --listen HOST:PORT: a standby must know where the primary connects to.';
  throw new FtError('FT_ERR_CONFIG', message, { flag: 'on-fenced' });
}

function readNode(flags: Flags, role: 'primary' | 'standby'): NodeConfig {
  const heartbeatIntervalMs = flags.integer('heartbeat-interval-ms');
  const suspectAfterMs = flags.integer('suspect-after-ms');
  if (suspectAfterMs < 2 * heartbeatIntervalMs) {
    const allowed = `at least twice --heartbeat-interval-ms (${heartbeatIntervalMs})`;
    throw configError('suspect-after-ms', `${suspectAfterMs}`, allowed);
  }
  const listen = flags.text('listen');
  return {
    guest: readGuest(flags, role),
    pair: parseName('pair', flags.needed('pair', 'it names the pair')),
    nodeId: parseName('node', flags.text('node') ?? `${os.hostname().slice(0, 40)}-${role}`),
    witness: readWitness(flags),
    standbys: readStandbys(flags),
    listen: listen === undefined ? undefined : readListen(flags, listen),
    tls: readTls(flags),
    confine: !flags.has('unconfined'),
    onStandbyLoss: flags.choice('on-standby-loss', ON_STANDBY_LOSS),
    onWitnessLoss: flags.choice('on-witness-loss', ON_WITNESS_LOSS),
    onFenced: readOnFenced(flags),
    control: readControl(flags),
    policy: {
      intervalUs: flags.integer('interval-us'),
      inFlightMax: flags.integer('in-flight'),
      dirtyBudgetPages: flags.integer('dirty-budget'),
      auditPages: flags.integer('audit-pages'),
      cutOnOutput: !flags.has('no-cut-on-output'),
    },
    heartbeatIntervalMs,
    suspectAfterMs,
    busyPollUs: flags.integer('busy-poll'),
    http: readHttp(flags),
    onGuestEnd: flags.choice('on-guest-end', ON_GUEST_END),
    log: {
      level: flags.choice('log-level', LOG_LEVELS),
      format: flags.choice('log-format', LOG_FORMATS),
    },
    statusIntervalMs: flags.has('status-interval-ms')
      ? flags.integer('status-interval-ms')
      : undefined,
  };
}

function readControl(flags: Flags): string | undefined {
  const path = flags.text('control');
  return path === undefined ? undefined : parseSocketPath('control', path);
}

function readGuest(flags: Flags, role: 'primary' | 'standby'): GuestConfig {
  const kind = flags.choice('machine', MACHINES);
  const kernel = flags.text('kernel');
  if (kind === 'kvm') flags.needed('tap', "it is what the guest's network card is plugged into");
  if (kind === 'kvm' && role === 'primary') {
    flags.needed('kernel', 'a guest on KVM boots from a bzImage or an ELF image with a PVH note');
  }
  if (kind === 'kvm' && flags.has('sim-port')) {
    throw configError(
      'sim-port',
      flags.text('sim-port') ?? '',
      'used with --machine simulated only',
    );
  }
  if (kind === 'simulated') flags.needed('sim-port', 'the simulated guest serves UDP there');
  const simPort = kind === 'simulated' ? flags.integer('sim-port') : 0;
  const tap = flags.text('tap');
  return {
    kind,
    memoryBytes: flags.size('memory'),
    vcpus: readVcpus(flags, kind),
    cpu: flags.choice('cpu', CPU_MODELS),
    kernel,
    initrd: flags.text('initrd'),
    cmdline: flags.text('cmdline') ?? '',
    tap: tap === undefined ? undefined : parseTap('tap', tap),
    netns: readNetns(flags, kind),
    mac: parseMac('mac', flags.needed('mac', 'it has no default')),
    console: readConsole(flags.text('console') ?? 'none', kind),
    disks: readDisks(flags, kind),
    diskMapDir: flags.text('disk-map-dir'),
    vcpuCpu: flags.has('vcpu-cpu') ? flags.integer('vcpu-cpu') : undefined,
    simPort,
    outboxBytesMax: flags.size('outbox-bytes-max'),
    floorIntervalUs: readFloor(flags),
    faults: flags.all('test-fault').map((text) => parseChoice('test-fault', text, TEST_FAULTS)),
  };
}

function readNetns(flags: Flags, kind: GuestConfig['kind']): string | undefined {
  const text = flags.text('netns');
  if (text === undefined) return undefined;
  if (kind === 'simulated') throw configError('netns', text, 'used with --machine kvm only');
  return parseNetns('netns', text);
}

function readFloor(flags: Flags): number | undefined {
  if (!flags.has('measure-floor')) return undefined;
  for (const other of ['standby', 'listen']) {
    if (flags.has(other)) throw configError('measure-floor', '', `used without --${other} only`);
  }
  return flags.integer('interval-us');
}

function readVcpus(flags: Flags, kind: GuestConfig['kind']): number {
  const vcpus = flags.integer('vcpus');
  if (kind === 'simulated' && vcpus > 1) {
    throw configError('vcpus', `${vcpus}`, '1 with a simulated guest');
  }
  return vcpus;
}

function readConsole(text: string, machine: GuestConfig['kind']): ConsoleConfig {
  const target = parseConsole('console', text);
  if (target.kind === 'unix' && machine === 'simulated') {
    throw configError('console', text, 'none with a simulated guest, which prints nothing');
  }
  return target;
}

function readStandbys(flags: Flags): readonly Address[] {
  return flags.all('standby').map((text) => {
    const address = parseAddress('standby', text, 1);
    refusePlaintext(flags, 'standby', text, address);
    return address;
  });
}
