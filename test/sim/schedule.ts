/**
 * Runs one plan: clients ask all the time while hosts are killed, stopped and cut off, the witness
 * fails, and fresh standbys come. Then everything is mended, and whoever still can must answer, be
 * protected again, and have a copy that is the original to the last byte.
 */
import { FtError } from '../../src/common/errors';
import type { NodeEnd } from '../../src/node/running-node';
import { FrameBufferPool } from '../../src/wire/buffer-pool';
import { type Chaos, noChaos } from './chaos';
import { Client } from './client';
import { ACTIVE, HOPEFUL } from './judge';
import {
  type Act,
  CLIENTS,
  drawPlan,
  type Plan,
  type Step,
  type Strike,
  type Target,
} from './plan';
import { Random } from './random';
import { beaconRequest } from './sim-lan';
import { NeverEnds, type SimHost, World, type WorldOptions } from './world';

export interface ScheduleOutcome {
  readonly violations: readonly string[];
  readonly story: readonly string[];
  readonly chaos: Chaos;
}

/** How long a step waits for the state that it wants to strike in. */
const WHEN_MS = 60;
/** The longest waits between two tries of anything are a second. */
const MEND_MS = 8000;
/** Of the history, in the words of a schedule that had to be broken off. */
const TAIL_LINES = 8;

export interface RunOptions extends WorldOptions {
  /** Keeps a history of all that happens; without, only what the plan does. */
  readonly tellAll?: boolean;
}

export async function runPlan(plan: Plan, options: RunOptions = {}): Promise<ScheduleOutcome> {
  const run = new Schedule(plan, options);
  try {
    await run.run();
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    const tail = run.story.slice(-TAIL_LINES).join(' · ');
    const said = error instanceof NeverEnds ? what : `it threw: ${what}`;
    run.world.judge.accuse(`${said}; before that: ${tail}`);
  }
  run.world.end();
  // What a promise threw is told only after a turn of the real event loop; see runner.ts.
  return { violations: run.world.violations, story: run.story, chaos: run.chaos };
}

export function runSeed(seed: number, options: RunOptions = {}): Promise<ScheduleOutcome> {
  return runPlan(drawPlan(seed), options);
}

class Schedule {
  readonly world: World;
  readonly story: string[] = [];
  readonly chaos: Chaos = noChaos();
  private readonly clients: Client[] = [];
  /** Clients ask no more. */
  private quiet = false;
  private diskFailed = false;
  /** Who was asked to hand its guest over, and is not done with that; one entry each time. */
  private readonly asked = new Set<{ readonly host: SimHost }>();

  constructor(
    private readonly plan: Plan,
    private readonly options: RunOptions,
  ) {
    const { settings, seed } = plan;
    this.world = new World({
      catchThrown: true,
      cheapSums: true,
      pool: POOL,
      judgeLease: JUDGE_LEASE,
      ...settings,
      ...options,
    });
    const { net, witness } = this.world;
    net.delayMs = settings.linkMs;
    net.jitterMs = settings.jitterMs;
    const dice = new Random(seed ^ 0x5eed);
    net.drawPart = () => dice.next();
    witness.delayMs = settings.witnessMs;
    for (let id = 1; id <= CLIENTS; id += 1) this.clients.push(new Client(this.world, id));
    this.listen();
  }

  private listen(): void {
    const { lan, witness } = this.world;
    const check = lan.onAnswer;
    lan.onAnswer = (answer) => {
      check(answer);
      this.chaos.answers += 1;
      if (this.options.tellAll === true) {
        this.note(`${answer.node} answers request ${answer.sequence}`);
      }
      if (!this.quiet) this.clients[answer.client - 1]?.heard(answer.requestId);
    };
    witness.onWon = (owner, generation) => {
      this.chaos.won += 1;
      this.note(`the witness gives generation ${generation} to ${owner}`);
    };
    this.world.onState = (host, event) => {
      if (event.to === 'active') this.promoted(host);
      if (event.to === 'fenced') this.chaos.fenced += 1;
      if (this.options.tellAll === true) {
        const { role, from, to, epoch } = event;
        this.note(`${host.name}, ${role}: ${from} → ${to} (epoch ${epoch})`);
      }
    };
  }

  private promoted(host: SimHost): void {
    this.chaos.promotions += 1;
    // A guest hears that its own writes fail, which this one does not understand; what was taken over
    // and is not written yet must fail.
    const image = this.world.imageOf(host.slot);
    if (host.machine.diskBacklogBytes() === 0) image.failing = false;
  }

  async run(): Promise<void> {
    const { world, plan } = this;
    const a = world.add('a', this.dials('a'));
    const starting = world.startPrimary(a);
    this.addStandby();
    await starting;
    if (plan.settings.protectedFirst) {
      await world.until('protected', () => a.state === 'protected');
    }
    for (const step of plan.steps) {
      if (this.over || this.world.judge.guestGone) break;
      await this.step(step);
    }
    await this.mend();
    this.chaos.inPart = world.syncs.inPart;
    this.chaos.whole = world.syncs.whole;
    this.chaos.catchUps = world.catchUps;
    this.chaos.events = world.events;
    this.chaos.gone = world.judge.guestGone ? 1 : 0;
  }

  private get over(): boolean {
    return this.world.violations.length > 0;
  }

  private get hosts(): SimHost[] {
    return [...this.world.hosts.values()];
  }

  private note(text: string): void {
    this.story.push(`${((this.world.clock.nowUs() - 1e6) / 1000).toFixed(2)} ms: ${text}`);
  }

  private async step(step: Step): Promise<void> {
    for (const client of this.clients) if ((step.asks >> (client.id - 1)) & 1) client.ask();
    const { when } = step;
    if (when !== undefined) {
      await this.world.waitFor(() => this.hosts.some((host) => host.state === when), WHEN_MS);
    }
    this.act(step.act);
    await this.world.advance(step.waitMs);
    this.tidy();
  }

  private target(who: Target): SimHost | undefined {
    if (who === 'a' || who === 'b') return this.world.hosts.get(who);
    const active = this.hosts.find((host) => ACTIVE.has(host.state)) ?? this.hosts[0];
    return who === 'active' ? active : this.hosts.find((host) => host !== active);
  }

  private act(act: Act): void {
    const { world } = this;
    switch (act.kind) {
      case 'kill':
        this.strike(act, (host) => this.kill(host, act));
        break;
      case 'pause':
      case 'suspend':
        this.strike(act, (host) => this.pause(host, act.kind, act.forMs));
        break;
      case 'partition':
        this.note(`nothing passes ${act.way} for ${act.forMs} ms`);
        this.chaos.partitions += 1;
        world.cutLinks(act.way);
        world.clock.after(act.forMs, () => world.healLinks());
        break;
      case 'breakOne':
        this.breakOne(act.newest, act.how);
        break;
      case 'breakAll':
        this.note('all connections break');
        this.chaos.breaks += 1;
        // Not as a kernel does when its process ends: nobody forges that on both of them.
        for (const host of this.hosts) world.net.breakAll(host, 'EHOSTUNREACH');
        break;
      case 'slowLink':
        this.slowLink(act.delayMs, act.forMs);
        break;
      case 'addStandby':
        this.addStandby(act.by);
        break;
      case 'endGuest':
        this.note('the guest is asked to end itself');
        world.lan.request(beaconRequest('end', CLIENTS + 1, 1));
        break;
      case 'switchover':
        this.switchover();
        break;
      case 'change':
        this.change(act);
        break;
      case 'endStandby':
        this.endStandby();
        break;
      case 'failDisk':
        this.failDisk(act.forMs);
        break;
      case 'none':
        break;
      default:
        this.actOnWitness(act);
    }
  }

  private actOnWitness(act: Act): void {
    const { witness, clock } = this.world;
    if (act.kind === 'slowWitness') {
      witness.delayMs = act.delayMs;
      clock.after(act.forMs, () => {
        witness.delayMs = this.plan.settings.witnessMs;
      });
    } else if (act.kind === 'noWitness') {
      const whom = act.who === 'both' ? this.hosts : [this.target(act.who)];
      for (const host of whom) if (host !== undefined) witness.unreachableFor.add(host.name);
      clock.after(act.forMs, () => {
        for (const host of whom) if (host !== undefined) witness.unreachableFor.delete(host.name);
      });
    } else if (act.kind === 'loseAnswer' || act.kind === 'lateClaim') {
      const host = this.target(act.who);
      const faults = act.kind === 'loseAnswer' ? witness.loseAnswerFor : witness.lateFor;
      if (host !== undefined) faults.add(host.name);
    } else return;
    this.note(`the witness: ${JSON.stringify(act)}`);
    this.chaos.witnessFaults += 1;
  }

  /** Strikes now, or when the host has come so far. */
  private strike(strike: Strike, hit: (host: SimHost) => void): void {
    const host = this.target(strike.who);
    if (host === undefined) return;
    if (strike.at === 'now') hit(host);
    else host.gate.arm(strike.at, strike.left, () => hit(host));
  }

  private countHit(host: SimHost): void {
    const { hits } = this.chaos;
    hits[host.state] = (hits[host.state] ?? 0) + 1;
  }

  private kill(host: SimHost, act: Act & { kind: 'kill' }): void {
    if (!host.alive) return;
    // Only a side whose loss the other can answer for, else the schedule is over too soon; but now
    // and then the other way, too.
    const covered = this.hosts.some((one) => one !== host && HOPEFUL.has(one.state));
    if (ACTIVE.has(host.state) && !covered && act.left % 8 !== 0) return;
    this.note(`${host.name} is killed, ${act.how} (it was ${host.state})`);
    this.chaos.kills += 1;
    this.countHit(host);
    this.world.crash(host, act.how);
    if (act.damage) this.world.damage(host);
  }

  private pause(host: SimHost, how: 'pause' | 'suspend', forMs: number): void {
    this.note(`${host.name}: ${how} for ${forMs} ms (${host.state})`);
    this.chaos.pauses += 1;
    this.countHit(host);
    const { clock } = this.world;
    if (how === 'pause') host.gate.pause();
    else host.gate.suspend();
    clock.after(forMs, () => {
      if (!host.gate.running) this.note(`${host.name} goes on`);
      host.gate.resume();
    });
  }

  private breakOne(newest: number, how: 'reset' | 'void'): void {
    const host = this.target('active');
    const link = host === undefined ? undefined : this.world.net.linksOf(host).at(-1 - newest);
    if (link === undefined) return;
    this.note(`the ${newest === 0 ? 'newest' : 'second newest'} connection: ${how}`);
    this.chaos.breaks += 1;
    if (how === 'reset') link.reset();
    else this.world.net.forget(link);
  }

  private slowLink(delayMs: number, forMs: number): void {
    const { net, clock } = this.world;
    this.note(`the link needs ${delayMs.toFixed(1)} ms, for ${forMs} ms`);
    net.slow(delayMs);
    clock.after(forMs, () => net.slow(this.plan.settings.linkMs));
  }

  /** A disk that holds the copy breaks. That of the guest itself is another story. */
  private failDisk(forMs: number): void {
    const host = this.target('other');
    if (host === undefined || (host.state !== 'ready' && host.state !== 'syncing')) return;
    if (host.node.primary !== undefined) return;
    this.note(`the disk of ${host.name} fails (${host.state})`);
    this.chaos.diskFailures += 1;
    this.diskFailed = true;
    const image = this.world.imageOf(host.slot);
    image.failing = true;
    this.world.clock.after(forMs, () => {
      this.world.imageOf(host.slot).failing = false;
    });
  }

  private change(act: Extract<Act, { kind: 'change' }>): void {
    const host = this.target(act.who);
    if (host === undefined || !host.gate.running) return;
    const { kind, who, ...change } = act;
    this.note(`${host.name} (${host.state}) reads ${JSON.stringify(change)}`);
    this.chaos.changes += 1;
    host.node.change({ ...change, onGuestEnd: host.node.settings.onGuestEnd });
  }

  private switchover(): void {
    const host = this.target('active');
    if (host?.node.primary === undefined || !host.gate.running) return;
    this.note(`${host.name} is asked to hand its guest over (${host.state})`);
    const ask = { host };
    this.asked.add(ask);
    host.node.switchover().then(
      (outcome) => {
        this.asked.delete(ask);
        const became = outcome instanceof FtError ? outcome.code : 'done';
        if (became === 'done') this.chaos.switchovers += 1;
        this.note(`the switchover of ${host.name}: ${became}`);
      },
      (error: unknown) => this.world.thrown(host, error),
    );
  }

  private endStandby(): void {
    const host = this.target('other');
    if (host === undefined || host.node.primary !== undefined || !host.gate.running) return;
    // The command itself puts the end off while a claim is under way.
    if (host.node.claiming) return;
    this.note(`${host.name} is ended in order (${host.state})`);
    this.world.judge.excuse = true;
    host.node.stop('SIGTERM');
    this.retire(host);
  }

  /** Fills the slots that are free. */
  private addStandby(by: 'standby' | 'primary' = 'standby'): void {
    const { slots, onFenced } = this.plan.settings;
    for (const slot of slots) {
      if (this.world.hosts.has(slot) || this.world.hosts.size === 0) continue;
      const host = this.world.add(slot, this.dials(slot));
      this.note(`${host.name} comes as ${by}`);
      // Without a listener it would only find out that it cannot boot the guest.
      if (by === 'standby' || onFenced === 'exit') host.node.startStandby();
      else host.node.startPrimary(false).catch((error: unknown) => this.notStarted(host, error));
    }
  }

  private dials(slot: string): string {
    return this.plan.settings.slots.filter((one) => one !== slot).join(' ');
  }

  private notStarted(host: SimHost, error: unknown): void {
    if (!host.alive) return;
    this.note(`${host.name} could not start: ${error instanceof Error ? error.message : error}`);
    this.retire(host);
  }

  /** A process that ended by itself leaves its slot, as its service manager would see to. */
  private tidy(): void {
    for (const host of this.hosts) {
      if (host.end === undefined) continue;
      this.note(`${host.name} ended: ${host.end.kind}`);
      if (host.end.kind === 'guest-ended') this.world.judge.guestGone = true;
      else if (!lawful(host.end)) this.world.judge.accuse(`${host.name}: ${host.end.kind}`);
      this.retire(host);
    }
  }

  /** Its last words may still be on their way, so the links are not broken. */
  private retire(host: SimHost): void {
    host.alive = false;
    this.world.lan.unplugNode(host.name);
    host.machine.close();
    this.world.hosts.delete(host.slot);
  }

  /** With nothing broken any more, a guest that somebody has must answer, and be protected. */
  private async mend(): Promise<void> {
    const { world } = this;
    if (this.over) return;
    this.note('everything is mended');
    world.healLinks();
    world.net.slow(this.plan.settings.linkMs);
    world.witness.unreachableFor.clear();
    world.witness.delayMs = this.plan.settings.witnessMs;
    for (const image of world.images.values()) image.failing = false;
    for (const host of this.hosts) host.gate.disarm();
    for (const host of this.hosts) host.gate.resume();
    const answers = this.chaos.answers;
    const wellBy = world.clock.nowUs() + MEND_MS * 1000;
    while (!this.well(answers) && world.clock.nowUs() < wellBy && !this.over) {
      this.tidy();
      this.addStandby();
      for (const client of this.clients) client.ask();
      await world.waitFor(() => this.well(answers), 50);
    }
    this.tidy();
    const alive = this.hosts.map((host) => `${host.name}: ${host.state}`);
    this.note(`at the end: ${alive.join(', ') || 'nobody'}`);
    if (this.over || world.judge.guestGone) return;
    if (this.chaos.answers === answers) world.judge.accuse('the guest fell silent');
    else if (!this.diskFailed && this.pair() === undefined) {
      world.judge.accuse('the guest is not protected again');
    } else await this.compare();
  }

  private well(answers: number): boolean {
    if (this.over || this.world.judge.guestGone) return true;
    // A host that still looks at the witness is protected, and about to hand its guest over.
    if ([...this.asked].some(({ host }) => host.alive)) return false;
    return this.chaos.answers > answers && (this.diskFailed || this.pair() !== undefined);
  }

  private pair(): { primary: SimHost; standby: SimHost } | undefined {
    const primary = this.hosts.find((host) => host.state === 'protected');
    const standby = this.hosts.find((host) => host.state === 'ready');
    return primary === undefined || standby === undefined ? undefined : { primary, standby };
  }

  /** The last request is in the copy. */
  private inStep(): boolean {
    const pair = this.pair();
    if (pair === undefined) return false;
    const applied = pair.standby.node.standby?.stats.epochApplied ?? 0;
    return pair.standby.originCopy(applied)?.sequence === pair.primary.sequence;
  }

  /** When nobody writes any more, the copy is the guest's memory and disk, to the last byte. */
  private async compare(): Promise<void> {
    const { world } = this;
    this.quiet = true;
    await world.advance(40);
    // A connection that something in between forgot breaks in its own time.
    await world.waitFor(() => this.over || world.judge.guestGone || this.inStep(), MEND_MS);
    const pair = this.pair();
    if (this.over || this.diskFailed || world.judge.guestGone) return;
    if (pair === undefined || !this.inStep()) {
      world.judge.accuse('the standby never comes in step');
      return;
    }
    const { primary, standby } = pair;
    world.judge.checkOwner(primary);
    if (!primary.machine.memory.bytes.equals(standby.machine.memory.bytes)) {
      world.judge.accuse(`the memory of ${standby.name} is not the guest's`);
    }
    if (world.diskFault(primary) !== undefined || !primary.disk.view.equals(standby.disk.view)) {
      world.judge.accuse(`the disk of ${standby.name} is not the guest's`);
    }
    this.chaos.compared += 1;
  }
}

/** Room for a region of a disk and some pages: larger epochs travel in pieces. */
const POOL = new FrameBufferPool(80 * 1024, 64);
/** Nobody may speak once another generation runs. */
const JUDGE_LEASE = true;

/** An end that somebody ordered, or that takes nobody's guest. */
function lawful(end: NodeEnd): boolean {
  return end.kind === 'fenced' || end.kind === 'witness-lost' || diskEnded(end);
}

/** The disk broke on the host that had just lost its peer: two faults, and nobody is left. */
export function diskEnded(end: NodeEnd): boolean {
  if (end.kind !== 'machine-error' && end.kind !== 'promotion-failed') return false;
  return end.error.code.startsWith('FT_ERR_DISK_');
}
