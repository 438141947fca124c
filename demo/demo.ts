/**
 * The main job in half a minute: a guest under load, protected; its host process is killed; the
 * guest goes on elsewhere; the clients' oracle says what was lost.
 *
 *   node dist/demo/demo.js [--simulated] [--seconds N]
 *
 * Exit code 0 only when nothing was lost and nothing went back. The verdict is also written to
 * build/demo.json.
 */
import { accessSync, constants, existsSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { Verdict } from '../src/drill/oracle/oracle';
import { OracleProcess } from '../src/drill/oracle/oracle-process';
import { beaconPath, Pair, type Takeover } from '../src/drill/pair/pair';
import { projectRoot } from '../src/drill/process/process';
import { sleep, until } from '../src/drill/process/time';
import { describeSite, figure, writeReport } from '../src/drill/report/report';

const CLIENTS = 16;
const RATE_PER_SECOND = 1000;
const PAGES_PER_MS = 24;
const HEAD =
  '   t  state       epochs/s   pause p50/p99 us  pages/epoch  wire MB/s  compr.  client p50/p99 ms';

interface Options {
  readonly simulated: boolean;
  readonly seconds: number;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: { simulated: { type: 'boolean' }, seconds: { type: 'string' } },
  });
  const seconds = Number(values.seconds ?? 10);
  if (!(seconds >= 1 && seconds <= 600)) throw new Error('--seconds must be from 1 to 600.');
  return { simulated: values.simulated === true || !kvmIsThere(), seconds };
}

function kvmIsThere(): boolean {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return true;
  } catch {
    const why = existsSync('/dev/kvm') ? 'may not be opened by this user' : 'is missing';
    say('**********************************************************************');
    say(`** /dev/kvm ${why}: NO REAL GUEST WILL RUN.`);
    say('** The same pair runs on the SIMULATED machine instead: real processes,');
    say('** real TCP, real kill; the figures say nothing about KVM.');
    say('**********************************************************************');
    return false;
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** What the live lines add up to. */
class Live {
  private readonly startUs = performance.now() * 1000;
  private readonly epochs: number[] = [];
  pauseUsP50 = 0;
  pauseUsP99 = 0;

  constructor(
    private readonly pair: Pair,
    private readonly oracle: OracleProcess,
  ) {}

  get epochsPerSecond(): number {
    if (this.epochs.length === 0) return 0;
    return this.epochs.reduce((sum, value) => sum + value, 0) / this.epochs.length;
  }

  async lines(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      await sleep(1000);
      await this.line();
    }
  }

  private async line(): Promise<void> {
    const { latency } = await this.oracle.sample();
    const node = this.pair.active;
    if (node === undefined) return;
    const of = (name: string): number => node.figure(name);
    const seconds = (performance.now() * 1000 - this.startUs) / 1e6;
    const state = String(node.status['state'] ?? node.state);
    const isProtected = state === 'protected';
    const wire = of('wireBytesPerSecond');
    if (isProtected) {
      this.epochs.push(of('epochsPerSecond'));
      this.pauseUsP50 = of('pauseUsP50');
      this.pauseUsP99 = of('pauseUsP99');
    }
    const cells = [
      `${figure(seconds).padStart(4)}s`,
      state.padEnd(10),
      (isProtected ? figure(of('epochsPerSecond')) : '-').padStart(9),
      (isProtected ? `${figure(of('pauseUsP50'))} / ${figure(of('pauseUsP99'))}` : '-').padStart(
        17,
      ),
      (isProtected ? figure(of('dirtyPagesPerEpoch'), 1) : '-').padStart(12),
      (isProtected ? figure(wire / 1e6, 2) : '-').padStart(10),
      (isProtected && wire > 0 ? `${figure(of('rawBytesPerSecond') / wire, 1)}x` : '-').padStart(7),
      `${figure(latency.usP50 / 1000, 2)} / ${figure(latency.usP99 / 1000, 2)}`.padStart(18),
    ];
    say(cells.join(' '));
  }
}

interface Outcome {
  readonly verdict: Verdict;
  readonly takeover: Takeover;
  readonly failoverMs: number;
  readonly live: Live;
}

async function perform(pair: Pair, options: Options): Promise<Outcome> {
  const where =
    pair.netns === undefined ? 'on loopback' : `in network namespace ${pair.netns.name}`;
  say(`Starting ft-primary and ft-standby ${where} ...`);
  const startedMs = performance.now();
  await pair.start();
  say(`Guest booted, synced and protected after ${figure(performance.now() - startedMs)} ms.`);
  const settings = { ...pair.guest, clients: CLIENTS, ratePerSecond: RATE_PER_SECOND };
  const oracle = await OracleProcess.start(settings, pair.netns?.name);
  try {
    const load = { pagesPerMs: PAGES_PER_MS, bytesPerPage: 64, workingSetPages: 512, spin: false };
    await oracle.load(load);
    await oracle.start();
    say(`${CLIENTS} clients ask ${figure(RATE_PER_SECOND)} requests a second (incr, put, get).\n`);
    say(HEAD);
    const live = new Live(pair, oracle);
    await live.lines(options.seconds);
    await sleep(100 + Math.random() * 300);
    const victim = pair.active?.process.pid;
    const takeover = await pair.killActive();
    const { answered } = await oracle.sample();
    if (takeover.early) {
      throw new Error(
        'The host stalled for so long that the standby took over by itself, before the kill. ' +
          'Nothing is wrong with that, but there is nothing left to show: run it on a quieter host.',
      );
    }
    say(`  *** SIGKILL to the primary (pid ${victim}); the standby took over ***`);
    const goesOn = async (): Promise<boolean> => (await oracle.sample()).answered > answered;
    await until('an answer after the failover', goesOn, 5000);
    await sleep(50);
    const silence = await oracle.silence(takeover.killedUs, 20);
    const failoverMs = ((silence?.toUs ?? Number.NaN) - takeover.killedUs) / 1000;
    await live.lines(5);
    say('\nThe clients come to rest, read every key back, and judge ...');
    const verdict = await oracle.finish();
    return { verdict, takeover, failoverMs, live };
  } finally {
    await oracle.close();
  }
}

function tellVerdict(outcome: Outcome, machine: string): boolean {
  const { verdict, takeover, failoverMs, live } = outcome;
  const good = verdict.lost === 0 && verdict.regressed === 0;
  const report = {
    requests: verdict.requests,
    lost: verdict.lost,
    regressed: verdict.regressed,
    failoverMs,
    epochsPerSecond: live.epochsPerSecond,
    pauseUsP50: live.pauseUsP50,
    pauseUsP99: live.pauseUsP99,
    promotedMs: takeover.promotedMs,
    retries: verdict.retries,
    machine,
    site: describeSite(),
  };
  const row = (name: string, value: string): void => say(`  ${name.padEnd(34)}${value}`);
  say('\n=============================== verdict ===============================');
  row('machine', machine);
  row('requests', `${figure(verdict.requests)} (${figure(verdict.retries)} sent again)`);
  row('unanswered', figure(verdict.unanswered));
  row('lost', figure(verdict.lost));
  row('regressed', figure(verdict.regressed));
  row('SIGKILL to promoted', `${figure(takeover.promotedMs, 1)} ms`);
  row('SIGKILL to the first new answer', `${figure(failoverMs, 1)} ms`);
  row('epochs/s while protected', figure(live.epochsPerSecond));
  row('pause p50 / p99', `${figure(live.pauseUsP50)} / ${figure(live.pauseUsP99)} us`);
  say('=======================================================================');
  for (const violation of verdict.violations) say(`  ${violation.story}`);
  say(good ? 'PASSED: the guest went on as if nothing had happened.' : 'FAILED: see above.');
  try {
    say(`Written to ${writeReport('demo.json', report)}.`);
  } catch (thrown) {
    say(`The report could not be written: ${thrown instanceof Error ? thrown.message : thrown}`);
  }
  return good;
}

/** What is missing on this host, in a sentence; undefined when the demo can run. */
function missing(options: Options): string | undefined {
  if (!existsSync(path.join(projectRoot, 'dist/src/cli/ft-primary.js'))) {
    return 'The project is not built: run `make build` first.';
  }
  if (options.simulated) return undefined;
  if (process.getuid?.() !== 0) {
    return 'A real guest needs root for its network namespace and TAP devices; run it as root, or with --simulated.';
  }
  if (!existsSync(beaconPath))
    return `The guest image ${beaconPath} is missing: run \`make build\`.`;
  return undefined;
}

async function main(): Promise<number> {
  const options = readOptions();
  const machine = options.simulated ? 'simulated' : 'kvm';
  say(`Romulus demo, machine: ${machine}\n`);
  const wanting = missing(options);
  if (wanting !== undefined) {
    process.stderr.write(`${wanting}\n`);
    return 3;
  }
  const withoutNamespace = options.simulated;
  const pair = new Pair({ machine, name: 'demo', statusIntervalMs: 1000, withoutNamespace });
  try {
    return tellVerdict(await perform(pair, options), machine) ? 0 : 1;
  } catch (thrown) {
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    process.stderr.write(`\nThe demo failed: ${message}\n\n${pair.story()}\n`);
    return 1;
  } finally {
    await pair.close();
  }
}

main().then(
  (code) => process.exit(code),
  (thrown: unknown) => {
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    process.stderr.write(`The demo could not start: ${message}\n`);
    process.exit(2);
  },
);
