/**
 * One simulated host: the production node on a simulated machine, behind a gate, with what the judge
 * knows of it: a copy of the guest's memory at each cut that is not committed yet, and from which
 * replication of which host its own image comes.
 */
import { assert } from '../../src/common/assert';
import type { Facts, FtError } from '../../src/common/errors';
import type { Logger } from '../../src/common/logger';
import type { SimulatedDisk } from '../../src/machine/simulated-disk';
import { type MachineFault, SimulatedMachine } from '../../src/machine/simulated-machine';
import { type NodeEnd, RunningNode, type StateEvent } from '../../src/node/running-node';
import type { PrimaryRole } from '../../src/primary/primary-role';
import type { StandbyRole } from '../../src/standby/standby-role';
import type { MemoryLink } from '../../src/transport/memory';
import type { Witness } from '../../src/witness/witness';
import { HostGate } from './host-gate';
import type { World } from './world';

export interface WorldOptions {
  readonly memoryBytes?: number;
  readonly inFlightMax?: number;
  readonly intervalUs?: number;
  readonly auditPages?: number;
  readonly dirtyBudgetPages?: number;
  readonly outboxBytesMax?: number;
  readonly heartbeatIntervalMs?: number;
  readonly suspectAfterMs?: number;
  readonly onGuestEnd?: 'exit' | 'hold';
  readonly onStandbyLoss?: 'continue' | 'pause';
  readonly onWitnessLoss?: 'hold' | 'pause' | 'stop';
  readonly onFenced?: 'rejoin' | 'exit';
  readonly faults?: readonly MachineFault[];
  readonly diskBytes?: number;
  /** How long a write takes to reach the image. */
  readonly diskLatencyMs?: number;
  /** Changes a host's production code before it starts: a planted bug. */
  readonly mutate?: Mutation | undefined;
  /** What is thrown inside a host is a violation, and does not end the test. */
  readonly catchThrown?: boolean;
}

/** A planted bug: changes production objects as they are made. */
export interface Mutation {
  machine?(machine: SimulatedMachine, host: SimHost): void;
  primary?(role: PrimaryRole, host: SimHost): void;
  standby?(role: StandbyRole, host: SimHost): void;
  witness?(witness: Witness, host: SimHost): Witness;
}

/** The guest at one cut. */
export interface CutCopy {
  readonly sequence: number;
  readonly memory: Buffer;
}

/** Where a standby's image comes from. */
export interface ImageOrigin {
  readonly from: SimHost;
  /** Which of that host's replications, counted from 1. */
  readonly round: number;
}

/** What planting needs of a node. */
interface NodeInside {
  makePrimary(): PrimaryRole;
  makeStandby(generation: number): void;
  standby: StandbyRole | undefined;
}

/** Where the beacon keeps its sequence number, and the hash of all requests, in guest memory. */
const SEQUENCE_AT = 16;
const HASH_AT = 24;

export class SimHost {
  /** The machine of the life that this host is in; the first one is there before it is started. */
  machine: SimulatedMachine;
  readonly node: RunningNode;
  readonly states: StateEvent[] = [];
  readonly said: string[] = [];
  /** The facts of each line that was said. */
  readonly logged: Facts[] = [];
  end: NodeEnd | undefined;
  refused: FtError | undefined;
  /** Thrown when the machine of a later life is asked for. */
  machineFault: FtError | undefined;
  onState: (event: StateEvent) => void = () => undefined;
  readonly gate: HostGate;
  alive = true;
  /** Whose frame is being heard. */
  hearing: SimHost | undefined;
  origin: ImageOrigin | undefined;
  /** Replications of this host's guest that began. */
  round = 0;
  /** By epoch, of this round. */
  readonly cuts = new Map<number, CutCopy>();
  /** The newest epoch in whose image the judge has looked. */
  lookedAt = 0;

  constructor(
    readonly world: World,
    /** Where it stands: "a" or "b". Several hosts stand in a slot one after another. */
    readonly slot: string,
    /** The slots that this one dials, in turn: "b", or "b c". */
    readonly dials: string,
    /** Its name at the witness, never used twice. */
    readonly name: string,
    readonly options: WorldOptions,
  ) {
    this.gate = new HostGate(world.clock);
    this.gate.onThrow = (thrown) => world.thrown(this, thrown);
    this.machine = this.makeMachine(options, 1);
    this.node = this.makeNode(options);
    this.plant();
  }

  /** Roles are made when they are needed, so planting means to be there when it happens. */
  private plant(): void {
    const { mutate } = this.options;
    if (mutate === undefined) return;
    const node = this.node as unknown as NodeInside;
    const makePrimary = node.makePrimary.bind(node);
    node.makePrimary = () => {
      const role = makePrimary();
      mutate.primary?.(role, this);
      return role;
    };
    const makeStandby = node.makeStandby.bind(node);
    node.makeStandby = (generation) => {
      makeStandby(generation);
      if (node.standby !== undefined) mutate.standby?.(node.standby, this);
    };
  }

  private makeMachine(options: WorldOptions, life: number): SimulatedMachine {
    const { world, name, slot } = this;
    const machine = new SimulatedMachine({
      memoryBytes: options.memoryBytes ?? 128 * 1024,
      clock: this.gate.clock(),
      network: world.lan.card(name, this.gate),
      bootId: BigInt(world.hostsMade * 1000 + life * 100 + 7),
      outboxBytesMax: options.outboxBytesMax ?? 1024 * 1024,
      faults: options.faults ?? [],
      disks: [{ image: world.imageOf(slot, options), latencyMs: options.diskLatencyMs ?? 0.5 }],
      leaseNowUs: () => world.clock.nowUs(),
      onCutMade: (epoch) => this.cutMade(epoch),
    });
    const begun = (maps: readonly (Uint8Array | undefined)[]): typeof maps => {
      world.syncs[maps[0] === undefined ? 'whole' : 'inPart'] += 1;
      const from = this.hearing;
      this.origin = from === undefined ? undefined : { from, round: from.round + 1 };
      this.lookedAt = 0;
      return maps;
    };
    const beginSync = machine.beginSync.bind(machine);
    machine.beginSync = (syncIds) => begun(beginSync(syncIds));
    const beginCatchUp = machine.beginCatchUp.bind(machine);
    machine.beginCatchUp = (syncIds) => {
      world.catchUps += 1;
      return begun(beginCatchUp(syncIds));
    };
    const beginReplication = machine.beginReplication.bind(machine);
    machine.beginReplication = (...all) => {
      this.round += 1;
      this.forgetCuts(Number.POSITIVE_INFINITY);
      beginReplication(...all);
    };
    options.mutate?.machine?.(machine, this);
    return machine;
  }

  private makeNode(options: WorldOptions): RunningNode {
    const { world, name } = this;
    const say = (message: string, facts: Facts = {}): void => {
      this.said.push(message);
      this.logged.push(facts);
    };
    const logger: Logger = { info: say, warn: say, error: say };
    let session = 0;
    const witness = world.witness.seenBy(name, this.gate);
    return new RunningNode(
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
        heartbeatIntervalMs: options.heartbeatIntervalMs ?? 10,
        suspectAfterMs: options.suspectAfterMs ?? 50,
        onGuestEnd: options.onGuestEnd ?? 'exit',
        onStandbyLoss: options.onStandbyLoss ?? 'continue',
        onWitnessLoss: options.onWitnessLoss ?? 'hold',
        onFenced: options.onFenced ?? 'exit',
      },
      {
        clock: this.gate.clock(),
        logger,
        makeMachine: () => {
          if (this.machineFault !== undefined) throw this.machineFault;
          if (this.node.life > 1) this.machine = this.makeMachine(options, this.node.life);
          return this.machine;
        },
        witness: options.mutate?.witness?.(witness, this) ?? witness,
        dials: this.dials.split(' ').map((to) => world.net.dialler(this, to)),
        compressor: undefined,
        ...(world.options.pool === undefined ? {} : { pool: world.options.pool }),
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
          world.judge.ended(this, end);
        },
        onRefused: (error) => {
          this.refused = error;
        },
      },
    );
  }

  get state(): string {
    const { primary, standby } = this.node;
    return primary?.state ?? standby?.state ?? 'joining';
  }

  /** Links of this host, as dialler or as listener, in the order in which they were made. */
  get links(): MemoryLink[] {
    return this.world.net.linksOf(this);
  }

  /** As a standby, or as a primary that is told to be one when it has lost its guest. */
  get listens(): boolean {
    const { life, standby, settings } = this.node;
    return this.alive && life > 0 && (standby !== undefined || settings.onFenced === 'rejoin');
  }

  get disk(): SimulatedDisk {
    const disk = this.machine.disks.all[0];
    assert(disk !== undefined, 'every host has a disk');
    return disk;
  }

  get sequence(): number {
    return Number(this.machine.memory.u64(SEQUENCE_AT));
  }

  get hash(): bigint {
    return this.machine.memory.u64(HASH_AT);
  }

  /** The generation in which this host's output leaves. */
  get generation(): number {
    return this.node.primary?.generation ?? this.node.standby?.generation ?? 0;
  }

  /** What the guest of `origin` was at the epoch that this standby would go on from. */
  get heldCopy(): CutCopy | undefined {
    return this.originCopy(this.node.standby?.stats.epochHeld ?? 0);
  }

  /** What the guest was at `epoch` where this standby's image comes from. */
  originCopy(epoch: number): CutCopy | undefined {
    const { origin } = this;
    if (origin === undefined || origin.round !== origin.from.round) return undefined;
    return origin.from.cuts.get(epoch);
  }

  private cutMade(epoch: number): void {
    this.forgetCuts(this.node.primary?.stats.epochCommitted ?? 0);
    const { bytes } = this.machine.memory;
    const used = this.world.copies.pop();
    const fits = used !== undefined && used.length === bytes.length;
    const memory = fits ? used : Buffer.allocUnsafeSlow(bytes.length);
    bytes.copy(memory);
    this.cuts.set(epoch, { sequence: this.sequence, memory });
  }

  /** A standby holds at least what is committed, so older copies are of no use. */
  forgetCuts(below: number): void {
    for (const [epoch, copy] of this.cuts) {
      if (epoch >= below) return;
      this.cuts.delete(epoch);
      this.world.copies.push(copy.memory);
    }
  }
}
