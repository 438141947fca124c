/**
 * What fifty hostile clients cost a pair, port by port, in turns on one pair that stays up all the
 * while:
 *
 *   nobody · the clients at a decoy · the clients at the pair
 *
 *   node dist/bench/hostile.js [--clients 50] [--seconds 3] [--turns 8] [--pages 16]
 *                              [--interval-us 400]
 *
 * The clients stand for other machines and run on this one, so they cost the pair something wherever
 * they aim: shared caches, shared cores, the kernel's network. The decoy shows how much; what is
 * judged is the pair under attack beside the pair with the same clients at the decoy. Prints a table
 * with the median of each turn's ratio; writes build/bench/hostile.json; exits with 1 when a port
 * costs 5 % of the epochs a second or more, or lets anybody in.
 */
import { parseArgs } from 'node:util';
import { describeSite, figure, table, writeReport } from '../src/drill/report/report';
import { type Arm, type HostileOptions, HostilePair, type Turn } from './hostile-pair';
import { kvmMissing } from './measure';
import { median } from './rows';

const COST_MAX = 0.05;

interface PortResult {
  readonly port: string;
  readonly turns: readonly Turn[];
  /** Attacked to decoy, epochs a second, turn by turn. */
  readonly ratios: readonly number[];
}

function readOptions(): HostileOptions {
  const { values } = parseArgs({
    options: {
      clients: { type: 'string', default: '50' },
      seconds: { type: 'string', default: '3' },
      turns: { type: 'string', default: '8' },
      pages: { type: 'string', default: '16' },
      'interval-us': { type: 'string', default: '400' },
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
  };
}

async function measureAll(
  pair: HostilePair,
  options: HostileOptions,
): Promise<{ results: PortResult[]; growthMiB: number[]; violations: number }> {
  await pair.start();
  const aims = pair.aims();
  const turns = new Map<string, Turn[]>([...aims.keys()].map((port) => [port, []]));
  const before = pair.memoryMiB();
  for (let n = 0; n < options.turns; n += 1) {
    for (const [port, aim] of aims) turns.get(port)?.push(await pair.turn(aim, n % 2 === 0));
  }
  const growthMiB = pair.memoryMiB().map((mib, n) => mib - (before[n] ?? 0));
  const violations = await pair.violations();
  const results = [...turns].map(([port, of]) => ({
    port,
    turns: of,
    ratios: of.map(({ attacked, decoy }) => attacked.epochsPerSecond / decoy.epochsPerSecond),
  }));
  return { results, growthMiB, violations };
}

function rowOf({ port, turns, ratios }: PortResult): string[] {
  const middle = (arm: keyof Turn, of: (arm: Arm) => number): number =>
    median(turns.map((turn) => of(turn[arm])));
  const arms = (of: (arm: Arm) => number, digits = 0): string =>
    (['calm', 'decoy', 'attacked'] as const)
      .map((arm) => figure(middle(arm, of), digits))
      .join(' / ');
  const spread = `${figure(Math.min(...ratios), 3)}-${figure(Math.max(...ratios), 3)}`;
  const attempts = (arm: keyof Turn): string => figure(middle(arm, (one) => one.attemptsPerSecond));
  return [
    port,
    arms((arm) => arm.epochsPerSecond),
    `${figure(median(ratios), 3)} (${spread})`,
    arms((arm) => arm.ackUsP99),
    arms((arm) => arm.eventLoopUsMax / 1000, 1),
    arms((arm) => 100 * arm.nodeCpus),
    `${attempts('decoy')} / ${attempts('attacked')}`,
    figure(turns.reduce((sum, turn) => sum + turn.attacked.letIn, 0)),
  ];
}

async function main(): Promise<number> {
  const missing = kvmMissing();
  if (missing !== undefined) throw new Error(missing);
  const options = readOptions();
  const site = describeSite();
  process.stdout.write(`${site.machine}\n${site.kernel}, commit ${site.commit}\n\n`);
  const pair = new HostilePair(options);
  try {
    const { results, growthMiB, violations } = await measureAll(pair, options);
    const heads = [
      ...['port', 'epochs/s', 'attacked : decoy', 'ack us p99', 'loop ms, most'],
      ...['node CPU %', 'attempts/s', 'let in'],
    ];
    process.stdout.write(`${table(heads, results.map(rowOf))}\n\n`);
    process.stdout.write(
      'Three figures are: nobody there / clients at a decoy / clients at the pair; two: at the decoy' +
        ` / at the pair.\nMemory grew by ${growthMiB.map((mib) => figure(mib, 1)).join(' and ')} MiB` +
        ` (primary, standby); the guest's clients saw ${violations} violations.\n`,
    );
    const report = { ...site, parameters: options, results, growthMiB, violations };
    process.stdout.write(`Written to ${writeReport('bench/hostile.json', report)}.\n`);
    const letIn = results.some(({ turns }) => turns.some(({ attacked }) => attacked.letIn > 0));
    const dear = results.some(({ ratios }) => median(ratios) < 1 - COST_MAX);
    return letIn || dear || violations > 0 ? 1 : 0;
  } finally {
    await pair.close();
  }
}

main().then(
  (code) => process.exit(code),
  (thrown: unknown) => {
    process.stderr.write(`${thrown instanceof Error ? thrown.message : String(thrown)}\n`);
    process.exit(1);
  },
);
