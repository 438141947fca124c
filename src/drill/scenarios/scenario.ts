/** What a scenario of the drill matrix is: one fault, done to a protected pair while clients ask. */

import type { HostName, Lan } from '../lan/lan';
import type { OracleProcess } from '../oracle/oracle-process';
import type { LocalEtcd } from '../pair/etcd';
import { type HostPair, hostOf, type Marks, type Sides } from '../pair/host-pair';
import { sleep, until } from '../process/time';

/** Everything that a scenario may lay hands on. */
export interface Scene {
  readonly lan: Lan;
  readonly pair: HostPair;
  /** The witness, where it is one that can be stopped. */
  readonly etcd: LocalEtcd | undefined;
  readonly oracle: OracleProcess;
  /** A number from 0 to below 1, drawn from the drill's seed. */
  readonly random: () => number;
  /** Number of this run, from 0: scenarios that have variants take turns by it. */
  readonly run: number;
  readonly suspectAfterMs: number;
}

export interface Outcome {
  /** The moment that failover is measured from, monotonic µs. */
  readonly faultUs: number;
  /** When the fault was done for certain, where doing it takes its time; else `faultUs`. */
  readonly doneUs?: number;
  /** Since when the guest stood still for certain, where that comes some time after the fault. */
  readonly stillUs?: number | undefined;
  /** Since when the guest runs on with its output open; undefined where it never stopped. */
  readonly ranUs?: number | undefined;
  /** Both hosts of the guest died: it is booted anew, and its clients' history ends. */
  readonly guestLost?: boolean;
  /** How long the guest stood still in a planned exchange, by the nodes' own word, ms. */
  readonly blackoutMs?: number;
}

/**
 * Does its fault, waits for what the pair makes of it, throws when that is not what must come.
 * Cables and stopped processes are put right by the runner afterwards, if not before.
 */
export interface Scenario {
  readonly name: string;
  /** One line: what is done. */
  readonly what: string;
  /** It stops the witness, or cuts it off from one host: a directory cannot be had that way. */
  readonly needsEtcd?: true;
  readonly act: (scene: Scene, sides: Sides) => Promise<Outcome>;
}

/**
 * The sides changed by themselves before the fault was done, since the machine stalled for longer
 * than the suspicion: the scenario must begin anew with the sides as they are then.
 */
export class SidesChanged extends Error {}

/** Throws SidesChanged when the guest is no longer protected on the same side. */
export function expectSides({ pair }: Scene, { active }: Sides): void {
  if (pair.sides?.active !== active) throw new SidesChanged('The sides changed before the fault.');
}

/** How long anything may take that a scenario waits for. */
export const PATIENCE_MS = 6000;

/** More answers than there are now come. */
export async function answersGoOn(oracle: OracleProcess): Promise<void> {
  const { answered } = await oracle.sample();
  const more = async (): Promise<boolean> => (await oracle.sample()).answered > answered + 8;
  await until('more answers', more, PATIENCE_MS);
}

/** No answer comes for `ms`, though clients ask. */
export async function answersStop(oracle: OracleProcess, ms: number): Promise<void> {
  const { answered } = await oracle.sample();
  await sleep(ms);
  const more = (await oracle.sample()).answered - answered;
  if (more > 0) throw new Error(`${more} answers came while nobody may run the guest.`);
}

/** The guest runs on, on whichever host; on `host`, if that is given. */
export async function runsOn(
  scene: Scene,
  from: Marks,
  faultUs: number,
  host?: HostName,
): Promise<Outcome> {
  const { node, atUs } = await scene.pair.waitRuns(from, PATIENCE_MS);
  if (host !== undefined && hostOf(node) !== host) {
    throw new Error(`The guest runs on host ${hostOf(node)}, and it must be host ${host}.`);
  }
  return { faultUs, ranUs: atUs };
}
