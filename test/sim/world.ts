/**
 * A whole world in one process: two hosts with the production roles on simulated machines, linked
 * by the memory transport, a witness, clients, disks that outlive their hosts, and a clock that
 * stands still until it is moved, and then jumps from event to event. After each event the judge
 * looks at everything.
 */
import { assert } from '../../src/common/assert';
import { SimulatedImage } from '../../src/machine/simulated-region-map';
import type { StateEvent } from '../../src/node/running-node';
import type { FrameBufferPool } from '../../src/wire/buffer-pool';
import { ManualClock } from '../support/manual-clock';
import { Judge } from './judge';
import { type WorldOptions as HostOptions, SimHost } from './sim-host';
import { type SeenAnswer, SimLan } from './sim-lan';
import { type Death, SimNet } from './sim-net';
import { SimWitness } from './sim-witness';

export { SimHost } from './sim-host';

/** More happened than in any world that comes to an end. */
export class NeverEnds extends Error {}

export interface WorldOptions extends HostOptions {
  /** So many events are a world that never comes to rest: NeverEnds is thrown. */
  readonly eventsMax?: number;
  /** Nobody may speak once another generation runs: what the lease on the release path promises. */
  readonly judgeLease?: boolean;
  /** For frames of all worlds, so that none is made for each. */
  readonly pool?: FrameBufferPool;
  /** Sums over bodies that are as good as none, and as fast. */
  readonly cheapSums?: boolean;
}

const SETTLE_EVENTS = 16;
/** Some ten times what the longest schedule takes. */
export const EVENTS_MAX = 200_000;
/** Eight regions. */
const DISK_BYTES = 512 * 1024;

export class World {
  readonly clock = new ManualClock();
  readonly lan = new SimLan(this.clock);
  readonly witness = new SimWitness(this.clock);
  readonly hosts = new Map<string, SimHost>();
  readonly net: SimNet;
  readonly judge: Judge;
  readonly answers: SeenAnswer[] = [];
  /** What each slot's storage holds, whoever runs there. */
  readonly images = new Map<string, SimulatedImage>();
  /** Syncs of a disk that began: of what differs, or of all. */
  readonly syncs = { inPart: 0, whole: 0 };
  /** Syncs of memory that began with the image of an earlier session. */
  catchUps = 0;
  /** Buffers for copies of the guest's memory; those of all worlds with as much of it. */
  readonly copies: Buffer[];
  hostsMade = 0;
  /** Events so far. */
  events = 0;
  /** Told of every change of state. */
  onState: (host: SimHost, event: StateEvent) => void = () => undefined;
  private readonly slotsUsed = new Set<string>();

  constructor(readonly options: WorldOptions = {}) {
    const sum = options.cheapSums === true ? lengthSum : undefined;
    this.net = new SimNet(this.clock, (slot) => this.hosts.get(slot), sum);
    this.judge = new Judge(this);
    this.copies = copiesOf(options.memoryBytes ?? 0);
    this.lan.onAnswer = (answer) => this.answered(answer);
  }

  get violations(): string[] {
    return this.judge.violations;
  }

  /** New links get this delay. */
  get delayMs(): number {
    return this.net.delayMs;
  }

  set delayMs(delayMs: number) {
    this.net.delayMs = delayMs;
  }

  host(name: string): SimHost {
    const found = this.hosts.get(name);
    assert(found !== undefined, `there is a host ${name}`);
    return found;
  }

  /** The disk image of a slot; a fresh one is unlike that of any other slot, and half empty. */
  imageOf(slot: string, options: HostOptions = this.options): SimulatedImage {
    let image = this.images.get(slot);
    if (image === undefined) {
      image = new SimulatedImage(options.diskBytes ?? DISK_BYTES);
      image.bytes.fill(`${slot}${this.hostsMade}`, 0, image.bytes.length / 2);
      this.images.set(slot, image);
    }
    return image;
  }

  /** A fresh host in a free slot; the first in each slot is named after it. */
  add(slot: string, dials: string, changes: Partial<WorldOptions> = {}): SimHost {
    this.hostsMade += 1;
    const name = this.slotsUsed.has(slot) ? `${slot}${this.hostsMade}` : slot;
    this.slotsUsed.add(slot);
    return this.addNamed(slot, dials, name, changes);
  }

  /** The same under a name of the caller's: that of a host before, where a node was restarted. */
  addNamed(
    slot: string,
    dials: string,
    name: string,
    changes: Partial<WorldOptions> = {},
  ): SimHost {
    const host = new SimHost(this, slot, dials, name, { ...this.options, ...changes });
    this.hosts.set(slot, host);
    return host;
  }

  /** Two hosts; resolves when the guest is protected. */
  async protectedPair(): Promise<{ a: SimHost; b: SimHost }> {
    const b = this.add('b', 'a');
    b.node.startStandby();
    const a = this.add('a', 'b');
    await this.startPrimary(a);
    await this.until('protected', () => a.state === 'protected');
    return { a, b };
  }

  async startPrimary(host: SimHost, force = false): Promise<void> {
    let failed: unknown;
    let done = false;
    host.node.startPrimary(force).then(
      () => {
        done = true;
      },
      (thrown: unknown) => {
        failed = thrown;
        done = true;
      },
    );
    await this.until('a start', () => done);
    if (failed !== undefined) throw failed;
    if (host.node.primary !== undefined) this.judge.booted(host);
  }

  /** SIGKILL: its connections break at once, its guest and its clock stop. */
  kill(host: SimHost): void {
    this.bury(host);
    this.net.breakAll(host, 'ECONNRESET');
  }

  /** The same, and its peer learns of it only as a real one would. */
  crash(host: SimHost, how: Death): void {
    this.bury(host);
    this.net.die(host, how);
  }

  private bury(host: SimHost): void {
    this.judge.excuse = true;
    host.alive = false;
    host.gate.kill();
    this.lan.unplugNode(host.name);
    if (this.hosts.get(host.slot) !== host) return;
    this.hosts.delete(host.slot);
    // It may die in the midst of an event, and what is left of that must not reach the storage.
    const image = this.images.get(host.slot);
    if (image !== undefined) this.images.set(host.slot, image.handOn());
  }

  /** Nothing passes between the hosts any more, and neither is told. */
  cutLinks(way = 'both'): void {
    this.net.block(way);
  }

  healLinks(): void {
    this.net.unblock();
  }

  /** Moves time on from event to event, letting promises settle after each. */
  async advance(ms: number, _stepMs = 0): Promise<void> {
    const endUs = this.clock.nowUs() + ms * 1000;
    while (this.next(endUs)) if (this.mustSettle()) await settlePromises();
    await settlePromises();
    this.judge.look();
  }

  /** Moves time on until something is true; false when it is not within `limitMs`. */
  async waitFor(isTrue: () => boolean, limitMs: number): Promise<boolean> {
    const endUs = this.clock.nowUs() + limitMs * 1000;
    for (let more = true; !isTrue(); more = this.next(endUs)) {
      if (!more) return false;
      if (this.mustSettle()) await settlePromises();
    }
    return true;
  }

  async until(what: string, isTrue: () => boolean, limitMs = 5000): Promise<void> {
    if (await this.waitFor(isTrue, limitMs)) return;
    const states = [...this.hosts.values()].map((host) => `${host.name}: ${host.state}`);
    throw new Error(`Waited in vain for ${what}; ${states.join(', ')}`);
  }

  /** One event; false when none is left by `endUs`. */
  private next(endUs: number): boolean {
    this.judge.look();
    const more = this.clock.runNext(endUs);
    this.events += 1;
    if (this.events > (this.options.eventsMax ?? EVENTS_MAX)) throw this.neverEnds();
    this.judge.look();
    return more;
  }

  /** Nothing happens in this world any more, and nobody looks at its copies. */
  end(): void {
    for (const host of this.hosts.values()) host.forgetCuts(Number.POSITIVE_INFINITY);
  }

  private neverEnds(): NeverEnds {
    const ms = (this.clock.nowUs() / 1000 - 1000).toFixed(2);
    const hosts = [...this.hosts.values()].map(
      ({ name, state, gate }) => `${name} is ${state} after ${gate.counts.event} events`,
    );
    const where = `${this.events} events by ${ms} ms, and ${this.clock.timers} timers are set`;
    return new NeverEnds(`never ends: ${where}; ${hosts.join(', ') || 'no host is left'}`);
  }

  /**
   * Whether promise callbacks may be waiting: always after an answer of the witness, and now and then
   * for what nobody announced. Asked at each event, it would be most of the work.
   */
  private mustSettle(): boolean {
    if (!this.witness.answered && this.events % SETTLE_EVENTS !== 0) return false;
    this.witness.answered = false;
    return true;
  }

  /** The host's power fails: what its storage had not written yet is damaged. */
  losePower(host: SimHost): void {
    this.kill(host);
    this.damage(host);
  }

  /** What its storage had not written yet is damaged, and it knows not where. */
  damage(host: SimHost): void {
    const image = this.imageOf(host.slot);
    image.losePower();
    for (let at = 0; at < image.bytes.length; at += 70_000) image.bytes[at] = 0x5a;
  }

  diskFault(host: SimHost): number | undefined {
    return this.judge.diskFault(host);
  }

  /** Called at every change of state of any host. */
  stateChanged(host: SimHost, event: StateEvent): void {
    this.judge.stateChanged(host, event);
    this.onState(host, event);
  }

  /** Something was thrown inside an event of `host`. */
  thrown(host: SimHost, thrown: unknown): void {
    if (this.options.catchThrown !== true) throw thrown;
    const what = thrown instanceof Error ? thrown.message : String(thrown);
    this.judge.accuse(`${host.name} stopped: ${what}`);
    if (host.alive) this.crash(host, 'reset');
  }

  private answered(answer: SeenAnswer): void {
    this.answers.push(answer);
    const host = [...this.hosts.values()].find((one) => one.name === answer.node);
    this.judge.answered(answer, host);
  }
}

/** By size of the guest's memory. A run of many schedules would make new ones for each otherwise. */
const allCopies = new Map<number, Buffer[]>();

function copiesOf(memoryBytes: number): Buffer[] {
  const known = allCopies.get(memoryBytes) ?? [];
  allCopies.set(memoryBytes, known);
  return known;
}

/** No bit flips here, so that the length will do. */
function lengthSum(bytes: Uint8Array): number {
  return bytes.length;
}

/** Lets promise callbacks run; the production code chains at most a few. */
export async function settlePromises(): Promise<void> {
  for (let i = 0; i < 8; i += 1) await Promise.resolve();
}
