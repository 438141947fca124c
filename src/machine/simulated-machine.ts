/**
 * The simulated machine: a Machine without KVM. Its memory, dirty tracking, slots, cuts, base epoch
 * and outbox are real; only its guest is TypeScript (simulated-beacon.ts). It runs the demo where
 * /dev/kvm is missing, and the simulator's schedules.
 *
 * The guest runs only inside packet and tick callbacks, so it stands still during a cut by itself.
 * A request that comes while the guest may not run waits in a bounded queue, as in a card's ring.
 */
import { assert } from '../common/assert';
import type { Timer } from '../common/clock';
import { FtError } from '../common/errors';
import { pageMapFault } from '../common/page-map';
import {
  type ApplyResult,
  type Cut,
  type CutPolicy,
  type EncodedChunk,
  emptyCut,
  type GuestClock,
  type GuestEnd,
  type Machine,
  type MachineDescription,
  type MachineHandlers,
  type MachineStats,
} from './machine';
import { BeaconTicks, SimulatedBeacon } from './simulated-beacon';
import { SimulatedChanges } from './simulated-changes';
import { SimulatedDisks } from './simulated-disks';
import { applyBody, STATE_BYTES, STATE_VERSION, verifyBody } from './simulated-epoch';
import { SimulatedMemory } from './simulated-memory';
import {
  checkedMemoryBytes,
  type MachineFault,
  SIMULATED_MEMORY_BYTES_MIN,
  type SimulatedMachineOptions,
} from './simulated-options';
import { SimulatedOutbox } from './simulated-outbox';
import { SimulatedScan } from './simulated-scan';
import { SimulatedSlots } from './simulated-slots';

export { type MachineFault, SIMULATED_MEMORY_BYTES_MIN, type SimulatedMachineOptions };

const INGRESS_PACKETS_MAX = 256;
const HIDE_EVERY_CUTS = 16;

type Phase = 'blank' | 'running' | 'stopped';

export class SimulatedMachine implements Machine {
  readonly description: MachineDescription;
  readonly memory: SimulatedMemory;
  readonly disks: SimulatedDisks;
  private readonly beacon: SimulatedBeacon;
  private readonly outbox: SimulatedOutbox;
  private readonly harvested: Uint32Array;
  private readonly changes: SimulatedChanges;
  private handlers: MachineHandlers | undefined;
  private phase: Phase = 'blank';
  private readonly ticks: BeaconTicks;
  private cutTimer: Timer | undefined;
  private bootedAtUs = 0;
  private readonly ingress: { payload: Buffer; from: string }[] = [];

  private policy: CutPolicy | undefined;
  private lastCut = 0;
  private committed = 0;
  private cutDue = false;
  private holdAtNextCut = false;
  /** 0 until it is cut. */
  private baseEpoch = 0;
  private cuts = 0;
  private end: GuestEnd | undefined;
  private finalCutMade = false;
  private readonly slots = new SimulatedSlots();
  private halted = false;
  private halts = 0;
  private readonly scan: SimulatedScan;
  private auditAt = 0;
  private healed = 0;
  private readonly restored = { bytes: Buffer.alloc(STATE_BYTES), present: false };
  private readonly cutFacts = emptyCut();

  constructor(private readonly options: SimulatedMachineOptions) {
    const memoryBytes = checkedMemoryBytes(options);
    this.memory = new SimulatedMemory(memoryBytes);
    this.harvested = new Uint32Array(this.memory.pages);
    this.changes = new SimulatedChanges(this.memory);
    this.scan = new SimulatedScan(this.memory, this.changes.pages);
    this.disks = new SimulatedDisks(
      options.clock,
      options.disks ?? [],
      {
        onDisksSynced: () => this.handlers?.onDisksSynced(),
        onDiskFailed: (error) => this.handlers?.onDiskFailed(error),
        onDiskSyncFailed: (error) => this.handlers?.onDiskSyncFailed?.(error),
      },
      this.hasFault('forget-disk-marks'),
    );
    const guestDisk =
      this.disks.descriptions[0]?.readOnly === false ? this.disks.all[0] : undefined;
    this.beacon = new SimulatedBeacon(this.memory, guestDisk);
    this.ticks = new BeaconTicks(options.clock, () => this.tick());
    const leaks = this.hasFault('release-early');
    const sink = (payload: Buffer, to: string): void => options.network.send(payload, to);
    const nowUs = (): number => this.leaseNowUs();
    this.outbox = new SimulatedOutbox(sink, options.outboxBytesMax, leaks, nowUs);
    this.description = {
      kind: 'simulated',
      memoryBytes,
      vcpus: 1,
      cpuFeatures: {},
      devices: ['simulated-net'],
      disks: this.disks.descriptions,
      stateVersion: STATE_VERSION,
    };
  }

  setHandlers(handlers: MachineHandlers): void {
    this.handlers = handlers;
  }

  boot(): void {
    assert(this.phase === 'blank', 'a machine boots once');
    this.beacon.boot(this.options.bootId);
    this.run(0);
  }

  beginReplication(
    policy: CutPolicy,
    firstEpoch: number,
    peerDiskMaps: readonly (Uint8Array | undefined)[],
    catchUp = false,
  ): void {
    assert(this.phase === 'running', 'only a running machine is replicated');
    assert(this.policy === undefined, 'replication is begun once');
    this.policy = policy;
    this.lastCut = firstEpoch - 1;
    this.committed = firstEpoch - 1;
    this.scan.rewind();
    this.baseEpoch = 0;
    this.holdAtNextCut = false;
    this.finalCutMade = false;
    this.outbox.setLease(this.hasFault('ignore-lease') ? 0 : policy.leaseUs);
    this.changes.endNoting(catchUp);
    this.changes.begin(firstEpoch);
    this.memory.startLogging();
    this.disks.beginReplication(peerDiskMaps);
    this.scheduleCut();
  }

  setCutInterval(intervalUs: number): void {
    if (this.policy !== undefined) this.policy = { ...this.policy, intervalUs };
  }

  endReplication(noteChanges = false): void {
    const noting = noteChanges && this.policy !== undefined;
    this.policy = undefined;
    this.cutTimer?.cancel();
    this.cutTimer = undefined;
    this.cutDue = false;
    this.holdAtNextCut = false;
    this.slots.clear();
    if (noting) {
      this.changes.startNoting();
    } else {
      this.changes.endNoting(false);
      this.memory.stopLogging();
    }
    this.disks.endReplication();
    this.drainIngress();
  }

  notedSince(): number | undefined {
    return this.changes.notedSince;
  }

  catchUpMap(into: Buffer): number {
    return this.changes.write(into);
  }

  scanNext(into: Buffer): EncodedChunk {
    return this.scan.next(into);
  }

  scanProgress(): number {
    return this.scan.progress;
  }

  disksSynced(): boolean {
    return this.disks.synced;
  }

  diskSyncProgress(): number {
    return this.disks.syncProgress;
  }

  holdOutput(): void {
    assert(this.policy !== undefined, 'output is held for a replica');
    this.holdAtNextCut = true;
  }

  nextCut(into: Buffer): Cut | undefined {
    const slot = this.slots.next();
    if (slot === undefined) return undefined;
    const facts = slot.describe(this.cutFacts, this.options.clock.nowUs());
    facts.halted = this.halted && slot.halt === this.halts;
    facts.chunk = this.slots.encode(into);
    return facts;
  }

  encodeCut(into: Buffer): EncodedChunk {
    return this.slots.encode(into);
  }

  commit(epoch: number): void {
    assert(epoch <= this.lastCut, 'only an epoch that was cut is committed');
    this.committed = Math.max(this.committed, epoch);
    if (this.baseEpoch !== 0 && epoch >= this.baseEpoch) this.outbox.release(epoch);
    this.disks.acked(epoch);
    this.changes.acked(epoch);
    if (this.policy !== undefined && this.cutIsWanted()) this.tryCut();
    this.drainIngress();
  }

  leaseNowUs(): number {
    return this.options.leaseNowUs?.() ?? this.options.clock.nowUs();
  }

  extendLease(sentAtUs: number): void {
    this.outbox.extendLease(sentAtUs);
    this.drainIngress();
  }

  heal(gfns: readonly number[]): void {
    for (const gfn of gfns) {
      if (gfn >= this.memory.pages) continue;
      this.memory.markPage(gfn);
      this.healed += 1;
    }
  }

  openOutput(): void {
    this.outbox.open();
    this.drainIngress();
  }

  fence(): void {
    this.stopGuest();
    this.outbox.drop();
    this.endReplication();
  }

  outputWaits(): boolean {
    return this.outbox.waitsForLease;
  }

  haltGuest(): void {
    if (this.halted) return;
    this.halted = true;
    this.halts += 1;
    if (this.policy === undefined) return;
    this.cutDue = true;
    // A turn later, as on KVM, where the guest's own threads make the cut.
    this.options.clock.soon(() => this.tryCut());
  }

  resumeGuest(): void {
    this.halted = false;
    this.drainIngress();
  }

  beginSync(peerSyncIds: readonly string[]): readonly (Uint8Array | undefined)[] {
    assert(this.phase === 'blank', 'only a standby is synced');
    this.memory.clear();
    this.restored.present = false;
    return this.disks.beginSync(peerSyncIds);
  }

  beginCatchUp(peerSyncIds: readonly string[]): readonly (Uint8Array | undefined)[] {
    assert(this.phase === 'blank', 'only a standby is synced');
    this.restored.present = false;
    return this.disks.beginSync(peerSyncIds);
  }

  clearPages(map: Uint8Array): void {
    const fault = pageMapFault(map, this.options.memoryBytes);
    if (fault !== undefined) throw fault;
    for (let gfn = 0; gfn < this.memory.pages; gfn += 1) {
      if (((map[gfn >> 3] ?? 0) >> (gfn & 7)) & 1) this.memory.page(gfn).fill(0);
    }
  }

  verify(body: Uint8Array): FtError | undefined {
    const error = verifyBody(body, this.memory.pages, this.disks.descriptions);
    if (error === undefined) this.disks.promise(body);
    return error;
  }

  apply(body: Uint8Array): ApplyResult {
    assert(this.phase === 'blank', 'epochs are applied to a standby');
    const applied = applyBody(body, this.memory, this.restored);
    this.disks.apply(body);
    return { ...applied, diskBacklogBytes: this.diskBacklogBytes() };
  }

  diskBacklogBytes(): number {
    return this.disks.backlogBytes;
  }

  promote(): GuestClock {
    assert(this.phase === 'blank', 'only a standby is promoted');
    if (!this.restored.present) {
      throw new FtError('FT_ERR_MACHINE_STATE', 'There is no state to resume the guest from.');
    }
    this.disks.promote();
    const uptimeUs = Number(this.restored.bytes.readBigUInt64LE(8) / 1000n);
    this.run(uptimeUs);
    return { cutUs: uptimeUs, resumedUs: uptimeUs };
  }

  diskSyncIds(): readonly string[] {
    return this.disks.syncIds;
  }

  inStep(session: string): void {
    this.disks.inStep(session);
  }

  stats(): MachineStats {
    return {
      outboxFrames: this.outbox.frames,
      outboxBytes: this.outbox.bytesHeld,
      outboxLimitBytes: this.options.outboxBytesMax,
      framesReleased: this.outbox.framesReleased,
      framesDropped: this.outbox.framesDropped,
      leaseExpired: this.outbox.leaseExpired,
      exits: {},
      auditPagesHealed: this.healed,
      floorEpochs: 0,
      floorPages: 0,
      disks: this.disks.stats(),
    };
  }

  close(): undefined {
    this.stopGuest();
    this.endReplication();
    this.disks.close();
  }

  // ── the guest ──────────────────────────────────────────────────────────────────────────────────

  private run(uptimeUs: number): void {
    this.phase = 'running';
    this.bootedAtUs = this.options.clock.nowUs() - uptimeUs;
    this.options.network.open(
      (payload, from) => this.receive(payload, from),
      (error) => this.handlers?.onStopped(error),
    );
    this.ticks.follow(this.beacon.loaded);
  }

  private stopGuest(): void {
    if (this.phase === 'running') this.options.network.close();
    this.phase = 'stopped';
    this.ticks.follow(false);
    this.ingress.length = 0;
  }

  private receive(payload: Buffer, from: string): void {
    if (this.phase !== 'running' || this.end !== undefined) return;
    if (this.guestMustWait()) {
      if (this.ingress.length < INGRESS_PACKETS_MAX) this.ingress.push({ payload, from });
      return;
    }
    this.serve(payload, from);
  }

  private serve(payload: Buffer, from: string): void {
    const uptimeUs = this.options.clock.nowUs() - this.bootedAtUs;
    const answer = this.beacon.serve(payload, BigInt(Math.floor(uptimeUs)) * 1000n);
    if (answer === undefined) return;
    this.ticks.follow(this.beacon.loaded);
    this.outbox.append(answer, from);
    if (this.beacon.ended !== undefined) this.endGuest(this.beacon.ended);
    if (this.outbox.waitingFrames === 1 && this.policy?.cutOnOutput === true) {
      // A turn later, so that requests that came together share one epoch.
      this.options.clock.soon(() => this.cutForOutput());
    }
  }

  /** As on KVM: nothing runs any more; with a standby the last cut is made as soon as it may be. */
  private endGuest(end: GuestEnd): void {
    this.end = end;
    this.ingress.length = 0;
    this.options.clock.soon(() => this.handlers?.onGuestEnd(end));
    if (this.policy === undefined) return;
    this.cutDue = true;
    this.tryCut();
  }

  private tick(): void {
    const running = this.phase === 'running' && this.end === undefined && !this.halted;
    if (!running || !this.beacon.loaded) return;
    this.beacon.tick(() => this.guestMustWait());
  }

  private guestMustWait(): boolean {
    if (this.halted || this.outbox.overLimit) return true;
    return this.policy !== undefined && this.memory.dirtyPages >= this.policy.dirtyBudgetPages;
  }

  private drainIngress(): void {
    while (this.phase === 'running' && !this.guestMustWait()) {
      const next = this.ingress.shift();
      if (next === undefined) return;
      this.serve(next.payload, next.from);
    }
  }

  // ── the cut ────────────────────────────────────────────────────────────────────────────────────

  private scheduleCut(): void {
    if (this.policy === undefined) return;
    this.cutTimer = this.options.clock.after(this.policy.intervalUs / 1000, () => {
      this.cutDue = true;
      this.tryCut();
    });
  }

  private cutForOutput(): void {
    if (this.policy === undefined || !this.outbox.isHolding) return;
    if (this.lastCut === this.committed && this.outbox.waitingFrames > 0) this.cut();
  }

  /** A cut was due and waited for a commit, or output waits and the pipeline is idle. */
  private cutIsWanted(): boolean {
    if (this.cutDue) return true;
    const idle = this.lastCut === this.committed;
    return idle && this.policy?.cutOnOutput === true && this.outbox.waitingFrames > 0;
  }

  private tryCut(): void {
    const policy = this.policy;
    if (policy !== undefined && this.lastCut - this.committed < policy.inFlightMax) this.cut();
  }

  private cut(): void {
    const policy = this.policy;
    if (policy === undefined || this.phase !== 'running' || this.finalCutMade) return;
    const startUs = this.options.clock.nowUs();
    const slot = this.slots.take();
    this.lastCut += 1;
    this.cuts += 1;
    slot.epoch = this.lastCut;
    slot.base = this.holdAtNextCut;
    slot.guestEnd = this.end;
    slot.halt = this.halted ? this.halts : 0;
    this.finalCutMade = this.end !== undefined;
    const count = this.hideOne(this.memory.harvest(this.harvested));
    this.changes.cut(slot.epoch, this.harvested, count);
    slot.fill(this.memory, this.harvested, count);
    slot.diskRecords = this.disks.takeLogs(slot.epoch);
    this.options.onCutMade?.(slot.epoch);
    slot.state.writeUInt32LE(STATE_VERSION, 0);
    slot.state.writeBigUInt64LE(BigInt(Math.floor(startUs - this.bootedAtUs)) * 1000n, 8);
    this.outbox.noteCut(slot.epoch);
    slot.outputFrames = this.outbox.isHolding ? this.outbox.seal(slot.epoch) : 0;
    if (slot.base) {
      this.holdAtNextCut = false;
      this.baseEpoch = slot.epoch;
      this.outbox.hold();
    }
    if (this.baseEpoch !== 0) {
      this.auditAt = slot.hashPages(this.memory, this.auditAt, policy.auditPages);
    }
    slot.cutAtUs = this.options.clock.nowUs();
    slot.pauseUs = slot.cutAtUs - startUs;
    this.slots.publish(slot);
    this.cutDue = false;
    this.cutTimer?.cancel();
    this.scheduleCut();
    this.options.clock.soon(() => this.announceCut());
    this.drainIngress();
  }

  private announceCut(): void {
    if (this.slots.anyWaits) this.handlers?.onCut();
  }

  /** Test-only fault: loses one page of every sixteenth cut, as a defect in the harvest would. */
  private hideOne(count: number): number {
    if (!this.hasFault('hide-dirty-page') || this.baseEpoch === 0 || count === 0) return count;
    if (this.cuts % HIDE_EVERY_CUTS !== 0) return count;
    return count - 1;
  }

  private hasFault(fault: MachineFault): boolean {
    return this.options.faults?.includes(fault) ?? false;
  }
}
