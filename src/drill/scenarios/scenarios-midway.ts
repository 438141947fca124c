/**
 * Faults that come while the pair is on its way from one state to another: in the midst of a sync,
 * a resync or a promotion. The moment within is drawn anew each time.
 *
 * Some of them leave the guest with no host that may resume it: whoever dies alone with the guest's
 * newest state takes it along. Then exactly nobody may run it, until its last owner boots it anew.
 */
import { askNode } from '../../cli/control-client';
import { hostOf, type Sides } from '../pair/host-pair';
import type { PairNode } from '../pair/pair';
import type { Line } from '../process/process';
import { monotonicUs, sleep } from '../process/time';
import {
  type Outcome,
  PATIENCE_MS,
  runsOn,
  type Scenario,
  type Scene,
  SidesChanged,
} from './scenario';

/** A sync of the drills' guest takes about this long. */
const SYNC_MS = 25;
/** From the first doubt to a guest that runs. */
const PROMOTION_MS = 16;
/** From the request to the other side's word. */
const SWITCHOVER_MS = 15;
const CUT_MS = 150;

/** The standby, or now and then the primary, dies at a moment of the sync that has just begun. */
async function killInSync(scene: Scene, { active, standby }: Sides): Promise<Outcome> {
  const { pair, random, run } = scene;
  await sleep(random() * SYNC_MS);
  if (run % 3 !== 2) {
    const from = pair.marks();
    const faultUs = standby.process.kill('SIGKILL');
    await standby.process.waitExit(PATIENCE_MS);
    return runsOn(scene, from, faultUs, hostOf(active));
  }
  const from = pair.marks();
  const faultUs = active.process.kill('SIGKILL');
  await active.process.waitExit(PATIENCE_MS);
  return survivorOf(standby, from.get(standby) ?? 0, faultUs);
}

/** It takes over if it held the base, and else it must not. */
async function survivorOf(standby: PairNode, from: number, faultUs: number): Promise<Outcome> {
  const line = await standby.waitState(['solo', 'joining'], PATIENCE_MS, from);
  if (standby.state === 'joining') return { faultUs, guestLost: true };
  return { faultUs, ranUs: line.atUs };
}

async function killDuringSync(scene: Scene, { active, standby }: Sides): Promise<Outcome> {
  const { pair } = scene;
  const from = pair.marks();
  standby.process.kill('SIGKILL');
  await standby.process.waitExit(PATIENCE_MS);
  await active.waitState(['solo'], PATIENCE_MS, from.get(active) ?? 0);
  const fresh = pair.launch(hostOf(standby), 'ft-standby');
  await active.waitState(['syncing'], PATIENCE_MS, pair.marks().get(active) ?? 0);
  return killInSync(scene, { active, standby: fresh });
}

/** The cable is cut for a moment, so that the loser comes back and is synced again. */
async function killDuringResync(scene: Scene, _sides: Sides): Promise<Outcome> {
  const { pair, lan } = scene;
  const from = pair.marks();
  lan.cutLink();
  const { node: winner } = await pair.waitRuns(from, PATIENCE_MS);
  const then = pair.marks();
  await sleep(CUT_MS);
  lan.mend();
  const loser = await pair.back(lan.other(hostOf(winner)), PATIENCE_MS);
  await winner.waitState(['syncing'], PATIENCE_MS, then.get(winner) ?? 0);
  return killInSync(scene, { active: winner, standby: loser });
}

/**
 * The standby dies in the midst of its promotion. The primary is dead, or it was only stopped and
 * comes back: then it goes on if the witness had not been asked yet, and is fenced if it had.
 */
async function killDuringPromotion(scene: Scene, { active, standby }: Sides): Promise<Outcome> {
  const { random, run, suspectAfterMs } = scene;
  const isDead = run % 2 === 0;
  const faultUs = active.process.kill(isDead ? 'SIGKILL' : 'SIGSTOP');
  // A death is heard of at once, a stop after the suspicion; from just before that on.
  await sleep((isDead ? 0 : suspectAfterMs + 4) + random() * PROMOTION_MS);
  standby.process.kill('SIGKILL');
  await standby.process.waitExit(PATIENCE_MS);
  if (isDead) {
    await active.process.waitExit(PATIENCE_MS);
    return { faultUs, guestLost: true };
  }
  const known = active.process.lines.length;
  active.process.kill('SIGCONT');
  return soloOrFenced(active, known, faultUs);
}

/** The witness let it go on alone, or it had given the guest to one that is dead now. */
async function soloOrFenced(node: PairNode, from: number, faultUs: number): Promise<Outcome> {
  const isDecided = ({ fields }: Line): boolean =>
    fields['event'] === 'state' && (fields['to'] === 'solo' || fields['to'] === 'fenced');
  const what = 'either solo or fenced';
  const line = await node.process.waitFor(what, isDecided, PATIENCE_MS, from);
  return line.fields['to'] === 'solo'
    ? { faultUs, ranUs: line.atUs }
    : { faultUs, guestLost: true };
}

async function switchover(scene: Scene, { active, standby }: Sides): Promise<Outcome> {
  const { pair } = scene;
  const from = pair.marks();
  const faultUs = monotonicUs();
  const { status, body } = await askNode(
    pair.controlPath(hostOf(active)),
    'POST',
    '/v1/switchover',
  );
  const story = `The switchover was not done: ${JSON.stringify(body)}`;
  if (/_(STATE|ROLE)$/.test(`${body['code']}`)) throw new SidesChanged(story);
  if (status !== 200) throw new Error(story);
  const outcome = await runsOn(scene, from, faultUs, hostOf(standby));
  // The guest is halted some time after the request; it was when the standby begins to claim it.
  const stillUs = pair.changes(faultUs).find(({ to }) => to === 'suspecting')?.atUs;
  const doneUs = outcome.ranUs ?? faultUs;
  return { ...outcome, stillUs, doneUs, blackoutMs: Number(body['blackoutUs']) / 1000 };
}

/** One of the two dies at a moment of the exchange. */
async function killDuringSwitchover(scene: Scene, { active, standby }: Sides): Promise<Outcome> {
  const { pair, random, run } = scene;
  const from = pair.marks();
  const asked = askNode(pair.controlPath(hostOf(active)), 'POST', '/v1/switchover');
  // Whoever is killed may not answer any more; what counts is what the pair makes of it.
  const settled = asked.then(
    () => undefined,
    () => undefined,
  );
  await sleep(random() * SWITCHOVER_MS);
  const victim = run % 2 === 0 ? active : standby;
  const faultUs = victim.process.kill('SIGKILL');
  await victim.process.waitExit(PATIENCE_MS);
  const outcome =
    victim === active
      ? await runsOn(scene, from, faultUs, hostOf(standby))
      : await soloOrFenced(active, from.get(active) ?? 0, faultUs);
  await settled;
  return outcome;
}

export const midwayScenarios: readonly Scenario[] = [
  {
    name: 'kill-during-sync',
    what: 'a side is killed in the midst of a new standby’s sync',
    act: killDuringSync,
  },
  {
    name: 'kill-during-resync',
    what: 'a side is killed in the midst of the resync after a short cut',
    act: killDuringResync,
  },
  {
    name: 'kill-during-promotion',
    what: 'the standby is killed in the midst of its promotion',
    act: killDuringPromotion,
  },
  {
    name: 'switchover',
    what: 'the sides change places as planned',
    act: switchover,
  },
  {
    name: 'kill-during-switchover',
    what: 'a side is killed in the midst of a switchover',
    act: killDuringSwitchover,
  },
];
