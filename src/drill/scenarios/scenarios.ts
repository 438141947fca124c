/**
 * The matrix: kills, stops, cut and slow cables, a witness out of reach. What happens while two
 * states change at once (a sync, a switchover, a promotion) is in scenarios-midway.ts.
 *
 * After each: the guest runs on exactly one host, and the pair mends itself; the runner sees to that
 * and to what the clients and the network saw.
 */

import type { HostName } from '../lan/lan';
import { hostOf, type Sides } from '../pair/host-pair';
import type { PairNode } from '../pair/pair';
import { monotonicUs, sleep } from '../process/time';
import {
  answersGoOn,
  answersStop,
  expectSides,
  type Outcome,
  PATIENCE_MS,
  runsOn,
  type Scenario,
  type Scene,
} from './scenario';
import { midwayScenarios } from './scenarios-midway';

/** Longer than every timeout that a pair has while it is protected. */
const STOPPED_MS = 400;
const CUT_MS = 250;
/** The pair's acknowledgements and heartbeats no longer get through this in time. */
const SLOW_KBIT = 1500;

async function killed(scene: Scene, node: PairNode): Promise<Outcome> {
  const from = scene.pair.marks();
  const faultUs = node.process.kill('SIGKILL');
  const outcome = await runsOn(scene, from, faultUs, scene.lan.other(hostOf(node)));
  await node.process.waitExit(PATIENCE_MS);
  return outcome;
}

async function stopped(scene: Scene, node: PairNode): Promise<Outcome> {
  const from = scene.pair.marks();
  const faultUs = node.process.kill('SIGSTOP');
  const outcome = await runsOn(scene, from, faultUs, scene.lan.other(hostOf(node)));
  await sleep(STOPPED_MS);
  await answersGoOn(scene.oracle);
  node.process.kill('SIGCONT');
  return outcome;
}

/** Whoever wins: exactly one goes on, and the cable is whole again after a while. */
async function cut(scene: Scene, toward: readonly HostName[], ms: number): Promise<Outcome> {
  const from = scene.pair.marks();
  const faultUs = scene.lan.cutLink(toward);
  const doneUs = monotonicUs();
  const outcome = await runsOn(scene, from, faultUs);
  await answersGoOn(scene.oracle);
  await sleep(ms - (monotonicUs() - faultUs) / 1000);
  scene.lan.mend();
  return { ...outcome, doneUs };
}

async function slow(scene: Scene): Promise<Outcome> {
  const faultUs = scene.lan.slowLink(SLOW_KBIT);
  await sleep(2 * CUT_MS);
  // The longest silence of all that time counts, not the first.
  const doneUs = monotonicUs();
  scene.lan.mend();
  await answersGoOn(scene.oracle);
  return { faultUs, doneUs };
}

/** Without the witness a protected pair goes on, and a survivor waits until it is back. */
async function witnessDown(scene: Scene, sides: Sides): Promise<Outcome> {
  const { active, standby } = sides;
  const { etcd, oracle, pair, run } = scene;
  if (etcd === undefined) throw new Error('This witness cannot be stopped.');
  const isKilled = run % 4 === 3;
  if (isKilled) await etcd.kill();
  else etcd.signal('SIGSTOP');
  await answersGoOn(oracle);
  expectSides(scene, sides);
  const from = pair.marks();
  active.process.kill('SIGKILL');
  await standby.waitState(['suspecting'], PATIENCE_MS, from.get(standby) ?? 0);
  await active.process.waitExit(PATIENCE_MS);
  await answersStop(oracle, CUT_MS);
  const backUs = isKilled ? monotonicUs() : etcd.signal('SIGCONT');
  if (isKilled) await etcd.run();
  return runsOn(scene, from, backUs, hostOf(standby));
}

/** The side that the witness hears is the one that goes on. */
async function witnessCut(scene: Scene, sides: Sides, from: HostName): Promise<Outcome> {
  const { lan, oracle, pair } = scene;
  lan.cutWitness(from);
  await answersGoOn(oracle);
  expectSides(scene, sides);
  const marks = pair.marks();
  const faultUs = lan.cutLink();
  const doneUs = monotonicUs();
  const outcome = await runsOn(scene, marks, faultUs, lan.other(from));
  await sleep(CUT_MS);
  await answersGoOn(oracle);
  lan.mend();
  return { ...outcome, doneUs };
}

async function bothKilled(scene: Scene, { active, standby }: Sides): Promise<Outcome> {
  const victims = scene.random() < 0.5 ? [active, standby] : [standby, active];
  let faultUs = 0;
  for (const node of victims) {
    const atUs = node.process.kill('SIGKILL');
    if (faultUs === 0) faultUs = atUs;
    if (scene.random() < 0.5) await sleep(8 * scene.random());
  }
  for (const node of victims) await node.process.waitExit(PATIENCE_MS);
  return { faultUs, guestLost: true };
}

export const scenarios: readonly Scenario[] = [
  {
    name: 'primary-kill',
    what: 'the primary is killed',
    act: (scene, { active }) => killed(scene, active),
  },
  {
    name: 'standby-kill',
    what: 'the standby is killed',
    act: (scene, { standby }) => killed(scene, standby),
  },
  {
    name: 'primary-freeze',
    what: 'the primary is stopped for longer than every timeout, then goes on',
    act: (scene, { active }) => stopped(scene, active),
  },
  {
    name: 'standby-freeze',
    what: 'the standby is stopped for longer than every timeout, then goes on',
    act: (scene, { standby }) => stopped(scene, standby),
  },
  {
    name: 'link-cut',
    what: 'nothing passes between the hosts',
    act: (scene) => cut(scene, ['a', 'b'], CUT_MS),
  },
  {
    name: 'link-cut-to-standby',
    what: 'nothing reaches the standby, all reaches the primary',
    act: (scene, { standby }) => cut(scene, [hostOf(standby)], CUT_MS),
  },
  {
    name: 'link-cut-to-primary',
    what: 'nothing reaches the primary, all reaches the standby',
    act: (scene, { active }) => cut(scene, [hostOf(active)], CUT_MS),
  },
  {
    name: 'link-cut-1s',
    what: 'nothing passes between the hosts for a second',
    act: (scene) => cut(scene, ['a', 'b'], 1000),
  },
  {
    name: 'link-slow',
    what: `${SLOW_KBIT} kbit/s and a queue of a second between the hosts`,
    act: slow,
  },
  {
    name: 'witness-down',
    what: 'the witness is down, then the primary is killed; measured from the witness’s return',
    needsEtcd: true,
    act: witnessDown,
  },
  {
    name: 'witness-cut-from-primary',
    what: 'the primary loses the witness, then the link',
    needsEtcd: true,
    act: (scene, sides) => witnessCut(scene, sides, hostOf(sides.active)),
  },
  {
    name: 'witness-cut-from-standby',
    what: 'the standby loses the witness, then the link',
    needsEtcd: true,
    act: (scene, sides) => witnessCut(scene, sides, hostOf(sides.standby)),
  },
  {
    name: 'both-kill',
    what: 'both are killed and restarted, in either order',
    act: bothKilled,
  },
  ...midwayScenarios,
];
