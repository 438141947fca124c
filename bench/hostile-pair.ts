/**
 * A pair under attack, and a decoy beside it: a standby of no pair, on whom the same clients are let
 * loose to see what they cost a machine that they do not mean. Clients and decoy stand for other
 * machines and run on this one: at the lowest priority, on the guest's CPU, whose guest sleeps most
 * of the time. So both nodes have the other CPUs for themselves in every arm, and what an attack on
 * them takes away is the work of their own defence.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { BRIDGE_ADDRESS } from '../src/drill/lan/netns';
import { OracleProcess } from '../src/drill/oracle/oracle-process';
import { Pair } from '../src/drill/pair/pair';
import { projectRoot, WatchedProcess } from '../src/drill/process/process';
import { sleep } from '../src/drill/process/time';
import { TestAuthority } from '../test/support/certificates';
import type { HostileOrder } from '../test/support/hostile-clients';
import { attack } from '../test/support/hostile-process';
import { keepOffGuestCpu } from './measure';
import { processMemory } from './process-memory';
import { readReplication } from './status-figures';

const CLOCK_TICKS_PER_SECOND = 100;
const STATUS_MS = 100;
const SETTLE_MS = 300;
/** An attack is watched from then on: what a bucket of tries lets in at once is used up. */
const BURST_MS = 2000;
const WARM_UP_MS = 1500;
const INCR_PER_SECOND = 200;
const CHANGED_BYTES = 8;

export interface HostileOptions {
  readonly clients: number;
  readonly seconds: number;
  readonly turns: number;
  /** The guest writes so many pages each millisecond, and sleeps for the rest of it. */
  readonly pages: number;
  readonly intervalUs: number;
}

/** What the pair did for some seconds. */
export interface Arm {
  readonly epochsPerSecond: number;
  readonly ackUsP99: number;
  /** Longest that the event loop of either node was away, µs. */
  readonly eventLoopUsMax: number;
  /** CPUs that the node took which is attacked, or would be. */
  readonly nodeCpus: number;
  /** Of the clients; 0 without them. */
  readonly attemptsPerSecond: number;
  readonly letIn: number;
}

/** One port in one turn: nobody there, the clients at the decoy, the clients at the pair. */
export interface Turn {
  readonly calm: Arm;
  readonly decoy: Arm;
  readonly attacked: Arm;
}

/** The same attack, on the pair and on the decoy. */
export interface Aim {
  readonly attacked: HostileOrder;
  readonly decoy: HostileOrder;
}

type Listener = 'a' | 'b' | 'decoy';

/** Of the pair's slots, and of the decoy. */
const PORTS = {
  a: { replication: 7001, http: 9101 },
  b: { replication: 7002, http: 9102 },
  decoy: { replication: 7003, http: 9103 },
} as const;

/** Words before a command that keep it away from the nodes: on the guest's CPU, behind the guest. */
const APART: readonly string[] = [
  ...(os.cpus().length > 1 ? ['taskset', '-c', `${os.cpus().length - 1}`] : []),
  ...['nice', '-n', '19'],
];

export class HostilePair {
  private readonly folder = mkdtempSync(path.join(os.tmpdir(), 'ft-hostile-'));
  private readonly pair: Pair;
  private readonly tls: readonly string[];
  private oracle: OracleProcess | undefined;
  private decoy: WatchedProcess | undefined;
  private readonly certificates: NonNullable<HostileOrder['certificates']>;

  constructor(private readonly options: HostileOptions) {
    const ours = new TestAuthority(this.folder, 'ours');
    const node = ours.issue('node', ['URI:romulus:pair:drill', `IP:${BRIDGE_ADDRESS}`]);
    this.certificates = {
      stranger: new TestAuthority(this.folder, 'theirs').issueNode('x', 'drill'),
      expired: ours.issueNodeAt('old', 'drill', 2020),
      otherPair: ours.issueNode('y', 'other'),
    };
    this.tls = ['--tls-ca', ours.ca, '--tls-cert', node.cert, '--tls-key', node.key];
    this.pair = new Pair({
      machine: 'kvm',
      name: 'bench-hostile',
      statusIntervalMs: STATUS_MS,
      // A machine with a hundred sockets more may let the nodes wait for their turn.
      suspectAfterMs: () => 3000,
      flags: ['--interval-us', `${options.intervalUs}`, ...this.tls],
      slotFlags: ({ name }) => this.flagsOf(name),
    });
  }

  async start(): Promise<void> {
    await this.pair.start();
    await this.startDecoy();
    const settings = { clients: 4, ratePerSecond: INCR_PER_SECOND, mix: [1, 0, 0] as const };
    const oracle = await OracleProcess.start(
      { ...this.pair.guest, ...settings },
      this.pair.netns?.name,
    );
    this.oracle = oracle;
    keepOffGuestCpu(oracle.process.pid);
    await oracle.load({
      pagesPerMs: this.options.pages,
      bytesPerPage: CHANGED_BYTES,
      workingSetPages: Math.max(1, this.options.pages),
      spin: false,
    });
    await oracle.start();
    await sleep(WARM_UP_MS);
  }

  async close(): Promise<void> {
    await this.oracle?.close();
    await this.decoy?.stop();
    await this.pair.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** The ports by name, each with the orders for its turn. */
  aims(): ReadonlyMap<string, Aim> {
    const { clients, seconds } = this.options;
    const common = { clients, ms: BURST_MS + seconds * 1000, certificates: this.certificates };
    // From the address that the peer comes from, and from others.
    const addresses = Array.from({ length: 10 }, (_, n) => `127.0.0.${n + 1}`);
    const replication = (who: Listener): HostileOrder => ({
      ...{ ...common, kind: 'replication', tls: true, addresses },
      ...{ host: '127.0.0.1', port: PORTS[who].replication },
    });
    const http = (who: Listener): HostileOrder => ({
      ...{ ...common, kind: 'http', tls: true },
      ...{ host: BRIDGE_ADDRESS, port: PORTS[who].http },
    });
    const control = (who: Listener): HostileOrder => ({
      ...{ ...common, kind: 'control', tls: false, path: this.socketOf(who) },
    });
    return new Map<string, Aim>([
      ['replication (standby)', { attacked: replication('b'), decoy: replication('decoy') }],
      ['dashboard (primary)', { attacked: http('a'), decoy: http('decoy') }],
      ['control socket (primary)', { attacked: control('a'), decoy: control('decoy') }],
    ]);
  }

  /** Calm, then both attacks; `decoyFirst` in every second turn, so that no order is favoured. */
  async turn(aim: Aim, decoyFirst: boolean): Promise<Turn> {
    const pid = (aim.attacked.kind === 'replication' ? this.pair.standby : this.pair.active)
      ?.process.pid;
    if (pid === undefined) throw new Error('The pair is not complete.');
    const calm = await this.calm(pid);
    const first = await this.under(decoyFirst ? aim.decoy : aim.attacked, pid);
    const second = await this.under(decoyFirst ? aim.attacked : aim.decoy, pid);
    return decoyFirst
      ? { calm, decoy: first, attacked: second }
      : { calm, decoy: second, attacked: first };
  }

  /** Memory of the nodes' own, primary and standby, in MiB. */
  memoryMiB(): number[] {
    return [this.pair.active, this.pair.standby].map((node) =>
      node === undefined ? 0 : processMemory(node.process.pid).ownBytes / 1024 ** 2,
    );
  }

  /** Ends the guest's clients; violations that they saw. */
  async violations(): Promise<number> {
    const verdict = await this.oracle?.finish();
    return verdict === undefined ? 0 : verdict.lost + verdict.regressed;
  }

  private async calm(pid: number): Promise<Arm> {
    await sleep(SETTLE_MS);
    const look = this.look(pid);
    await sleep(this.options.seconds * 1000);
    return { ...look(), attemptsPerSecond: 0, letIn: 0 };
  }

  private async under(order: HostileOrder, pid: number): Promise<Arm> {
    await sleep(SETTLE_MS);
    let look = this.look(pid);
    const begun = (): void => {
      setTimeout(() => {
        look = this.look(pid);
      }, BURST_MS);
    };
    const setting = { netns: this.pair.netns?.name, wrap: APART, onReady: begun };
    const { attempts, letIn } = await attack(order, setting);
    return {
      ...look(),
      attemptsPerSecond: attempts / (this.options.seconds + BURST_MS / 1000),
      letIn: Object.values(letIn).reduce((sum, count) => sum + count, 0),
    };
  }

  /** Looks at the pair from now on; the function that is returned says what was seen until then. */
  private look(pid: number): () => Omit<Arm, 'attemptsPerSecond' | 'letIn'> {
    const { active, standby } = this.pair;
    const [from, standbyFrom] = [active?.process.lines.length, standby?.process.lines.length];
    const [cpuAt, at] = [cpuSecondsOf(pid), performance.now()];
    return () => {
      const seconds = (performance.now() - at) / 1000;
      const nodeCpus = (cpuSecondsOf(pid) - cpuAt) / seconds;
      const lines = active?.process.lines.slice(from) ?? [];
      const left = lines.find((line) => line.fields['event'] === 'state');
      if (left !== undefined) {
        throw new Error(`The guest did not stay protected: ${JSON.stringify(left.fields)}`);
      }
      const seen = readReplication(lines, standby?.process.lines.slice(standbyFrom) ?? []);
      const { committedEpochsPerSecond: epochsPerSecond, ackUsP99, eventLoopUsMax } = seen;
      return { epochsPerSecond, ackUsP99, eventLoopUsMax, nodeCpus };
    };
  }

  private async startDecoy(): Promise<void> {
    const [command = '', ...words] = [...APART, process.execPath];
    const decoy = new WatchedProcess({
      name: 'bench-hostile-decoy',
      command,
      args: [
        ...[...words, path.join(projectRoot, 'dist/src/cli/ft-standby.js')],
        ...[
          '--machine',
          'simulated',
          '--memory',
          '64M',
          '--sim-port',
          '7009',
          '--status-interval-ms',
          '250',
        ],
        ...['--pair', 'drill', '--node', 'decoy', '--witness', `file:${this.folder}`],
        ...['--listen', `127.0.0.1:${PORTS.decoy.replication}`, '--standby', '127.0.0.1:7004'],
        ...[...this.tls, ...this.flagsOf('decoy')],
      ],
      netns: this.pair.netns?.name,
    });
    this.decoy = decoy;
    await decoy.waitFor('its first status', () => true, 15_000);
  }

  private flagsOf(who: Listener): string[] {
    const http = `${BRIDGE_ADDRESS}:${PORTS[who].http}`;
    return ['--http', http, '--control', this.socketOf(who)];
  }

  private socketOf(who: Listener): string {
    return path.join(this.folder, `${who}.sock`);
  }
}

/** Processor time that a process took, all of its threads together. */
function cpuSecondsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // After the name in brackets: state is the first field, utime and stime are the 12th and 13th.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS_PER_SECOND;
}
