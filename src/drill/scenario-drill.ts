/**
 * One scenario of the matrix, any number of times:
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
import { FtError } from '../common/errors';
import { findDualActive, type Grant } from './lan/dual-active';
import { HOST_NAMES, type HostName, type Lan } from './lan/lan';
import { PortWatch } from './lan/port-watch';
import type { Draw, MatrixOptions } from './matrix';
import { OracleProcess, type RequestTime } from './oracle/oracle-process';
import { HostPair, hostOf, type Sides } from './pair/host-pair';
import type { SandboxWitness } from './pair/sandbox-witness';
import { monotonicUs, sleep } from './process/time';
import {
  type ClientVerdict,
  failedRun,
  figuresOfFault,
  type KeptTimeline,
  keepTimeline,
  type Run,
  type ScenarioResult,
} from './results';
import {
  answersGoOn,
  type Outcome,
  type Scenario,
  type Scene,
  SidesChanged,
} from './scenarios/scenario';
import { BEFORE_MS, timelineOf } from './timeline';

const LIFE_TRIES = 10;
/** A picture shows so much of the time after the pair is protected again. */
const AFTER_MS = 60;

interface Parts {
  readonly scenario: Scenario;
  readonly options: MatrixOptions;
  readonly lan: Lan;
  readonly witness: SandboxWitness;
  readonly draw: Draw;
}

/** A pair with its clients, from a boot of the guest to its end. */
interface Life {
  readonly pair: HostPair;
  oracle: OracleProcess;
}

/** What was measured of one fault. */
interface Measured extends Pick<Run, 'failoverMs' | 'silenceMs' | 'promotedMs' | 'blackoutMs'> {
  readonly answeredUs: number | undefined;
}

const NOTHING: Measured = {
  failoverMs: undefined,
  silenceMs: undefined,
  promotedMs: undefined,
  blackoutMs: undefined,
  answeredUs: undefined,
};

export class ScenarioDrill {
  private readonly runs: Run[] = [];
  private readonly verdicts: ClientVerdict[] = [];
  private readonly grants: Grant[] = [];
  private readonly timelines: KeptTimeline[] = [];
  private stopped = false;

  constructor(private readonly parts: Parts) {}

  async run(count: number): Promise<ScenarioResult> {
    const watch = await PortWatch.start(this.parts.lan, this.parts.scenario.name);
    let life: Life | undefined;
    try {
      for (let n = 0; n < count && !this.stopped; n++) {
        life ??= await this.begin();
        const run = await this.runOnce(life, n);
        this.runs.push(run);
        this.parts.options.onRun?.(run);
        if (run.failure === undefined) continue;
        await this.end(life, { guestLost: true });
        life = undefined;
      }
      if (life !== undefined) await this.end(life, { guestLost: false });
      life = undefined;
      const frames = await watch.finish();
      const dualActive = findDualActive(frames, this.grants);
      return { ...this.soFar(), dualActive, framesSeen: frames.length };
    } finally {
      await this.putRight(life?.pair);
      await life?.oracle.close();
      await life?.pair.close();
      await watch.close();
    }
  }

  /** No run begins after the present one. */
  stop(): void {
    this.stopped = true;
  }

  /** What is known by now, of the runs that came to their end. */
  soFar(): ScenarioResult {
    const { runs, verdicts, timelines } = this;
    const { scenario } = this.parts;
    return { scenario, runs, verdicts, timelines, dualActive: undefined, framesSeen: 0 };
  }

  private async begin(): Promise<Life> {
    const { options, lan, witness, draw, scenario } = this.parts;
    const pair = new HostPair(lan, {
      name: scenario.name,
      pair: draw.pairName(),
      witness: (host) => witness.flag(host),
      memory: options.memory,
      suspectAfterMs: options.suspectAfterMs,
      flags: options.flags ?? [],
    });
    try {
      await pair.start(draw.random() < 0.5 ? 'a' : 'b');
      return { pair, oracle: await this.ask(pair) };
    } catch (thrown) {
      await pair.close();
      const message =
        `The sandbox pair did not start: ${messageOf(thrown)}\n=== what the nodes said\n` +
        pair.story();
      throw new FtError('FT_ERR_DRILL_PAIR', message, { scenario: scenario.name }, thrown);
    }
  }

  /** Clients begin a new history. */
  private async ask(pair: HostPair): Promise<OracleProcess> {
    const { options, lan, draw } = this.parts;
    const { clients, ratePerSecond, pagesPerMs } = options;
    const seed = Math.floor(draw.random() * 2 ** 32);
    const oracle = await OracleProcess.start(
      { ...pair.guest, clients, ratePerSecond, seed },
      lan.clients.name,
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
    const { scenario, draw } = this.parts;
    const { pair } = life;
    const grantsBefore = pair.grants().length;
    let unplanned = false;
    try {
      const { activeBefore, outcome, grants } = await this.act(life, n);
      unplanned = grants !== grantsBefore;
      const guestLost = outcome.guestLost === true;
      const measured = guestLost ? NOTHING : await this.measure(life, outcome);
      await this.putRight(pair);
      const startedMs = performance.now();
      let requests: readonly RequestTime[] = [];
      if (guestLost) {
        requests = await this.requestsSince(life, outcome);
        await this.judge(life.oracle, true);
        await pair.bootAnew(draw.random() < 0.5 ? 'a' : 'b');
        life.oracle = await this.ask(pair);
      }
      const repaired = await pair.repair();
      const reprotectedMs = performance.now() - startedMs;
      const { answeredUs, ...figures } = measured;
      await this.keepPicture(life, n, outcome, measured, requests);
      return {
        ...{ scenario: scenario.name, n, unplanned, ...figures, guestLost },
        moved: repaired.active.slot.name !== activeBefore,
        reprotectedMs,
        ...(await syncOf(pair, repaired)),
        failure: undefined,
      };
    } catch (thrown) {
      await this.putRight(pair);
      const failure = `${messageOf(thrown)}\n=== what the nodes said\n${pair.story()}`;
      return { ...failedRun(scenario.name, n, failure), unplanned };
    }
  }

  /** The fault, once more where the sides had changed by themselves just before it. */
  private async act(
    life: Life,
    n: number,
  ): Promise<{ activeBefore: HostName; outcome: Outcome; grants: number }> {
    for (let tries = 1; ; tries++) {
      const sides = await this.live(life.pair);
      const activeBefore = hostOf(sides.active);
      const grants = life.pair.grants().length;
      try {
        const outcome = await this.parts.scenario.act(this.sceneOf(life, n), sides);
        return { activeBefore, outcome, grants };
      } catch (thrown) {
        if (!(thrown instanceof SidesChanged) || tries === LIFE_TRIES) throw thrown;
        await this.putRight(life.pair);
      }
    }
  }

  /** Some time under load; again, if the pair was not complete at its end. */
  private async live(pair: HostPair): Promise<Sides> {
    const { options, draw } = this.parts;
    for (let tries = 0; tries < LIFE_TRIES; tries++) {
      await pair.repair();
      await sleep(options.lifeMsMax * (0.2 + 0.8 * draw.random()));
      const { sides } = pair;
      if (sides !== undefined) return sides;
    }
    throw new Error(`The pair does not stay protected for ${options.lifeMsMax} ms.`);
  }

  private sceneOf({ pair, oracle }: Life, run: number): Scene {
    const { lan, witness, draw, options } = this.parts;
    const { suspectAfterMs } = options;
    const random = (): number => draw.random();
    return { lan, etcd: witness.etcd, pair, oracle, run, suspectAfterMs, random };
  }

  private async measure(
    { oracle }: Life,
    { faultUs, doneUs = faultUs, stillUs = faultUs, ranUs, blackoutMs }: Outcome,
  ): Promise<Measured> {
    await answersGoOn(oracle);
    await sleep(10);
    // A silence that begins within 20 ms of the fault: what comes later has other reasons.
    const silence = await oracle.silence(stillUs, 20 + (doneUs - stillUs) / 1000);
    return { ...figuresOfFault(faultUs, ranUs, silence), blackoutMs, answeredUs: silence?.toUs };
  }

  private async requestsSince(life: Life, { faultUs }: Outcome): Promise<readonly RequestTime[]> {
    if (this.parts.options.timelines !== true) return [];
    return life.oracle.timeline(faultUs - BEFORE_MS * 1000, monotonicUs());
  }

  /** `earlier`: what clients had asked whose history has ended meanwhile. */
  private async keepPicture(
    life: Life,
    n: number,
    outcome: Outcome,
    { answeredUs, failoverMs, silenceMs }: Measured,
    earlier: readonly RequestTime[],
  ): Promise<void> {
    if (this.parts.options.timelines !== true) return;
    const { faultUs } = outcome;
    await sleep(AFTER_MS);
    const asked = await this.requestsSince(life, outcome);
    // What was asked a moment ago has no answer yet, which means nothing.
    const requests = [...earlier, ...asked.filter(([, latencyUs]) => latencyUs >= 0)];
    const timeline = timelineOf({
      ...{ faultUs, answeredUs, requests, fault: this.parts.scenario.what },
      changes: life.pair.changes(faultUs),
      deeds: [...this.parts.lan.deeds, ...life.pair.deeds].filter(({ atUs }) => atUs > faultUs),
    });
    keepTimeline(this.timelines, { n, failoverMs, silenceMs, timeline });
  }

  /** Cables are whole, nobody is stopped, the witness is there. */
  private async putRight(pair: HostPair | undefined): Promise<void> {
    this.parts.lan.mend();
    for (const host of HOST_NAMES) pair?.node(host)?.process.kill('SIGCONT');
    await this.parts.witness.putRight();
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
