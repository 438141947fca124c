/**
 * What the machine itself can do in the sizes of an epoch: copying pages, carrying bytes over
 * loopback and back, faults, and LZ4 of the same bytes. Nothing that replicates can be faster.
 *
 *   node dist/bench/limits.js [--rounds 20000]
 *
 * Copies, loopback and faults are measured by a program of their own (native/tests/limits_bench.cc,
 * built here when needed), LZ4 by the library that the product uses. Prints a table; writes
 * build/bench/limits.json.
 */
import { spawnSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { compressSync } from 'lz4-napi';
import { quantile } from '../src/common/quantile';
import { projectRoot } from '../src/drill/process/process';
import { describeSite, figure, table, writeReport } from '../src/drill/report/report';

const PAGE_BYTES = 4096;
const PAGE_COUNTS = [1, 16, 64, 512, 4096];
const LZ4_MS = 300;
const LZ4_SAMPLES_MIN = 20;
const PROGRAM_MS = 120_000;

/** One case; times are of the whole case, a fault's of one page. */
export interface Limit {
  readonly what: string;
  readonly how: string;
  readonly pages: number;
  readonly samples: number;
  readonly usP50: number;
  readonly usP99: number;
  readonly usMax: number;
}

const NUMBERS = ['pages', 'samples', 'usP50', 'usP99', 'usMax'] as const;

/** A line of the native program; throws on one that is none. */
function readLimit(line: string): Limit {
  const fields = JSON.parse(line) as Record<string, unknown>;
  const isLimit =
    typeof fields['what'] === 'string' &&
    typeof fields['how'] === 'string' &&
    NUMBERS.every((name) => Number.isFinite(fields[name]));
  if (!isLimit) throw new Error(`The limits' program said "${line}".`);
  return fields as unknown as Limit;
}

function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, [...args], {
    cwd: projectRoot,
    encoding: 'utf8',
    timeout: PROGRAM_MS,
  });
  if (status === 0) return stdout;
  throw new Error(`${command} ${args.join(' ')} failed: ${error?.message ?? stderr.trim()}`);
}

function nativeLimits(rounds: number): Limit[] {
  run('make', ['-s', '-C', 'native/tests', 'limits']);
  const program = path.join(projectRoot, 'build/native-bench/limits_bench');
  return run(program, [`${rounds}`])
    .trim()
    .split('\n')
    .map(readLimit);
}

/** Noise, of which `part` of every page is zero: LZ4 can do nothing, or something. */
function pagesOf(count: number, zeroPart: number): Buffer {
  const bytes = randomFillSync(Buffer.alloc(count * PAGE_BYTES));
  for (let page = 0; page < count; page++) {
    bytes.fill(0, page * PAGE_BYTES, page * PAGE_BYTES + Math.floor(PAGE_BYTES * zeroPart));
  }
  return bytes;
}

function lz4Limit(pages: number, how: string, zeroPart: number): Limit {
  const bytes = pagesOf(pages, zeroPart);
  const us: number[] = [];
  const endMs = performance.now() + LZ4_MS;
  while (us.length < LZ4_SAMPLES_MIN || performance.now() < endMs) {
    const beginMs = performance.now();
    compressSync(bytes);
    us.push((performance.now() - beginMs) * 1000);
  }
  us.sort((a, b) => a - b);
  return {
    what: 'lz4',
    how,
    pages,
    samples: us.length,
    usP50: quantile(us, 0.5),
    usP99: quantile(us, 0.99),
    usMax: us[us.length - 1] ?? 0,
  };
}

function main(): number {
  const { values } = parseArgs({ options: { rounds: { type: 'string', default: '20000' } } });
  const rounds = Number(values.rounds);
  if (!(rounds >= 20 && rounds <= 1e6)) {
    throw new Error(`--rounds is "${values.rounds}"; it must be a number from 20 to 1000000.`);
  }
  const site = describeSite();
  process.stdout.write(`${site.machine}\n${site.kernel}, commit ${site.commit}\n\n`);
  const limits = [
    ...nativeLimits(rounds),
    ...PAGE_COUNTS.map((pages) => lz4Limit(pages, 'noise', 0)),
    ...PAGE_COUNTS.map((pages) => lz4Limit(pages, 'half zero', 0.5)),
  ];
  const rows = limits.map((one) => [
    `${one.what}, ${one.how}`,
    figure(one.pages),
    figure(one.usP50, 2),
    figure(one.usP99, 2),
    figure(one.usMax, 2),
    figure((one.pages * PAGE_BYTES) / one.usP50 / 1000, 2),
  ]);
  const heads = ['limit', 'pages', 'us p50', 'us p99', 'us max', 'GB/s at p50'];
  process.stdout.write(`${table(heads, rows)}\n\n`);
  const report = { ...site, parameters: { rounds, pageBytes: PAGE_BYTES }, limits };
  process.stdout.write(`Written to ${writeReport('bench/limits.json', report)}.\n`);
  return 0;
}

try {
  process.exitCode = main();
} catch (thrown) {
  process.stderr.write(`${thrown instanceof Error ? thrown.message : String(thrown)}\n`);
  process.exitCode = 1;
}
