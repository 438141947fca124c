/**
 * A whole world in one process: two hosts with the production roles on simulated machines, linked
 * by the memory transport, a witness, clients, disks that outlive their hosts, and a clock that
 * stands still until it is moved. The two promises are checked at every answer and every promotion,
 * and at every promotion the whole disk.
 */
import { assert } from '../../src/common/assert';
import { FtError } from '../../src/common/errors';
import type { Logger } from '../../src/common/logger';
import { journalOnto } from '../../src/machine/simulated-beacon';
import type { SimulatedDisk } from '../../src/machine/simulated-disk';
import { type MachineFault, SimulatedMachine } from '../../src/machine/simulated-machine';
import { SimulatedImage } from '../../src/machine/simulated-region-map';
import { type NodeEnd, RunningNode, type StateEvent } from '../../src/node/running-node';
import type { Dial } from '../../src/primary/link';
import { MemoryLink } from '../../src/transport/memory';
import { ManualClock } from '../support/manual-clock';
import { GatedConnection, HostGate } from './host-gate';
import { type SeenAnswer, SimLan } from './sim-lan';
import { SimWitness } from './sim-witness';

export interface WorldOptions {
  readonly memoryBytes?: number;
  readonly inFlightMax?: number;
  readonly intervalUs?: number;
  readonly auditPages?: number;
  readonly dirtyBudgetPages?: number;
  readonly outboxBytesMax?: number;
  readonly suspectAfterMs?: number;
  readonly onGuestEnd?: 'exit' | 'hold';
  readonly onStandbyLoss?: 'continue' | 'pause';
  readonly onWitnessLoss?: 'hold' | 'pause' | 'stop';
  readonly onFenced?: 'rejoin' | 'exit';
  readonly faults?: readonly MachineFault[];
  readonly diskBytes?: number;
  /** How long a write takes to reach the image. */
  readonly diskLatencyMs?: number;
}

/** Eight regions. */
const DISK_BYTES = 512 * 1024;
/** Where the beacon keeps its sequence number in guest memory. */
const SEQUENCE_AT = 16;

export class SimHost {
  /** The machine of the life that this host is in; the first one is there before it is started. */
  machine: SimulatedMachine;
  readonly node: RunningNode;
  readonly states: StateEvent[] = [];
  readonly said: string[] = [];
  end: NodeEnd | undefined;
  refused: FtError | undefined;
  /** Thrown when the machine of a later life is asked for. */
  machineFault: FtError | undefined;
  onState: (event: StateEvent) => void = () => undefined;
  readonly gate = new HostGate();
  alive = true;
  /** Links of this host that may still be open, as dialler or as listener. */
  readonly links: MemoryLink[] = [];

  constructor(
    readonly world: World,
    /** Where it stands: "a" or "b". Several hosts stand in a slot one after another. */
    readonly slot: string,
    /** The slots that this one dials, in turn: "b", or "b c". */
    readonly dials: string,
    /** Its name at the witness, never used twice. */
    readonly name: string,
    options: WorldOptions,
  ) {
    const clock = this.gate.clock(world.clock);
    this.machine = this.newMachine(options, 1);
    const logger: Logger = {
      info: (message) => this.said.push(message),
      warn: (message) => this.said.push(message),
      error: (message) => this.said.push(message),
    };
    let session = 0;
    this.node = new RunningNode(
      {
        pair: 'sim',
        nodeId: name,
        policy: {
          intervalUs: options.intervalUs ?? 1000,
          dirtyBudgetPages: options.dirtyBudgetPages ?? 4096,
          cutOnOutput: true,
          inFlightMax: options.inFlightMax ?? 4,
          auditPages: options.auditPages ?? 2,
        },
        heartbeatIntervalMs: 10,
        suspectAfterMs: options.suspectAfterMs ?? 50,
        onGuestEnd: options.onGuestEnd ?? 'exit',
        onStandbyLoss: options.onStandbyLoss ?? 'continue',
        onWitnessLoss: options.onWitnessLoss ?? 'hold',
        onFenced: options.onFenced ?? 'exit',
      },
      {
        clock,
        logger,
        makeMachine: () => {
          if (this.machineFault !== undefined) throw this.machineFault;
          if (this.node.life > 1) this.machine = this.newMachine(options, this.node.life);
          return this.machine;
        },
        witness: world.witness.seenBy(name, this.gate),
        dials: dials.split(' ').map((to) => world.dialler(this, to)),
        compressor: undefined,
        decompressor: { decompress: (body) => body },
        drawSession: () => `${name}-${session++}`,
      },
      {
        onState: (event) => {
          this.states.push(event);
          world.stateChanged(this, event);
          this.onState(event);
        },
        onEnd: (end) => {
          this.end = end;
        },
        onRefused: (error) => {
          this.refused = error;
        },
      },
    );
  }

  /** As a standby, or as a primary that is told to be one when it has lost its guest. */
  get listens(): boolean {
    const { life, standby, settings } = this.node;
    return life > 0 && (standby !== undefined || settings.onFenced === 'rejoin');
  }

  private newMachine(options: WorldOptions, life: number): SimulatedMachine {
    const { world } = this;
    const machine = new SimulatedMachine({
      memoryBytes: options.memoryBytes ?? 128 * 1024,
      clock: this.gate.clock(world.clock),
      network: world.lan.card(this.name, this.gate),
      bootId: BigInt(world.hostsMade * 1000 + life * 100 + 7),
      outboxBytesMax: options.outboxBytesMax ?? 1024 * 1024,
      faults: options.faults ?? [],
      disks: [
        { image: world.imageOf(this.slot, options), latencyMs: options.diskLatencyMs ?? 0.5 },
      ],
    });
    const beginSync = machine.beginSync.bind(machine);
    machine.beginSync = (syncIds) => {
      const maps = beginSync(syncIds);
      world.syncs[maps[0] === undefined ? 'whole' : 'inPart'] += 1;
      return maps;
    };
    return machine;
  }

  get state(): string {
    return this.node.state.state;
  }

  get disk(): SimulatedDisk {
    const disk = this.machine.disks.all[0];
    assert(disk !== undefined, 'every host has a disk');
    return disk;
  }

  get sequence(): number {
    return Number(this.machine.memory.u64(SEQUENCE_AT));
  }

  /** The generation in which this host's output leaves. */
  get generation(): number {
    return this.node.primary?.generation ?? this.node.standby?.generation ?? 0;
  }
}

export class World {
  readonly clock = new ManualClock();
  readonly lan = new SimLan(this.clock);
  readonly witness = new SimWitness(this.clock);
  readonly hosts = new Map<string, SimHost>();
  readonly violations: string[] = [];
  readonly answers: SeenAnswer[] = [];
  /** What each slot's storage holds, whoever runs there. */
  readonly images = new Map<string, SimulatedImage>();
  /** Syncs of a disk that began: of what differs, or of all. */
  readonly syncs = { inPart: 0, whole: 0 };
  /** The guest's disk as it found it. */
  private bootDisk: Buffer | undefined;
  /** New links get this delay. */
  delayMs = 0.2;
  /** No new link can be dialled. */
  dialsFail = false;
  hostsMade = 0;
  private readonly slotsUsed = new Set<string>();
  sequenceMax = 0;
  private readonly bySequence = new Map<number, SeenAnswer>();
  private readonly senderOf = new Map<number, string>();

  constructor(readonly options: WorldOptions = {}) {
    this.lan.onAnswer = (answer) => this.check(answer);
  }

  host(name: string): SimHost {
    const found = this.hosts.get(name);
    assert(found !== undefined, `there is a host ${name}`);
    return found;
  }

  /** The disk image of a slot; a fresh one is unlike that of any other slot, and half empty. */
  imageOf(slot: string, options: WorldOptions = this.options): SimulatedImage {
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
    if (host.node.primary === undefined) return;
    // A guest that boots has no past; only its disk has.
    this.bootDisk = Buffer.from(host.disk.view);
    this.sequenceMax = 0;
    this.bySequence.clear();
  }

  dialler(from: SimHost, slot: string): Dial {
    return (onOpen, onFail) => {
      const to = this.hosts.get(slot);
      this.clock.after(this.delayMs, () => {
        if (this.dialsFail || to === undefined || !to.alive || !to.listens) {
          onFail(new FtError('FT_ERR_DIAL_REFUSED', 'Nobody listens.'));
          return;
        }
        const link = new MemoryLink(this.clock, {
          delayMs: this.delayMs,
          nameA: from.name,
          nameB: to.name,
        });
        from.links.push(link);
        to.links.push(link);
        from.gate.pass(() => onOpen(new GatedConnection(link.a, from.gate)));
        to.gate.pass(() => to.node.accept(new GatedConnection(link.b, to.gate)));
      });
    };
  }

  /** SIGKILL: its connections break, its guest and its clock stop. */
  kill(host: SimHost): void {
    host.alive = false;
    host.gate.kill();
    this.lan.unplugNode(host.name);
    for (const link of host.links) link.reset();
    if (this.hosts.get(host.slot) === host) this.hosts.delete(host.slot);
  }

  /** Nothing passes between the hosts any more, and neither is told. */
  cutLinks(): void {
    for (const host of this.hosts.values()) for (const link of host.links) link.cut();
    this.dialsFail = true;
  }

  healLinks(): void {
    this.dialsFail = false;
    for (const host of this.hosts.values()) for (const link of host.links) link.heal();
  }

  /** Moves time on, letting promises settle in between. */
  async advance(ms: number, stepMs = 0.5): Promise<void> {
    for (let done = 0; done < ms; done += stepMs) {
      this.clock.advance(Math.min(stepMs, ms - done));
      await settlePromises();
    }
  }

  async until(what: string, isTrue: () => boolean, limitMs = 5000): Promise<void> {
    for (let waited = 0; !isTrue(); waited += 0.5) {
      if (waited > limitMs) {
        const states = [...this.hosts.values()].map((host) => `${host.name}: ${host.state}`);
        throw new Error(`Waited in vain for ${what}; ${states.join(', ')}`);
      }
      this.clock.advance(0.5);
      await settlePromises();
    }
  }

  /** The host's power fails: what its storage had not written yet is damaged. */
  losePower(host: SimHost): void {
    this.kill(host);
    const image = this.imageOf(host.slot);
    image.losePower();
    for (let at = 0; at < image.bytes.length; at += 70_000) image.bytes[at] = 0x5a;
  }

  /** Where the disk of `host` is not what its guest holds it for; undefined when it is. */
  diskFault(host: SimHost): number | undefined {
    if (this.bootDisk === undefined) return undefined;
    const expected = Buffer.from(this.bootDisk);
    journalOnto(expected, host.machine.memory);
    const { view } = host.disk;
    if (expected.equals(view)) return undefined;
    return expected.findIndex((byte, at) => byte !== view[at]);
  }

  /** Called at every change of state of any host. */
  stateChanged(host: SimHost, event: StateEvent): void {
    if (event.to !== 'active') return;
    const fault = this.diskFault(host);
    if (fault !== undefined) {
      this.violations.push(`the disk of ${host.name} is not the guest's, from byte ${fault} on`);
    }
    // Promise 1: nothing that any client has seen is missing in the state that goes on.
    if (host.sequence < this.sequenceMax) {
      this.violations.push(
        `${host.name} goes on from request ${host.sequence}, clients saw ${this.sequenceMax}`,
      );
    }
  }

  private check(answer: SeenAnswer): void {
    const host = [...this.hosts.values()].find((one) => one.name === answer.node);
    const generation = host?.generation ?? 0;
    this.answers.push(answer);
    this.sequenceMax = Math.max(this.sequenceMax, answer.sequence);
    // Promise 2: one host speaks in each generation, and it owns that generation.
    const sender = this.senderOf.get(generation) ?? answer.node;
    this.senderOf.set(generation, sender);
    const owner = this.witness.owners[generation - 1];
    if (sender !== answer.node || owner !== answer.node) {
      this.violations.push(
        `${answer.node} spoke in generation ${generation} of ${owner} (${sender})`,
      );
    }
    const before = this.bySequence.get(answer.sequence);
    if (before !== undefined && before.hash !== answer.hash) {
      this.violations.push(`request ${answer.sequence} was answered in two ways`);
    }
    const previous = this.bySequence.get(answer.sequence - 1);
    if (previous !== undefined && previous.hash !== answer.previousHash) {
      this.violations.push(`the chain breaks at request ${answer.sequence}`);
    }
    this.bySequence.set(answer.sequence, answer);
  }
}

/** Lets promise callbacks run; the production code chains at most a few. */
export async function settlePromises(): Promise<void> {
  for (let i = 0; i < 8; i += 1) await Promise.resolve();
}
