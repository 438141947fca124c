/**
 * What must hold in the simulated world, looked at after every event:
 *
 *   1  an answer that leaves a host is known to every standby that could still go on without that
 *      host: its epoch is held there, or the witness has decided for this host
 *   2  each generation has one owner, whose output alone is open, and only in the newest generation
 *   3  a standby's memory is the primary's at the epoch that it holds, to the last byte
 *   4  whoever goes on knows every answer that a client has seen, has the same disk, and its chain of
 *      requests is the clients'
 *   5  in a generation whose owner said that it cannot run the guest, nobody ever runs it
 *   6  the guest is lost only when a fault took the last host that could go on with it
 *
 * The judge knows the truth from the machines (a copy of memory at each cut) and from the witness,
 * never from what the roles believe.
 */
import { journalOnto } from '../../src/machine/simulated-beacon';
import type { NodeEnd, StateEvent } from '../../src/node/running-node';
import type { SimHost } from './sim-host';
import type { SeenAnswer } from './sim-lan';
import type { World } from './world';

/** A standby in these states may come to run the guest. */
export const HOPEFUL: ReadonlySet<string> = new Set(['ready', 'suspecting', 'promoting']);
/** A primary in these states runs it. */
export const ACTIVE: ReadonlySet<string> = new Set([
  ...['solo', 'syncing', 'protected', 'switching', 'suspended'],
]);

export class Judge {
  readonly violations: string[] = [];
  /** The guest's disk as it found it. */
  private bootDisk: Buffer | undefined;
  sequenceMax = 0;
  private readonly bySequence = new Map<number, SeenAnswer>();
  private readonly senderOf = new Map<number, string>();
  /** The newest generation in which a guest was promoted. */
  private runsSince = 0;
  /** Somebody could go on with the guest when the judge looked last. */
  private hope = false;
  /** The newest generation whose owner could not run the guest that was handed to it. */
  private givenUp = 0;
  /** A fault took the guest: nobody is to blame for silence. */
  guestGone = false;
  /** Set by whoever takes a host or its disk away. */
  excuse = false;

  constructor(private readonly world: World) {}

  accuse(what: string): void {
    this.violations.push(what);
  }

  /** A guest that boots has no past; only its disk has. */
  booted(host: SimHost): void {
    this.bootDisk = Buffer.from(host.disk.view);
    this.sequenceMax = 0;
    this.bySequence.clear();
    this.runsSince = this.world.witness.owners.length;
    this.hope = true;
    this.guestGone = false;
  }

  /** After every event of the world. */
  look(): void {
    let hope = false;
    for (const host of this.world.hosts.values()) {
      const { state } = host;
      if (HOPEFUL.has(state)) {
        this.compareMemory(host);
        if (state === 'ready') this.checkClaims(host);
        if (this.mayWin(host)) hope = true;
      } else if (ACTIVE.has(state)) {
        if (state === 'solo') this.checkOwner(host);
        if (this.mayWin(host)) hope = true;
      }
    }
    if (this.hope && !hope) this.lost();
    this.hope = hope;
    this.excuse = false;
  }

  /** Called at every change of state of any host. */
  stateChanged(host: SimHost, event: StateEvent): void {
    // What a killed host still does in the turn in which it died reaches nobody.
    if (event.to !== 'active' || !host.alive) return;
    this.guestGone = false;
    this.runsSince = Math.max(this.runsSince, host.generation);
    const owner = this.world.witness.owners[host.generation - 1];
    if (owner !== host.name || host.generation === this.givenUp) {
      this.accuse(`${host.name} goes on in generation ${host.generation} of ${owner}`);
    }
    const fault = this.diskFault(host);
    if (fault !== undefined) {
      this.accuse(`the disk of ${host.name} is not the guest's, from byte ${fault} on`);
    }
    if (host.sequence < this.sequenceMax) {
      const seen = this.sequenceMax;
      this.accuse(`${host.name} goes on from request ${host.sequence}, clients saw ${seen}`);
    }
    const seen = this.bySequence.get(host.sequence);
    if (seen !== undefined && seen.hash !== host.hash) {
      this.accuse(`${host.name} goes on from another request ${host.sequence} than clients saw`);
    }
    const copy = host.heldCopy;
    if (copy !== undefined && !copy.memory.equals(host.machine.memory.bytes)) {
      this.accuse(`${host.name} goes on with a memory that the guest never had`);
    }
  }

  /** A guest whose disk broke ends with it; one that ended itself has said all. */
  ended(host: SimHost, end: NodeEnd): void {
    if (end.kind === 'promotion-failed') this.promotionFailed(host);
    if (end.kind === 'guest-ended') {
      this.excuse = true;
      const unsaid = host.node.primary === undefined ? 0 : host.machine.stats().outboxFrames;
      if (unsaid > 0) this.accuse(`the guest’s last words never left ${host.name}`);
    } else if (end.kind === 'witness-lost') this.excuse = true;
    else if (end.kind !== 'fenced' && end.kind !== 'drained')
      this.excuse = end.error.code.startsWith('FT_ERR_DISK_');
  }

  /** Whoever handed the guest over may go on with it, in the next generation. */
  private promotionFailed(host: SimHost): void {
    if (host.state !== 'stopped') return;
    this.givenUp = host.generation;
    if (this.world.lan.isUp(host.name))
      this.accuse(`the guest runs on ${host.name}, who gave it up`);
  }

  answered(answer: SeenAnswer, host: SimHost | undefined): void {
    const generation = host?.generation ?? 0;
    this.sequenceMax = Math.max(this.sequenceMax, answer.sequence);
    const sender = this.senderOf.get(generation) ?? answer.node;
    this.senderOf.set(generation, sender);
    const owner = this.world.witness.owners[generation - 1];
    if (sender !== answer.node || owner !== answer.node || generation === this.givenUp) {
      this.accuse(`${answer.node} spoke in generation ${generation} of ${owner} (${sender})`);
    }
    if (this.world.options.judgeLease === true && generation < this.runsSince) {
      this.accuse(`${answer.node} spoke when generation ${this.runsSince} was running elsewhere`);
    }
    this.checkHeld(answer, host);
    this.checkChain(answer);
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

  private checkChain(answer: SeenAnswer): void {
    const before = this.bySequence.get(answer.sequence);
    if (before !== undefined && before.hash !== answer.hash) {
      this.accuse(`request ${answer.sequence} was answered in two ways`);
    }
    const previous = this.bySequence.get(answer.sequence - 1);
    if (previous !== undefined && previous.hash !== answer.previousHash) {
      this.accuse(`the chain breaks at request ${answer.sequence}`);
    }
    this.bySequence.set(answer.sequence, answer);
  }

  /** Promise 1, at the moment when it would be broken and not when somebody has to go on. */
  private checkHeld(answer: SeenAnswer, sender: SimHost | undefined): void {
    for (const host of this.world.hosts.values()) {
      if (host === sender || !HOPEFUL.has(host.state) || !this.mayWin(host)) continue;
      const copy = host.heldCopy;
      if (copy === undefined || copy.sequence >= answer.sequence) continue;
      this.accuse(
        `answer ${answer.sequence} left ${answer.node}, and ${host.name} would go on from ` +
          `${copy.sequence}`,
      );
    }
  }

  /** The witness has not decided against it yet. */
  private mayWin(host: SimHost): boolean {
    const { owners } = this.world.witness;
    const after = owners.length - host.generation;
    if (after === 1 && owners.length === this.givenUp) {
      // Its peer's word is under way, or its claim is.
      return host.state === 'switching' || host.state === 'suspended';
    }
    return after === 0 || owners.at(-1) === host.name;
  }

  /** The output of `host` is open, or it is at the end of all faults: the newest reign is its own. */
  checkOwner(host: SimHost): void {
    const { owners } = this.world.witness;
    if (owners.length === host.generation && owners.at(-1) === host.name) return;
    this.accuse(
      `${host.name} is ${host.state} in generation ${host.generation}, and ` +
        `generation ${owners.length} belongs to ${owners.at(-1)}`,
    );
  }

  /** A claim whose outcome was unknown is found out before anybody goes back to being a standby. */
  private checkClaims(host: SimHost): void {
    const { owners } = this.world.witness;
    if (owners.length <= host.generation || owners.at(-1) !== host.name) return;
    this.accuse(`${host.name} owns generation ${owners.length}, and waits in ${host.generation}`);
  }

  private compareMemory(host: SimHost): void {
    const applied = host.node.standby?.stats.epochApplied ?? 0;
    if (applied === host.lookedAt) return;
    host.lookedAt = applied;
    const copy = host.originCopy(applied);
    if (copy === undefined || copy.memory.equals(host.machine.memory.bytes)) return;
    this.accuse(`the memory of ${host.name} is not the guest's at epoch ${applied}`);
  }

  private lost(): void {
    const owner = this.world.witness.owners.at(-1) ?? '';
    const hosts = [...this.world.hosts.values()];
    const ownerLives = hosts.some((host) => host.name === owner && host.end === undefined);
    // A claim that was under way may be won by a host that is dead, or was told to stop.
    const diskFails = [...this.world.images.values()].some((image) => image.failing);
    if (this.excuse || diskFails || !ownerLives) this.guestGone = true;
    else this.accuse('the guest was lost for no reason');
  }
}
