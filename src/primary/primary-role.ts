/**
 * The side that runs the guest: what state it is in, and when its output may leave.
 *
 *              claim won, guest booted (or promoted)
 *   starting ────────────────────────────────▶ solo ◀──────────── claim won, generation + 1 ──┐
 *       │                                      │  ▲                                           │
 *       │ claim lost: start() rejects   link up│  │ link lost before holdOutput · bye         │
 *       ▼                                      ▼  │                                           │
 *   (never ran)                              syncing ── link lost after holdOutput ──▶ suspended
 *                                              │                                       ▲   │
 *                                   base acked │             link lost                 │   │ claim
 *                                              ▼                                       │   │ lost
 *                                          protected ──────────────────────────────────┘   ▼
 *                                              │ bye: the standby resigned ─▶ solo      fenced
 *
 *   any ── stop(): bye ─▶ stopped                         any ── machine error ─▶ stopped
 *
 * The guest ends itself:
 *   solo, syncing before holdOutput   bye that says so ─▶ ended
 *   syncing after it, protected       guestEnd(N) · epoch N ─▶ acked: its output leaves ─▶ bye ─▶
 *                                     ended
 *   suspended                         claim won ─▶ solo: its output leaves ─▶ ended
 *                                     claim lost ─▶ fenced: the guest goes on elsewhere, from before
 * Whoever holds epoch N knows that it is the last and resumes nothing, should this host die now; who
 * does not hold it resumes an earlier one, in which the guest ends itself again.
 *
 * Who owns the output:
 *   solo, and syncing before holdOutput   this host alone; the standby cannot be promoted
 *                                         (output is held once memory and disks are both through)
 *   syncing after holdOutput, protected   held from the base cut on; an epoch's output leaves when
 *                                         the epoch is acked
 *   suspended                             held, if the base was cut (before, the standby has nothing
 *                                         to run): nothing leaves until the witness has decided
 *   fenced, stopped                       nobody here
 */
import { assert } from '../common/assert';
import type { Clock } from '../common/clock';
import { type Facts, FtError, toFtError } from '../common/errors';
import { type Logger, Seldom } from '../common/logger';
import { PAGE_BYTES } from '../common/units';
import type { CutSettings, GuestEnd, Machine } from '../machine/machine';
import type { Connection } from '../transport/connection';
import type { FrameBufferPool } from '../wire/buffer-pool';
import { type Frame, FrameType } from '../wire/frame';
import { unpackAuditMismatch } from '../wire/messages';
import type { GenerationRecord, Witness } from '../witness/witness';
import { claimBoot } from './boot-claim';
import { Claim } from './claim';
import { EpochPipeline } from './epoch-pipeline';
import { type BodyCompressor, FrameSender } from './frame-sender';
import { Lease } from './lease';
import { Link, type LinkDown, type LinkOptions, type LinkPeer } from './link';
import { OutputCommit } from './output-commit';
import { PrimaryStats } from './primary-stats';
import { SyncDriver } from './sync';

/** How long no standby is dialled after an image here could not be read for it; a sync is work. */
const DISK_REST_MS = 10_000;
/** Differing pages may be found with every epoch; they are said so seldom. */
const AUDIT_LOG_MS = 1000;

export type PrimaryState =
  | 'starting'
  | 'solo'
  | 'syncing'
  | 'protected'
  | 'suspended'
  | 'fenced'
  | 'ended'
  | 'stopped';

export interface PrimaryOptions
  extends Omit<
    LinkOptions,
    'machine' | 'diskSyncIds' | 'generation' | 'epoch' | 'clock' | 'logger'
  > {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly machine: Machine;
  readonly witness: Witness;
  readonly policy: CutSettings;
  readonly pool: FrameBufferPool;
  readonly compressor: BodyCompressor | undefined;
}

/** Why a primary came to its end. */
export type PrimaryEnd =
  | { readonly kind: 'fenced'; readonly current: GenerationRecord }
  | { readonly kind: 'guest-ended'; readonly end: GuestEnd }
  | { readonly kind: 'machine-error'; readonly error: FtError };

export interface PrimaryHandlers {
  onState(from: PrimaryState, to: PrimaryState): void;
  onEnd(end: PrimaryEnd): void;
  onRefused(error: FtError): void;
}

export class PrimaryRole {
  readonly stats = new PrimaryStats();
  private current: PrimaryState = 'starting';
  private currentGeneration = 0;
  /** The scan of this session's sync is through. */
  private scanned = false;
  /** True from holdOutput on: the standby may become promotable at any moment. */
  private holding = false;
  private baseEpoch = 0;
  /** Set once the guest has ended itself. */
  private guestEnd: GuestEnd | undefined;
  /** Its last epoch; 0 until that is on its way to the standby. */
  private finalEpoch = 0;
  private connection: Connection | undefined;
  /** Names the session with the standby; "" without one. */
  private session = '';
  private claim: Claim | undefined;
  private readonly auditLog = new Seldom(AUDIT_LOG_MS);
  private readonly link: Link;
  private readonly lease: Lease;
  private readonly commit: OutputCommit;
  private readonly pipeline: EpochPipeline;
  private readonly sync: SyncDriver;

  constructor(
    private readonly options: PrimaryOptions,
    private readonly handlers: PrimaryHandlers,
  ) {
    const { clock, machine } = options;
    const sender = new FrameSender(clock, options.pool, options.compressor, this.stats);
    this.commit = new OutputCommit(clock, machine, this.stats, (bytes, us) => {
      options.compressor?.observeLink(bytes, us);
    });
    this.pipeline = new EpochPipeline(clock, machine, sender, this.commit, this.stats, {
      onBaseSent: (epoch) => {
        this.baseEpoch = epoch;
      },
      onFinal: (epoch, end) => {
        this.finalEpoch = epoch;
        this.guestEnd ??= end;
      },
      onOverrun: (epoch) => {
        const message = 'the dirty ring may have lost entries; all of memory is sent again';
        options.logger.warn(message, { epoch, overruns: this.stats.overruns });
      },
    });
    this.sync = new SyncDriver(clock, machine, sender, this.stats, () => {
      this.scanned = true;
      this.holdWhenSynced();
    });
    this.lease = new Lease(machine, options.logger);
    const linkOptions: LinkOptions = {
      ...options,
      machine: machine.description,
      diskSyncIds: () => machine.diskSyncIds(),
      generation: () => this.currentGeneration,
      epoch: () => this.stats.epochCut,
    };
    this.link = new Link(linkOptions, {
      onUp: (connection, peer) => this.linkUp(connection, peer),
      onFrame: (frame) => this.received(frame),
      onBeat: () => this.lease.nextBeat(),
      onEcho: (sequence) => this.lease.echoed(sequence),
      onTurn: () => this.turnEnded(),
      onDown: (down) => this.linkDown(down),
      onRefused: (error) => this.refused(error),
    });
  }

  get state(): PrimaryState {
    return this.current;
  }

  get generation(): number {
    return this.currentGeneration;
  }

  /** Epochs sent whole and not yet acknowledged. */
  get inFlight(): number {
    return this.commit.unacked;
  }

  /** Heartbeats of the standby that came late. */
  get lateHeartbeats(): number {
    return this.link.lateHeartbeats;
  }

  /** 0…1 while syncing: of memory or disks, whichever is behind. */
  get syncProgress(): number {
    const { machine } = this.options;
    if (this.current !== 'syncing') return 1;
    return Math.min(machine.scanProgress(), machine.diskSyncProgress());
  }

  /**
   * Begins a generation by booting the guest. Rejects with FT_ERR_GENERATION_OWNED, the witness's
   * error, or the machine's, and has then started nothing.
   */
  async start(force: boolean): Promise<void> {
    const { clock, witness, pair, nodeId, machine } = this.options;
    const generation = await claimBoot({ clock, witness, pair, nodeId, force });
    if (this.current !== 'starting') return;
    this.currentGeneration = generation;
    this.takeMachine();
    machine.boot();
    this.toSolo('the guest was booted');
  }

  /** Goes on with a guest that was just promoted here, in the generation that was won for it. */
  adopt(generation: number): void {
    assert(this.current === 'starting', 'a primary begins once');
    this.currentGeneration = generation;
    this.takeMachine();
    this.toSolo('the guest was promoted');
  }

  /** Ends the guest on the operator's word; the standby is told, and will not promote. */
  stop(reason: string): void {
    if (this.over) return;
    this.endAll(reason);
    this.options.machine.fence();
    this.become('stopped', reason);
  }

  // ── the link ───────────────────────────────────────────────────────────────────────────────────

  private linkUp(connection: Connection, peer: LinkPeer): void {
    assert(this.current === 'solo', 'a standby is taken on while this host runs alone');
    const standby = peer.standbyId;
    this.options.logger.info('standby joined, sync begins', { standby, ...this.diskFacts(peer) });
    this.connection = connection;
    this.session = peer.session;
    this.scanned = false;
    this.holding = false;
    this.baseEpoch = 0;
    const firstEpoch = this.stats.epochCut + 1;
    connection.onDrain = () => this.drained();
    this.pipeline.start(connection, this.currentGeneration, firstEpoch);
    this.become('syncing', `standby ${standby} joined`);
    try {
      const policy = { ...this.options.policy, leaseUs: this.lease.begin(peer.suspectAfterMs) };
      this.options.machine.beginReplication(policy, firstEpoch, peer.diskMaps);
    } catch (thrown) {
      // The guest is worth more than its protection: it runs on alone; the next try may succeed.
      this.link.fail(toFtError(thrown, 'FT_ERR_MACHINE'));
      return;
    }
    this.sync.start(connection, this.currentGeneration);
  }

  private drained(): void {
    // Not at once: what is encoded here would drain again within the same turn, and again.
    this.pipeline.pumpSoon();
    this.sync.resume();
  }

  /** What the log says of the disks' sync: how many are sent whole. */
  private diskFacts(peer: LinkPeer): Facts {
    const disks = this.options.machine.description.disks.filter((disk) => !disk.readOnly).length;
    if (disks === 0) return {};
    const inPart = peer.diskMaps.filter((map) => map !== undefined).length;
    return { disksWhole: disks - inPart, disksInPart: inPart };
  }

  /** The base epoch waits for the scan of memory and for the disks, whichever is later. */
  private holdWhenSynced(): void {
    const { machine } = this.options;
    if (this.current !== 'syncing' || !this.scanned || this.holding) return;
    if (!machine.disksSynced()) return;
    // From here on the standby may become promotable: this host no longer owns its output alone,
    // and losing the standby means asking the witness first.
    this.holding = true;
    machine.holdOutput();
  }

  /** What cannot be read cannot be copied: no session comes about until somebody mends the image. */
  private diskSyncFailed(error: FtError): void {
    if (this.current !== 'syncing') return;
    this.options.logger.error(`${error.message} The guest runs on unprotected.`, {
      ...error.facts,
      code: error.code,
    });
    this.link.fail(error, DISK_REST_MS);
  }

  private received(frame: Frame): void {
    if (frame.generation !== this.currentGeneration) {
      const facts = { theirs: frame.generation, ours: this.currentGeneration };
      const message = `The standby speaks of generation ${facts.theirs}, not ${facts.ours}.`;
      this.link.fail(new FtError('FT_ERR_GENERATION', message, facts));
    } else if (frame.type === FrameType.ack) {
      this.acked(frame.epoch);
    } else if (frame.type === FrameType.auditMismatch) {
      this.auditMismatch(frame);
    } else {
      const message = `A frame of type ${frame.type} came from the standby, where it has no place.`;
      this.link.fail(new FtError('FT_ERR_FRAME_UNEXPECTED', message, { type: frame.type }));
    }
  }

  private acked(epoch: number): void {
    const error = this.commit.ack(epoch);
    if (error !== undefined) this.link.fail(error);
  }

  /** Output leaves for the acks that came; what follows from them comes after that. */
  private turnEnded(): void {
    const epoch = this.commit.settle();
    if (epoch === 0) return;
    if (this.current === 'syncing' && this.baseEpoch !== 0 && epoch >= this.baseEpoch) {
      this.stats.syncsDone += 1;
      this.options.machine.inStep(this.session);
      this.become('protected', `epoch ${epoch} is held by the standby`);
    }
    if (this.finalEpoch !== 0 && epoch >= this.finalEpoch) this.finishGuestEnd();
  }

  private auditMismatch(frame: Frame): void {
    const found = unpackAuditMismatch(frame.body);
    if (found instanceof FtError) {
      this.link.fail(found);
      return;
    }
    const pages = this.options.machine.description.memoryBytes / PAGE_BYTES;
    const beyond = found.gfns.find((gfn) => gfn >= pages);
    if (beyond !== undefined) {
      const message = `The standby reports page ${beyond}, and the guest has ${pages} pages.`;
      this.link.fail(new FtError('FT_ERR_MESSAGE', message, { gfn: beyond, pages }));
      return;
    }
    this.stats.auditMismatches += found.gfns.length;
    this.options.machine.heal(found.gfns);
    if (!this.auditLog.due(this.options.clock.nowUs())) return;
    this.options.logger.error('audit: pages differ on the standby; they are sent again', {
      epoch: frame.epoch,
      pages: found.gfns.length,
      firstGfn: found.gfns[0],
      pagesSoFar: this.stats.auditMismatches,
    });
  }

  private refused(error: FtError): void {
    this.options.logger.error(`${error.message} The guest runs on unprotected.`, {
      ...error.facts,
      code: error.code,
    });
    this.handlers.onRefused(error);
  }

  private linkDown(down: LinkDown): void {
    const { machine, logger } = this.options;
    this.dropPeer();
    this.finalEpoch = 0;
    machine.endReplication();
    if (down.kind === 'bye') {
      // A standby that was ended says so in words of its own; one that had to give up, with a code.
      if (down.reason.startsWith('FT_ERR_')) {
        const message = `The standby gave up, and the guest runs on unprotected: ${down.reason}`;
        logger.error(message);
      }
      this.toSolo(`the standby left: ${down.reason}`);
      return;
    }
    this.stats.linksLost += 1;
    logger.warn('the standby is lost', { code: down.error.code, cause: down.error.message });
    if (!this.holding) {
      this.toSolo('the standby was lost before it could take over');
      return;
    }
    this.become('suspended', down.error.message);
    this.stats.claims += 1;
    const { clock, witness, pair, nodeId } = this.options;
    this.claim = new Claim(clock, witness, pair, nodeId, this.currentGeneration, {
      onWon: (generation) => this.claimWon(generation),
      onLost: (record) => this.claimLost(record),
      onUnknown: (error, tries) => this.claimUnknown(error, tries),
    });
  }

  // ── the claim ──────────────────────────────────────────────────────────────────────────────────

  private claimWon(generation: number): void {
    this.claim = undefined;
    this.currentGeneration = generation;
    // Epochs are numbered anew in each generation.
    this.stats.epochCut = 0;
    this.stats.epochCommitted = 0;
    this.toSolo(`won generation ${generation}`);
  }

  private claimLost(current: GenerationRecord): void {
    this.claim = undefined;
    this.options.machine.fence();
    this.options.logger.error('another node won; the guest here is fenced', {
      generation: current.generation,
      owner: current.owner,
    });
    this.become('fenced', `generation ${current.generation} belongs to ${current.owner}`);
    this.handlers.onEnd({ kind: 'fenced', current });
  }

  private claimUnknown(error: FtError, tries: number): void {
    const power = (tries & (tries - 1)) === 0;
    if (!power) return;
    this.options.logger.warn('the witness cannot be reached; output stays held', {
      code: error.code,
      cause: error.message,
      tries,
    });
  }

  // ── the machine ────────────────────────────────────────────────────────────────────────────────

  private takeMachine(): void {
    this.options.machine.setHandlers({
      onCut: () => this.pipeline.pump(),
      onGuestEnd: (end) => this.guestEnded(end),
      onStopped: (error) => this.machineStopped(error),
      onDisksSynced: () => this.holdWhenSynced(),
      // A promoted guest goes on while the last epochs are still being written to the image. What
      // the guest holds for written would be missing there for ever, so it must not go on.
      onDiskFailed: (error) => this.machineStopped(error),
      onDiskSyncFailed: (error) => this.diskSyncFailed(error),
    });
  }

  /** Nothing of this role goes on any more. */
  private get over(): boolean {
    return this.current === 'stopped' || this.current === 'fenced' || this.current === 'ended';
  }

  private guestEnded(end: GuestEnd): void {
    if (this.over) return;
    this.guestEnd = end;
    this.options.logger.info('the guest ended itself', { kind: end.kind, cause: end.cause });
    const nobodyElse = this.current === 'solo' || (this.current === 'syncing' && !this.holding);
    if (nobodyElse) this.finishGuestEnd();
  }

  /** All that the guest said has left, and nobody will resume it. */
  private finishGuestEnd(): void {
    const end = this.guestEnd;
    if (end === undefined) return;
    this.endAll(`the guest ended itself (${end.cause})`, end);
    this.become('ended', end.cause);
    this.handlers.onEnd({ kind: 'guest-ended', end });
  }

  private machineStopped(error: FtError): void {
    if (this.over) return;
    // This machine cannot go on, the guest could: cut the link without a bye, so that the standby
    // takes over at once.
    this.claim?.stop();
    this.dropPeer();
    this.link.stop();
    this.options.machine.fence();
    this.become('stopped', error.message);
    this.handlers.onEnd({ kind: 'machine-error', error });
  }

  // ── states ─────────────────────────────────────────────────────────────────────────────────────

  /** This host alone owns its output; called only where the diagram above has an arrow to solo. */
  private toSolo(why: string): void {
    this.holding = false;
    this.options.machine.openOutput();
    this.become('solo', why);
    if (this.guestEnd === undefined) this.link.start();
    else this.finishGuestEnd();
  }

  private endAll(reason: string, guestEnd?: GuestEnd): void {
    this.claim?.stop();
    this.claim = undefined;
    this.dropPeer();
    this.link.stop(guestEnd === undefined ? { reason } : { reason, guestEnd });
  }

  private dropPeer(): void {
    this.pipeline.stop();
    this.sync.stop();
    if (this.connection !== undefined) this.connection.onDrain = () => undefined;
    this.connection = undefined;
    this.session = '';
  }

  private become(to: PrimaryState, why: string): void {
    const from = this.current;
    this.current = to;
    this.options.logger.info(`primary: ${from} → ${to}`, {
      why,
      generation: this.currentGeneration,
      epoch: this.commit.acked,
    });
    this.handlers.onState(from, to);
  }
}
