/**
 * What fifty hostile clients cost a pair, in turns with nobody there, on one pair that stays up all
 * the while:
 *
 *   nobody · replication port · nobody · dashboard port · nobody · control socket · nobody …
 *
 *   node dist/bench/hostile.js [--clients 50] [--seconds 3] [--turns 4] [--pages 64]
 *                              [--interval-us 400] [--nice 19]
 *
 * The clients stand for other machines, and run on this one: they are kept off the guest's CPU, and
 * at the niceness given, so that what is measured is the nodes' work and not the clients'. The time
 * they took is shown. Prints a table with the median of the ratios of each turn to the calm before
 * it; writes build/bench/hostile.json; exits with 1 when a port costs 5 % or more, or lets anybody in.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { BRIDGE_ADDRESS } from '../src/drill/lan/netns';
import { OracleProcess } from '../src/drill/oracle/oracle-process';
import { Pair } from '../src/drill/pair/pair';
import { sleep } from '../src/drill/process/time';
import { describeSite, figure, table, writeReport } from '../src/drill/report/report';
import { TestAuthority } from '../test/support/certificates';
import type { HostileOrder } from '../test/support/hostile-clients';
import { attack } from '../test/support/hostile-process';
import { keepOffGuestCpu, kvmMissing } from './measure';
import { processMemory } from './process-memory';
import { median } from './rows';
import { readReplication } from './status-figures';

const COST_MAX = 0.05;
const CLOCK_TICKS_PER_SECOND = 100;
const STATUS_MS = 100;
const SETTLE_MS = 300;
/** An attack is watched from then on: what a bucket of tries lets in at once is used up. */
const BURST_MS = 2000;
const WARM_UP_MS = 1500;
const INCR_PER_SECOND = 200;
const CHANGED_BYTES = 8;

interface Options {
  readonly clients: number;
  readonly seconds: number;
  readonly turns: number;
  readonly pages: number;
  readonly intervalUs: number;
  readonly nice: number;
}

/** One port in one turn: the calm before, and the attack. */
interface Turn {
  readonly calmEpochsPerSecond: number;
  readonly epochsPerSecond: number;
  readonly ackUsP99: number;
  readonly calmAckUsP99: number;
  readonly attemptsPerSecond: number;
  readonly clientsCpuShare: number;
  /** Of the node that is attacked, and in the calm before. */
  readonly nodeCpuShare: number;
  readonly calmCpuShare: number;
  readonly letIn: number;
}

interface PortResult {
  readonly port: string;
  readonly turns: readonly Turn[];
  readonly ratio: number;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      clients: { type: 'string', default: '50' },
      seconds: { type: 'string', default: '3' },
      turns: { type: 'string', default: '4' },
      pages: { type: 'string', default: '64' },
      'interval-us': { type: 'string', default: '400' },
      nice: { type: 'string', default: '19' },
    },
  });
  const number = (name: keyof typeof values, min: number, max: number): number => {
    const value = Number(values[name]);
    if (value >= min && value <= max) return value;
    throw new Error(`--${name} is "${values[name]}"; it must be a number from ${min} to ${max}.`);
  };
  return {
    clients: number('clients', 1, 500),
    seconds: number('seconds', 1, 60),
    turns: number('turns', 1, 100),
    pages: number('pages', 0, 4096),
    intervalUs: number('interval-us', 20, 1e6),
    nice: number('nice', 0, 19),
  };
}

class Bench {
  private readonly folder = mkdtempSync(path.join(os.tmpdir(), 'ft-hostile-'));
  private readonly pair: Pair;
  private oracle: OracleProcess | undefined;
  private readonly certificates: NonNullable<HostileOrder['certificates']>;

  constructor(private readonly options: Options) {
    const ours = new TestAuthority(this.folder, 'ours');
    const node = ours.issue('node', ['URI:romulus:pair:drill', `IP:${BRIDGE_ADDRESS}`]);
    this.certificates = {
      stranger: new TestAuthority(this.folder, 'theirs').issueNode('x', 'drill'),
      expired: ours.issueNodeAt('old', 'drill', 2020),
      otherPair: ours.issueNode('y', 'other'),
    };
    this.pair = new Pair({
      machine: 'kvm',
      name: 'bench-hostile',
      statusIntervalMs: STATUS_MS,
      // Fifty clients take what CPU there is: the nodes may have to wait for their turn.
      suspectAfterMs: () => 3000,
      flags: [
        ...['--interval-us', `${options.intervalUs}`, '--tls-ca', ours.ca],
        ...['--tls-cert', node.cert, '--tls-key', node.key],
      ],
      slotFlags: ({ name }) => [
        ...['--http', `${BRIDGE_ADDRESS}:${name === 'a' ? 9101 : 9102}`],
        ...['--control', path.join(this.folder, `${name}.sock`)],
      ],
    });
  }

  async run(): Promise<{ results: PortResult[]; growthMiB: number[]; violations: number }> {
    await this.pair.start();
    const settings = { clients: 4, ratePerSecond: INCR_PER_SECOND, mix: [1, 0, 0] as const };
    const oracle = await OracleProcess.start(
      { ...this.pair.guest, ...settings },
      this.pair.netns?.name,
    );
    this.oracle = oracle;
    keepOffGuestCpu(oracle.process.pid);
    await oracle.load({
      pagesPerMs: this.options.pages > 0 ? 'max' : 0,
      bytesPerPage: CHANGED_BYTES,
      workingSetPages: Math.max(1, this.options.pages),
      spin: true,
    });
    await oracle.start();
    await sleep(WARM_UP_MS);
    const orders = this.orders();
    const turns = new Map<string, Turn[]>([...orders.keys()].map((port) => [port, []]));
    const before = this.memoryMiB();
    for (let turn = 0; turn < this.options.turns; turn += 1) {
      for (const [port, order] of orders) turns.get(port)?.push(await this.turn(order));
    }
    await sleep(SETTLE_MS);
    const growthMiB = this.memoryMiB().map((mib, n) => mib - (before[n] ?? 0));
    const verdict = await oracle.finish();
    const results = [...turns].map(([port, of]) => ({
      port,
      turns: of,
      ratio: median(of.map((one) => one.epochsPerSecond / one.calmEpochsPerSecond)),
    }));
    return { results, growthMiB, violations: verdict.lost + verdict.regressed };
  }

  async close(): Promise<void> {
    await this.oracle?.close();
    await this.pair.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  private orders(): Map<string, HostileOrder> {
    const { clients, seconds } = this.options;
    const common = { clients, ms: BURST_MS + seconds * 1000, certificates: this.certificates };
    const addresses = Array.from({ length: 10 }, (_, n) => `127.0.0.${n + 1}`);
    const replication = { kind: 'replication', host: '127.0.0.1', port: 7002, addresses } as const;
    const http = { kind: 'http', host: BRIDGE_ADDRESS, port: 9101 } as const;
    const control = { kind: 'control', path: path.join(this.folder, 'a.sock') } as const;
    return new Map<string, HostileOrder>([
      ['replication, TLS (standby)', { ...common, ...replication, tls: true }],
      ['dashboard, TLS (primary)', { ...common, ...http, tls: true }],
      ['control socket (primary)', { ...common, ...control, tls: false }],
    ]);
  }

  private async turn(order: HostileOrder): Promise<Turn> {
    const { seconds, nice } = this.options;
    await sleep(SETTLE_MS);
    const node = order.kind === 'replication' ? this.pair.standby : this.pair.active;
    const pid = node?.process.pid ?? 0;
    const atCalm = cpuSecondsOf(pid);
    const calm = await this.figures(() => sleep(seconds * 1000));
    const calmCpuShare = (cpuSecondsOf(pid) - atCalm) / seconds;
    const others = os.cpus().length > 1 ? ['taskset', '-c', `0-${os.cpus().length - 2}`] : [];
    const wrap = [...others, 'nice', '-n', `${nice}`];
    const { active } = this.pair;
    let from = 0;
    let atStart = 0;
    let startMs = 0;
    const started = (): void => {
      setTimeout(() => {
        from = active?.process.lines.length ?? 0;
        atStart = cpuSecondsOf(pid);
        startMs = performance.now();
      }, BURST_MS);
    };
    const setting = { netns: this.pair.netns?.name, wrap, onReady: started };
    const result = await attack(order, setting);
    const attacked = this.figuresFrom(from);
    const nodeCpuShare = (cpuSecondsOf(pid) - atStart) / ((performance.now() - startMs) / 1000);
    return {
      calmEpochsPerSecond: calm.committedEpochsPerSecond,
      epochsPerSecond: attacked.committedEpochsPerSecond,
      calmAckUsP99: calm.ackUsP99,
      ackUsP99: attacked.ackUsP99,
      attemptsPerSecond: result.attempts / (seconds + BURST_MS / 1000),
      clientsCpuShare: result.cpuMs / 1000 / (seconds + BURST_MS / 1000),
      nodeCpuShare,
      calmCpuShare,
      letIn: Object.values(result.letIn).reduce((sum, count) => sum + count, 0),
    };
  }

  private async figures(during: () => Promise<void>): Promise<ReturnType<typeof readReplication>> {
    const from = this.pair.active?.process.lines.length ?? 0;
    await during();
    return this.figuresFrom(from);
  }

  private figuresFrom(from: number): ReturnType<typeof readReplication> {
    const lines = this.pair.active?.process.lines.slice(from) ?? [];
    const left = lines.find((line) => line.fields['event'] === 'state');
    if (left !== undefined) {
      throw new Error(`The guest did not stay protected: ${JSON.stringify(left.fields)}`);
    }
    return readReplication(lines, []);
  }

  private memoryMiB(): number[] {
    return [this.pair.active, this.pair.standby].map((node) =>
      node === undefined ? 0 : processMemory(node.process.pid).ownBytes / 1024 ** 2,
    );
  }
}

/** Processor time that a process took, all of its threads together. */
function cpuSecondsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // After the name in brackets: state is the first field, utime and stime are the 12th and 13th.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS_PER_SECOND;
}

async function main(): Promise<number> {
  const missing = kvmMissing();
  if (missing !== undefined) throw new Error(missing);
  const options = readOptions();
  const site = describeSite();
  process.stdout.write(`${site.machine}\n${site.kernel}, commit ${site.commit}\n\n`);
  const bench = new Bench(options);
  try {
    const { results, growthMiB, violations } = await bench.run();
    const middle = (turns: readonly Turn[], of: (turn: Turn) => number): number =>
      median(turns.map(of));
    const rows = results.map(({ port, turns, ratio }) => {
      const ratios = turns.map((one) => one.epochsPerSecond / one.calmEpochsPerSecond);
      return [
        port,
        figure(middle(turns, (one) => one.calmEpochsPerSecond)),
        figure(middle(turns, (one) => one.epochsPerSecond)),
        `${figure(ratio, 3)} (${figure(Math.min(...ratios), 3)}-${figure(Math.max(...ratios), 3)})`,
        `${figure(middle(turns, (one) => one.calmAckUsP99))} / ${figure(middle(turns, (one) => one.ackUsP99))}`,
        figure(middle(turns, (one) => one.attemptsPerSecond)),
        `${figure(100 * middle(turns, (one) => one.calmCpuShare))} / ${figure(100 * middle(turns, (one) => one.nodeCpuShare))} %`,
        `${figure(100 * middle(turns, (one) => one.clientsCpuShare))} %`,
        figure(turns.reduce((sum, one) => sum + one.letIn, 0)),
      ];
    });
    const heads = [
      'port',
      'epochs/s',
      'attacked',
      'ratio (least-most)',
      'ack us p99',
      'attempts/s',
    ];
    process.stdout.write(`${table([...heads, 'node’s CPU', 'clients’ CPU', 'let in'], rows)}\n\n`);
    process.stdout.write(
      `Memory grew by ${growthMiB.map((mib) => figure(mib, 1)).join(' and ')} MiB (primary, ` +
        `standby); the guest's clients saw ${violations} violations.\n`,
    );
    const report = { ...site, parameters: options, results, growthMiB, violations };
    process.stdout.write(`Written to ${writeReport('bench/hostile.json', report)}.\n`);
    const letIn = results.some(({ turns }) => turns.some((one) => one.letIn > 0));
    const dear = results.some(({ ratio }) => ratio < 1 - COST_MAX);
    return letIn || dear || violations > 0 ? 1 : 0;
  } finally {
    await bench.close();
  }
}

main().then(
  (code) => process.exit(code),
  (thrown: unknown) => {
    process.stderr.write(`${thrown instanceof Error ? thrown.message : String(thrown)}\n`);
    process.exit(1);
  },
);
