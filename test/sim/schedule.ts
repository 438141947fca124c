/**
 * One random schedule: clients ask all the time while hosts are killed, stopped and cut off, the
 * witness fails, and fresh standbys come. Then everything is mended, and whoever still can must
 * answer again.
 */

import type { NodeEnd } from '../../src/node/running-node';
import type { Random } from './random';
import { beaconRequest } from './sim-lan';
import { type SimHost, World, type WorldOptions } from './world';

export interface Chaos {
  kills: number;
  pauses: number;
  cuts: number;
  promotions: number;
  fenced: number;
  answers: number;
  /** Disks: failures of power and of images, and resyncs of what differs and of all. */
  outages: number;
  diskFailures: number;
  inPart: number;
  whole: number;
  /** Copies compared with the original at the end. */
  compared: number;
}

export function noChaos(): Chaos {
  const hosts = { kills: 0, pauses: 0, cuts: 0, promotions: 0, fenced: 0, answers: 0 };
  return { ...hosts, outages: 0, diskFailures: 0, inPart: 0, whole: 0, compared: 0 };
}

export interface ScheduleOutcome {
  readonly violations: readonly string[];
  readonly story: readonly string[];
  readonly chaos: Chaos;
}

const STEPS = 60;
const CLIENTS = 3;
const CLAIMING = new Set(['suspecting', 'promoting']);
const ACTIVE = new Set(['solo', 'syncing', 'protected', 'switching', 'suspended']);

/** A client that asks again until it is answered, then asks the next. */
class Client {
  requestId = 1;

  constructor(
    private readonly world: World,
    private readonly random: Random,
    readonly id: number,
  ) {}

  ask(): void {
    // The operation follows from the id alone, so that a repetition is the same request.
    const op = (this.requestId * 7 + this.id) % 3;
    const key = BigInt((this.requestId * 31) % 20);
    const request =
      op === 0
        ? beaconRequest('put', this.id, this.requestId, key, BigInt(this.requestId))
        : beaconRequest(op === 1 ? 'incr' : 'get', this.id, this.requestId, key);
    this.world.lan.request(request);
  }

  heard(requestId: number): void {
    if (requestId !== this.requestId) return;
    this.requestId += 1;
    if (this.random.chance(0.8)) this.ask();
  }
}

export async function runSchedule(
  random: Random,
  options: WorldOptions = {},
): Promise<ScheduleOutcome> {
  const run = new Schedule(random, options);
  await run.run();
  const chaos = { ...run.chaos, ...run.world.syncs };
  return { violations: run.world.violations, story: run.story, chaos };
}

class Schedule {
  readonly world: World;
  readonly story: string[] = [];
  readonly chaos: Chaos = noChaos();
  private readonly clients: Client[] = [];
  private isCut = false;
  /** Clients ask no more. */
  private quiet = false;
  /** True once a kill took the only host that had the guest: nobody is to blame for silence. */
  private guestGone = false;

  constructor(
    private readonly random: Random,
    options: WorldOptions,
  ) {
    this.world = new World({
      memoryBytes: 64 * 1024,
      intervalUs: random.between(500, 4000),
      inFlightMax: 1 + random.below(6),
      diskLatencyMs: random.between(0.1, 6),
      ...options,
    });
    this.world.delayMs = random.between(0.05, 3);
    this.world.witness.delayMs = random.between(0.1, 8);
    for (let id = 1; id <= CLIENTS; id += 1) this.clients.push(new Client(this.world, random, id));
    const check = this.world.lan.onAnswer;
    this.world.lan.onAnswer = (answer) => {
      check(answer);
      this.chaos.answers += 1;
      if (!this.quiet) this.clients[answer.client - 1]?.heard(answer.requestId);
    };
  }

  async run(): Promise<void> {
    const b = this.world.add('b', 'a');
    b.node.startStandby();
    const a = this.world.add('a', 'b');
    await this.world.startPrimary(a);
    if (this.random.chance(0.8)) {
      await this.world.until('protected', () => a.state === 'protected');
    }
    for (let step = 0; step < STEPS && this.world.violations.length === 0; step += 1) {
      for (const client of this.clients) if (this.random.chance(0.5)) client.ask();
      this.act();
      await this.world.advance(this.random.between(0.1, 12));
      await this.tidy();
    }
    await this.mend();
  }

  private note(text: string): void {
    this.story.push(`${(this.world.clock.nowUs() / 1000).toFixed(1)} ms: ${text}`);
  }

  private act(): void {
    const { random, world } = this;
    const hosts = [...world.hosts.values()];
    const host = random.pick(hosts);
    if (host === undefined) return;
    const dice = random.next();
    if (dice < 0.05) this.kill(host);
    else if (dice < 0.12) this.pause(host);
    else if (dice < 0.25) this.resumeAll();
    else if (dice < 0.3) this.cut();
    else if (dice < 0.4) this.healCut();
    else if (dice < 0.44) {
      this.note(`${host.name} cannot reach the witness`);
      world.witness.unreachableFor.add(host.name);
    } else if (dice < 0.54) world.witness.unreachableFor.clear();
    else if (dice < 0.58) world.witness.loseAnswerFor.add(host.name);
    else if (dice < 0.61) this.breakLinks(host);
    else if (dice < 0.65) this.stopStandby(host);
    else if (dice < 0.8) this.addStandby();
    else if (dice < 0.82) this.failDisk(host);
    else if (dice < 0.86) this.mendDisks();
  }

  private kill(host: SimHost): void {
    // Only a side whose loss the other can answer for, else the schedule is over too soon.
    const other = [...this.world.hosts.values()].find((one) => one !== host);
    const covered =
      other !== undefined && ['ready', 'suspecting', 'promoting'].includes(other.state);
    if (ACTIVE.has(host.state) && !covered && !this.random.chance(0.1)) return;
    this.note(`${host.name} is killed (${host.state}, other: ${other?.state ?? 'none'})`);
    this.chaos.kills += 1;
    // A side that is claiming may own the next generation already, and takes it to the grave.
    if (ACTIVE.has(host.state) || CLAIMING.has(host.state)) this.guestGone = true;
    if (this.random.chance(0.25)) {
      this.note('its power failed');
      this.chaos.outages += 1;
      this.world.losePower(host);
    } else this.world.kill(host);
  }

  /** A disk that holds the copy breaks. That of the guest itself is another story. */
  private failDisk(host: SimHost): void {
    if (host.state !== 'ready' && host.state !== 'syncing') return;
    if (host.node.primary !== undefined) return;
    this.note(`the disk of ${host.name} fails (${host.state})`);
    this.chaos.diskFailures += 1;
    this.world.imageOf(host.slot).failing = true;
  }

  private mendDisks(): void {
    for (const image of this.world.images.values()) image.failing = false;
  }

  private pause(host: SimHost): void {
    this.note(`${host.name} is stopped (${host.state})`);
    this.chaos.pauses += 1;
    host.gate.pause();
  }

  private resumeAll(): void {
    for (const host of this.world.hosts.values()) host.gate.resume();
  }

  private cut(): void {
    if (this.isCut) return;
    this.note('the hosts are cut off from each other');
    this.chaos.cuts += 1;
    this.isCut = true;
    this.world.cutLinks();
  }

  private healCut(): void {
    if (!this.isCut) return;
    this.note('the cut is mended');
    this.isCut = false;
    this.world.healLinks();
  }

  private breakLinks(host: SimHost): void {
    this.note(`connections of ${host.name} break`);
    const link = this.random.pick(host.links);
    link?.reset();
  }

  private stopStandby(host: SimHost): void {
    if (host.node.primary !== undefined || !host.gate.running) return;
    // The command itself puts the end off while a claim is under way.
    if (host.node.claiming) return;
    this.note(`${host.name} is ended in order (${host.state})`);
    host.node.stop('SIGTERM');
    this.retire(host);
  }

  private addStandby(): void {
    for (const [slot, other] of [
      ['a', 'b'],
      ['b', 'a'],
    ] as const) {
      if (this.world.hosts.has(slot) || !this.world.hosts.has(other)) continue;
      const host = this.world.add(slot, other);
      this.note(`${host.name} comes as standby`);
      host.node.startStandby();
    }
  }

  /** A process that ended by itself leaves its slot, as its service manager would see to. */
  private async tidy(): Promise<void> {
    for (const host of [...this.world.hosts.values()]) {
      if (host.states.some((event) => event.to === 'active')) this.countPromotion(host);
      if (host.end === undefined) continue;
      this.note(`${host.name} ended: ${host.end.kind}`);
      if (host.end.kind === 'fenced') this.chaos.fenced += 1;
      else if (diskEnded(host.end)) this.guestGone = true;
      else this.world.violations.push(`${host.name} ended: ${host.end.kind}`);
      this.retire(host);
    }
  }

  private readonly promoted = new Set<SimHost>();

  private countPromotion(host: SimHost): void {
    if (this.promoted.has(host)) return;
    this.promoted.add(host);
    this.chaos.promotions += 1;
    this.guestGone = false;
    this.note(`${host.name} was promoted to generation ${host.generation}`);
  }

  /** Its last words may still be on their way, so the links are not broken. */
  private retire(host: SimHost): void {
    host.alive = false;
    this.world.lan.unplugNode(host.name);
    host.machine.close();
    this.world.hosts.delete(host.slot);
  }

  /** With nothing broken any more, a guest that somebody has must answer. */
  private async mend(): Promise<void> {
    if (this.world.violations.length > 0) return;
    this.healCut();
    this.world.witness.unreachableFor.clear();
    this.mendDisks();
    this.resumeAll();
    const answers = this.chaos.answers;
    // The longest waits between two tries are a second; most schedules are well long before.
    for (let i = 0; i < 60 && this.chaos.answers === answers; i += 1) {
      for (const client of this.clients) client.ask();
      await this.world.advance(50, 5);
      await this.tidy();
      if (this.world.violations.length > 0) return;
      this.addStandby();
    }
    const alive = [...this.world.hosts.values()].map((host) => `${host.name}: ${host.state}`);
    const canAnswer = [...this.world.hosts.values()].some((host) => ACTIVE.has(host.state));
    this.note(`at the end: ${alive.join(', ') || 'nobody'}`);
    await this.compareDisks();
    if (canAnswer && this.chaos.answers === answers)
      this.world.violations.push('the guest fell silent');
    if (!canAnswer && !this.guestGone)
      this.world.violations.push('the guest was lost for no reason');
  }

  /** When nobody writes any more, the copy is the guest's disk, to the last byte. */
  private async compareDisks(): Promise<void> {
    this.quiet = true;
    const find = (state: string): SimHost | undefined =>
      [...this.world.hosts.values()].find((host) => host.state === state);
    for (let i = 0; i < 40 && find('protected') === undefined; i += 1) {
      this.addStandby();
      await this.world.advance(50, 5);
      await this.tidy();
    }
    await this.world.advance(40, 5);
    const [primary, standby] = [find('protected'), find('ready')];
    if (primary === undefined || standby === undefined) return;
    const { view } = primary.disk;
    if (this.world.diskFault(primary) !== undefined || !view.equals(standby.disk.view)) {
      this.world.violations.push(`the disk of ${standby.name} is not the guest's`);
    }
    this.chaos.compared += 1;
  }
}

/** The disk broke on the host that had just lost its peer: two faults, and nobody is left. */
function diskEnded(end: NodeEnd): boolean {
  if (end.kind !== 'machine-error' && end.kind !== 'promotion-failed') return false;
  return end.error.code.startsWith('FT_ERR_DISK_');
}
