/**
 * Builds a node from its configuration: the one place where the parts of the house meet. Everything
 * that can fail because of the host fails here, before anything is claimed.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { type Address, formatAddress } from '../common/address';
import { systemClock } from '../common/clock';
import { crc32c } from '../common/crc32c';
import { FtError, toFtError } from '../common/errors';
import type { Logger } from '../common/logger';
import type { ConsoleConfig, GuestConfig, PrimaryConfig, StandbyConfig } from '../config/config';
import type { ReloadOutcome } from '../config/reload';
import type { WitnessConfig } from '../config/witness';
import {
  createKvmMachine,
  createSimulatedMachine,
  keepMemoryPastDeath,
  nativeChecksum,
  nativeSockets,
  setBusyPoll,
} from '../machine';
import type { KvmConsole } from '../machine/kvm-machine';
import type { Machine } from '../machine/machine';
import { Journal } from '../node/journal';
import { type NodeEnd, type NodeRole, RunningNode, type StateEvent } from '../node/running-node';
import { StatusLines } from '../node/status-lines';
import { momentOf } from '../node/status-now';
import type { NodeLog } from '../observe/logger';
import type { Dial } from '../primary/link-types';
import { dial, type TcpOptions } from '../transport/tcp';
import { TcpListener } from '../transport/tcp-listener';
import { Lz4Compressor, Lz4Decompressor } from '../wire/compressor';
import type { Checksum } from '../wire/frame';
import { EtcdWitness } from '../witness/etcd';
import { FileWitness } from '../witness/file';
import { NoneWitness } from '../witness/none';
import type { Witness } from '../witness/witness';
import { diskFiles } from './disk-files';
import { tlsFiles, tokenFiles } from './live-settings';
import { openControl } from './open-control';
import { openHttp } from './open-http';
import { openTls, troubleTo } from './open-tls';
import type { Reloader } from './reloader';
import { warnOfSharedMac } from './shared-mac';

const DIAL_MS = 1000;
/** With the handshake of TLS in it. */
const DIAL_TLS_MS = 2000;
/** Below this many bytes, crossing into native code costs more than the checksum. */
const NATIVE_CHECKSUM_BYTES_MIN = 512;

export interface Outside {
  writeLine(line: string): void;
  /** Where the node's log goes; its level may change meanwhile. */
  readonly log: NodeLog;
  /** Whoever reads files again says so here. */
  readonly reloader: Reloader;
  /** Reads the settings again, as SIGHUP does, and says so in the log. An FtError: nothing changed. */
  reload(): ReloadOutcome | FtError;
  onState(event: StateEvent): void;
  onEnd(end: NodeEnd): void;
  /** The settings in effect: config/describe.ts. */
  settings(): object;
}

export interface BuiltNode {
  readonly node: RunningNode;
  /** What happened so far, in the words of the log. */
  readonly journal: Journal;
  /** What it says to programs, if anybody asked for that. */
  readonly lines: StatusLines;
  /** Its log, which the journal hears too. */
  readonly logger: Logger;
  /** Dials these standbys from now on. */
  redial(standbys: readonly Address[]): void;
  /** Starts the role. Rejects with an FtError. */
  start(): Promise<void>;
  /** Lets go of listener, witness, HTTP server and console; the node was stopped before. */
  close(): Promise<void>;
}

/** Rejects with the FtError that says what this host lacks; what was opened is closed again. */
export async function buildNode(
  config: PrimaryConfig | StandbyConfig,
  outside: Outside,
): Promise<BuiltNode> {
  const opened: Opened[] = [];
  try {
    return await assemble(config, outside, opened);
  } catch (thrown) {
    // What cannot be let go of is not why the node does not start.
    await closeAll(opened).catch(() => undefined);
    throw thrown;
  }
}

/** How to let go of something; the newest goes first. */
type Opened = () => void | Promise<void>;

/** Goes on past what fails; rejects with the first failure when all were asked to go. */
async function closeAll(opened: Opened[]): Promise<void> {
  const failures: unknown[] = [];
  for (let close = opened.pop(); close !== undefined; close = opened.pop()) {
    try {
      await close();
    } catch (thrown) {
      failures.push(thrown);
    }
  }
  if (failures.length > 0) throw failures[0];
}

async function assemble(
  config: PrimaryConfig | StandbyConfig,
  outside: Outside,
  opened: Opened[],
): Promise<BuiltNode> {
  const journal = new Journal();
  const logger = journal.tee(outside.log);
  warnOfFaults(config.guest, logger);
  warnOfSharedMac(config.guest, logger);
  const tls = openTls(config, logger);
  if (tls !== undefined) {
    opened.push(() => tls.close());
    outside.reloader.addFiles(tlsFiles(tls));
  }
  if (config.guest.kind === 'kvm') keepMemory(logger);
  const lines = new StatusLines((line) => outside.writeLine(line));
  lines.on = config.statusIntervalMs !== undefined;
  const tcp: TcpOptions = {
    checksum: checksumFor(config.guest),
    openRaw: config.guest.kind === 'kvm' ? nativeSockets() : undefined,
    tls: tls?.material,
  };
  const listener = await openListener(config, tcp, logger, opened);
  const witness = await openWitness(config.witness, config.pair, logger);
  opened.push(() => witness.close());
  if (config.guest.kind === 'kvm') setBusyPoll(config.busyPollUs);
  const console = openConsole(config.guest.console, opened);
  let stateSeen = (): void => undefined;
  const dialsTo = (all: readonly Address[]): Dial[] =>
    all.map((address) => dialTo(address, tcp, outside.log));
  const node = new RunningNode(
    {
      pair: config.pair,
      nodeId: config.nodeId,
      policy: config.policy,
      heartbeatIntervalMs: config.heartbeatIntervalMs,
      suspectAfterMs: config.suspectAfterMs,
      onGuestEnd: config.onGuestEnd,
      onStandbyLoss: config.onStandbyLoss,
      onWitnessLoss: config.onWitnessLoss,
      onFenced: config.onFenced,
    },
    {
      clock: systemClock,
      logger,
      makeMachine: (role) => openMachine(config.guest, role, console),
      witness,
      dials: dialsTo(config.standbys),
      compressor: new Lz4Compressor(),
      decompressor: new Lz4Decompressor(),
      drawSession: () => randomBytes(12).toString('hex'),
    },
    {
      onState: (event) => {
        lines.state(event);
        outside.onState(event);
        stateSeen();
      },
      onEnd: outside.onEnd,
      onRefused: (error) => lines.refused(error),
    },
  );
  journal.moment = () => momentOf(node);
  if (config.http !== undefined) {
    const { tokenFile } = config.http;
    const http = await openHttp(config.http, node, journal, tls?.material, logger);
    opened.push(() => http.close());
    if (tokenFile !== undefined) outside.reloader.addFiles(tokenFiles(http));
  }
  if (config.control !== undefined) {
    const control = await openControl(config.control, { ...outside, node, journal, logger });
    opened.push(() => control.close());
    stateSeen = () => control.nodeChanged();
  }
  return {
    node,
    journal,
    lines,
    logger,
    redial: (standbys) => node.setDials(dialsTo(standbys)),
    start: () => startRole(node, config, listener, logger),
    close: () => closeAll(opened),
  };
}

async function startRole(
  node: RunningNode,
  config: PrimaryConfig | StandbyConfig,
  listener: TcpListener | undefined,
  logger: Logger,
): Promise<void> {
  if (listener !== undefined) {
    listener.onConnection = (connection) => node.accept(connection);
    const say = troubleTo(logger);
    listener.onTrouble = (error) => {
      // Whoever came had no certificate for it, or was one too many; else this host lacks something.
      if (error.code !== 'FT_ERR_ACCEPT') node.tally.doorRefused();
      say(error);
    };
  }
  if (config.command === 'ft-primary') await node.startPrimary(config.forceClaim);
  else node.startStandby();
}

async function openListener(
  config: PrimaryConfig | StandbyConfig,
  tcp: TcpOptions,
  logger: Logger,
  opened: Opened[],
): Promise<TcpListener | undefined> {
  if (config.listen === undefined) return undefined;
  const listener = new TcpListener(tcp);
  opened.push(() => listener.close());
  const address = await listener.listen(config.listen);
  const when = config.command === 'ft-standby' ? '' : ', for when this node is a standby';
  logger.info(`listening for the primary${when}`, { address: formatAddress(address) });
  return listener;
}

function dialTo(address: Address, tcp: TcpOptions, log: NodeLog): Dial {
  const waitMs = tcp.tls === undefined ? DIAL_MS : DIAL_TLS_MS;
  return (onOpen, onFail) => {
    dial(address, waitMs, tcp).then(onOpen, (thrown: unknown) => {
      const error = toFtError(thrown);
      const facts = { address: formatAddress(address), code: error.code, cause: error.message };
      log.debug('no standby answers', facts);
      onFail(error);
    });
  };
}

/** A life that begins as standby gets its guest from the primary: no kernel is loaded for it. */
function openMachine(guest: GuestConfig, role: NodeRole, console: KvmConsole): Machine {
  if (guest.kind === 'simulated') return createSimulatedMachine(guest, systemClock);
  return createKvmMachine({
    memoryBytes: guest.memoryBytes,
    vcpus: guest.vcpus,
    cpuModel: guest.cpu,
    kernelPath: role === 'primary' ? (guest.kernel ?? '') : '',
    initrdPath: role === 'primary' ? guest.initrd : undefined,
    cmdline: role === 'primary' ? guest.cmdline : '',
    disks: diskFiles(guest.disks, guest.diskMapDir),
    tapName: guest.tap ?? '',
    netns: guest.netns,
    mac: guest.mac,
    console,
    vcpuCpu: guest.vcpuCpu,
    outboxBytesMax: guest.outboxBytesMax,
    floorIntervalUs: guest.floorIntervalUs,
    testFault: guest.faults[0],
  });
}

function openWitness(config: WitnessConfig, pair: string, logger: Logger): Promise<Witness> {
  if (config.kind === 'none') return Promise.resolve(new NoneWitness());
  if (config.kind === 'file') return FileWitness.open(config.directory);
  return EtcdWitness.open({
    ...{ endpoints: config.endpoints, prefix: config.prefix, tls: config.tls, user: config.user },
    pair,
    onSilent: (error) => {
      logger.warn(`no failover is possible for now: ${error.message}`, { code: error.code });
    },
    onBack: () => logger.info('the witness answers again'),
  });
}

function openConsole(target: ConsoleConfig, opened: Opened[]): KvmConsole {
  if (target.kind !== 'file') return target;
  try {
    const fd = openSync(target.path, 'a', 0o640);
    opened.push(() => closeSync(fd));
    return { kind: 'file', fd };
  } catch (thrown) {
    const cause = toFtError(thrown).message;
    const message = `The console file ${target.path} cannot be opened (${cause}); check --console.`;
    throw new FtError('FT_ERR_CONSOLE', message, { path: target.path }, thrown);
  }
}

/** Bodies are summed natively where the addon is loaded anyway. */
function checksumFor(guest: GuestConfig): Checksum {
  if (guest.kind === 'simulated') return crc32c;
  const native = nativeChecksum();
  return (bytes) => (bytes.length < NATIVE_CHECKSUM_BYTES_MIN ? crc32c(bytes) : native(bytes));
}

/** A host without room for one more process is still good enough. */
function keepMemory(logger: Logger): void {
  try {
    keepMemoryPastDeath();
  } catch (thrown) {
    const { code, message } = toFtError(thrown, 'FT_ERR_KEEPER');
    if (code !== 'FT_ERR_KEEPER') throw thrown;
    logger.warn(`${message}. If this process is killed, its standby hears of it later.`, { code });
  }
}

function warnOfFaults(guest: GuestConfig, logger: Logger): void {
  for (const fault of guest.faults) {
    logger.warn(
      `TEST FAULT ${fault}: this node breaks a promise on purpose; never use it in production`,
    );
  }
}
