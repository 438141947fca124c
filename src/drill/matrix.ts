/**
 * Runs scenarios of the drill matrix, one after another, any number of times each, on one network
 * with one witness:
 *
 *   pair protected ─▶ random life under load ─▶ the scenario's fault ─▶ answers go on ─▶ mended
 *        ▲                                                                                 │
 *        └──────────── protected again, by the nodes' own work ◀───────────────────────────┘
 *
 * One pair and one history of its clients live through all runs of a scenario; both begin anew when
 * the guest was lost with both its hosts, or when a run failed. Each history is judged whole, and so
 * is everything that the switch saw of the guest.
 */
import { askNode } from '../cli/control-client';
import { type DualActiveMoment, findDualActive, type Grant } from './lan/dual-active';
import { HOST_NAMES, Lan } from './lan/lan';
import { PortWatch } from './lan/port-watch';
import type { Verdict } from './oracle/oracle';
import { OracleProcess } from './oracle/oracle-process';
import { LocalEtcd } from './pair/etcd';
import { HostPair, hostOf, type Sides } from './pair/host-pair';
import { sleep } from './process/time';
import { answersGoOn, type Outcome, type Scenario, type Scene } from './scenarios/scenario';

export interface MatrixOptions {
  readonly seed: number;
  readonly memory: string;
  readonly suspectAfterMs: number;
  readonly clients: number;
  readonly ratePerSecond: number;
  /** Pages that the guest itself dirties in a millisecond. */
  readonly pagesPerMs: number;
  /** Longest time under load before a fault; the moment is drawn between a fifth of it and it. */
  readonly lifeMsMax: number;
  /** More flags for both commands. */
  readonly flags?: readonly string[];
  readonly onRun?: (run: Run) => void;
}

export const matrixDefaults = {
  seed: 1,
  memory: '32M',
  suspectAfterMs: 50,
  clients: 16,
  ratePerSecond: 800,
  pagesPerMs: 8,
  lifeMsMax: 250,
} as const;

/** One drill. */
export interface Run {
  readonly scenario: string;
  readonly n: number;
  /** Fault → first answer after the silence that it caused; undefined when the guest was lost. */
  readonly failoverMs: number | undefined;
  /** Fault → the guest runs with its output open; undefined where it never stopped. */
  readonly promotedMs: number | undefined;
  readonly blackoutMs: number | undefined;
  /** The guest goes on where it was not before. */
  readonly moved: boolean;
  readonly guestLost: boolean;
  /** The sides had changed before the fault, since the machine stalled. */
  readonly unplanned: boolean;
  /** Everything mended → protected again. */
  readonly reprotectedMs: number;
  /** The last sync: "full", or "catch-up" when only what had changed was sent; and its bytes. */
  readonly syncKind: string;
  readonly syncBytes: number;
  /** Why the drill did not come to its end. */
  readonly failure: string | undefined;
}

export interface ScenarioResult {
  readonly scenario: Scenario;
  readonly runs: readonly Run[];
  readonly verdicts: readonly Verdict[];
  readonly dualActive: readonly DualActiveMoment[];
  readonly framesSeen: number;
}

/** What all scenarios share. */
export class Matrix {
  private readonly lan: Lan;
  private readonly etcd: LocalEtcd;
  private random: number;
  private pairs = 0;

  private constructor(
    private readonly options: MatrixOptions,
    lan: Lan,
    etcd: LocalEtcd,
  ) {
    this.lan = lan;
    this.etcd = etcd;
    this.random = options.seed >>> 0;
  }

  static async make(options: MatrixOptions): Promise<Matrix> {
    const lan = Lan.make();
    try {
      const addresses = lan.witnessAddresses;
      const etcd = await LocalEtcd.start({
        netns: lan.witness.name,
        addresses,
        ports: [WITNESS_PORT, WITNESS_PORT + 1],
      });
      return new Matrix(options, lan, etcd);
    } catch (thrown) {
      lan.close();
      throw thrown;
    }
  }

  async run(scenario: Scenario, runs: number): Promise<ScenarioResult> {
    const drill = new ScenarioDrill(scenario, this.options, this.lan, this.etcd, {
      random: () => this.nextRandom(),
      pairName: () => `drill-${process.pid}-${this.pairs++}`,
    });
    return drill.run(runs);
  }

  async close(): Promise<void> {
    await this.etcd.close();
    this.lan.close();
  }

  private nextRandom(): number {
    this.random = (Math.imul(this.random, 1664525) + 1013904223) >>> 0;
    return this.random / 2 ** 32;
  }
}

const WITNESS_PORT = 7100;
const LIFE_TRIES = 10;

interface Draw {
  random(): number;
  pairName(): string;
}

/** A pair with its clients, from a boot of the guest to its end. */
interface Life {
  readonly pair: HostPair;
  oracle: OracleProcess;
}

class ScenarioDrill {
  private readonly runs: Run[] = [];
  private readonly verdicts: Verdict[] = [];
  private readonly grants: Grant[] = [];

  constructor(
    private readonly scenario: Scenario,
    private readonly options: MatrixOptions,
    private readonly lan: Lan,
    private readonly etcd: LocalEtcd,
    private readonly draw: Draw,
  ) {}

  async run(count: number): Promise<ScenarioResult> {
    const watch = await PortWatch.start(this.lan, this.scenario.name);
    let life: Life | undefined;
    try {
      for (let n = 0; n < count; n++) {
        life ??= await this.begin();
        const run = await this.runOnce(life, n);
        this.runs.push(run);
        this.options.onRun?.(run);
        if (run.failure === undefined) continue;
        await this.end(life, { guestLost: true });
        life = undefined;
      }
      if (life !== undefined) await this.end(life, { guestLost: false });
      life = undefined;
      const frames = await watch.finish();
      return {
        scenario: this.scenario,
        runs: this.runs,
        verdicts: this.verdicts,
        dualActive: findDualActive(frames, this.grants),
        framesSeen: frames.length,
      };
    } finally {
      await this.putRight(life?.pair);
      await life?.oracle.close();
      await life?.pair.close();
      await watch.close();
    }
  }

  private async begin(): Promise<Life> {
    const { memory, suspectAfterMs } = this.options;
    const pair = new HostPair(this.lan, {
      name: this.scenario.name,
      pair: this.draw.pairName(),
      witness: (host) => `etcd:http://${host.witnessAddress}:${WITNESS_PORT}`,
      memory,
      suspectAfterMs,
      flags: this.options.flags ?? [],
    });
    try {
      await pair.start(this.draw.random() < 0.5 ? 'a' : 'b');
      return { pair, oracle: await this.ask(pair) };
    } catch (thrown) {
      await pair.close();
      throw new Error(`${messageOf(thrown)}\n=== what the nodes said\n${pair.story()}`);
    }
  }

  /** Clients begin a new history. */
  private async ask(pair: HostPair): Promise<OracleProcess> {
    const { clients, ratePerSecond, pagesPerMs } = this.options;
    const seed = Math.floor(this.draw.random() * 2 ** 32);
    const oracle = await OracleProcess.start(
      { ...pair.guest, clients, ratePerSecond, seed },
      this.lan.clients.name,
    );
    await oracle.load({ pagesPerMs, bytesPerPage: 8, workingSetPages: 256, spin: false });
    await oracle.start();
    return oracle;
  }

  /** The history is judged. A guest that was lost cannot be asked for what it knew. */
  private async judge(oracle: OracleProcess, guestLost: boolean): Promise<void> {
    const verdict = guestLost
      ? await oracle.finish({ guestLost: true, readBack: false }, 20)
      : await oracle.finish();
    this.verdicts.push(verdict);
    await oracle.close();
  }

  private async end(life: Life, { guestLost }: { guestLost: boolean }): Promise<void> {
    await this.judge(life.oracle, guestLost);
    await life.pair.close();
    this.grants.push(...life.pair.grants());
  }

  private async runOnce(life: Life, n: number): Promise<Run> {
    const { scenario } = this;
    const { pair } = life;
    const unplannedBefore = pair.grants().length;
    let unplanned = false;
    const none = { failoverMs: undefined, promotedMs: undefined, blackoutMs: undefined };
    try {
      const sides = await this.live(pair);
      unplanned = pair.grants().length !== unplannedBefore;
      const activeBefore = sides.active.slot.name;
      const outcome = await scenario.act(this.sceneOf(life, n), sides);
      const measured = outcome.guestLost === true ? none : await this.measure(life, outcome);
      await this.putRight(pair);
      const startedMs = performance.now();
      if (outcome.guestLost === true) {
        await this.judge(life.oracle, true);
        await pair.bootAnew(this.draw.random() < 0.5 ? 'a' : 'b');
        life.oracle = await this.ask(pair);
      }
      const repaired = await pair.repair();
      return {
        ...{ scenario: scenario.name, n, unplanned, ...measured },
        guestLost: outcome.guestLost === true,
        moved: repaired.active.slot.name !== activeBefore,
        reprotectedMs: performance.now() - startedMs,
        ...(await syncOf(pair, repaired)),
        failure: undefined,
      };
    } catch (thrown) {
      await this.putRight(pair);
      const failure = `${messageOf(thrown)}\n=== what the nodes said\n${pair.story()}`;
      return {
        ...{ scenario: scenario.name, n, unplanned, ...none },
        ...{
          guestLost: false,
          moved: false,
          reprotectedMs: 0,
          syncKind: '',
          syncBytes: 0,
          failure,
        },
      };
    }
  }

  /** Some time under load; again, if the pair was not complete at its end. */
  private async live(pair: HostPair): Promise<Sides> {
    for (let tries = 0; tries < LIFE_TRIES; tries++) {
      await pair.repair();
      await sleep(this.options.lifeMsMax * (0.2 + 0.8 * this.draw.random()));
      const { sides } = pair;
      if (sides !== undefined) return sides;
    }
    throw new Error(`The pair does not stay protected for ${this.options.lifeMsMax} ms.`);
  }

  private sceneOf({ pair, oracle }: Life, run: number): Scene {
    const { lan, etcd, draw, options } = this;
    const { suspectAfterMs } = options;
    return { lan, etcd, pair, oracle, run, suspectAfterMs, random: () => draw.random() };
  }

  private async measure(
    { oracle }: Life,
    { faultUs, doneUs = faultUs, ranUs, blackoutMs }: Outcome,
  ): Promise<Pick<Run, 'failoverMs' | 'promotedMs' | 'blackoutMs'>> {
    await answersGoOn(oracle);
    await sleep(10);
    // A silence that begins within 20 ms of the fault: what comes later has other reasons.
    const silence = await oracle.silence(faultUs, 20 + (doneUs - faultUs) / 1000);
    return {
      // Where the guest never stopped there is only the length of the silence.
      failoverMs:
        silence === undefined
          ? undefined
          : (silence.toUs - (ranUs === undefined ? silence.fromUs : faultUs)) / 1000,
      promotedMs: ranUs === undefined ? undefined : (ranUs - faultUs) / 1000,
      blackoutMs,
    };
  }

  /** Cables are whole, nobody is stopped, the witness is there. */
  private async putRight(pair: HostPair | undefined): Promise<void> {
    this.lan.mend();
    for (const host of HOST_NAMES) pair?.node(host)?.process.kill('SIGCONT');
    if (this.etcd.isUp()) this.etcd.signal('SIGCONT');
    else await this.etcd.run();
  }
}

/** What the active side says of the sync that brought its standby into step. */
async function syncOf(
  pair: HostPair,
  { active }: Sides,
): Promise<Pick<Run, 'syncKind' | 'syncBytes'>> {
  const { body } = await askNode(pair.controlPath(hostOf(active)), 'GET', '/v1/status');
  const { syncKind, syncBytes } = body;
  return {
    syncKind: typeof syncKind === 'string' ? syncKind : '',
    syncBytes: typeof syncBytes === 'number' ? syncBytes : 0,
  };
}

function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
