/**
 * A network with two hosts and a witness on which scenarios are run, one after another, any number of
 * times each. What one scenario does: scenario-drill.
 */
import { FtError } from '../common/errors';
import { Lan } from './lan/lan';
import { SandboxWitness, type WitnessKind } from './pair/sandbox-witness';
import type { Run, ScenarioResult } from './results';
import { ScenarioDrill } from './scenario-drill';
import type { Scenario } from './scenarios/scenario';

export interface MatrixOptions {
  readonly seed: number;
  readonly witness: WitnessKind;
  readonly memory: string;
  readonly suspectAfterMs: number;
  readonly clients: number;
  readonly ratePerSecond: number;
  /** Pages that the guest itself dirties in a millisecond. */
  readonly pagesPerMs: number;
  /** Longest time under load before a fault; the moment is drawn between a fifth of it and it. */
  readonly lifeMsMax: number;
  /** Keep what each request took around the fault, for pictures. */
  readonly timelines?: boolean;
  /** More flags for both commands. */
  readonly flags?: readonly string[];
  readonly onRun?: (run: Run) => void;
}

export const matrixDefaults = {
  seed: 1,
  witness: 'etcd',
  memory: '32M',
  suspectAfterMs: 50,
  clients: 16,
  ratePerSecond: 800,
  pagesPerMs: 8,
  lifeMsMax: 250,
} as const;

/** What the drills of all scenarios draw from. */
export interface Draw {
  /** From 0 to below 1, from the seed. */
  random(): number;
  /** A new name for a pair at the witness. */
  pairName(): string;
}

/** What all scenarios share. */
export class Matrix {
  private random: number;
  private pairs = 0;
  private present: ScenarioDrill | undefined;
  private stopped = false;

  private constructor(
    private readonly options: MatrixOptions,
    private readonly lan: Lan,
    private readonly witness: SandboxWitness,
  ) {
    this.random = options.seed >>> 0;
  }

  /** Makes the network and starts the witness. Needs root. Throws when something is missing. */
  static async make(options: MatrixOptions): Promise<Matrix> {
    const lan = Lan.make();
    try {
      return new Matrix(options, lan, await SandboxWitness.start(options.witness, lan));
    } catch (thrown) {
      lan.close();
      throw thrown;
    }
  }

  /**
   * Does a scenario `runs` times; fewer when it is stopped meanwhile.
   * Throws FT_ERR_DRILL_PAIR when the pair does not even start.
   */
  async run(scenario: Scenario, runs: number): Promise<ScenarioResult> {
    if (scenario.needsEtcd === true && this.witness.etcd === undefined) {
      const message = `The scenario ${scenario.name} stops or cuts off the witness, which --witness etcd alone allows.`;
      throw new FtError('FT_ERR_DRILL_WITNESS', message, { scenario: scenario.name });
    }
    const { options, lan, witness } = this;
    const draw: Draw = {
      random: () => this.nextRandom(),
      pairName: () => `drill-${process.pid}-${this.pairs++}`,
    };
    const drill = new ScenarioDrill({ scenario, options, lan, witness, draw });
    this.present = drill;
    if (this.stopped) drill.stop();
    const result = await drill.run(runs);
    this.present = undefined;
    return result;
  }

  /** No drill begins after the present one; that one comes to its end and is judged. */
  stop(): void {
    this.stopped = true;
    this.present?.stop();
  }

  /** What is known of the scenario that runs at this moment, without a judgement. */
  presentResult(): ScenarioResult | undefined {
    return this.present?.soFar();
  }

  async close(): Promise<void> {
    await this.witness.close();
    this.lan.close();
  }

  private nextRandom(): number {
    this.random = (Math.imul(this.random, 1664525) + 1013904223) >>> 0;
    return this.random / 2 ** 32;
  }
}
