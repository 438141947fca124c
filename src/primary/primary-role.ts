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
 *                                           │  │ bye: the standby resigned ─▶ solo      fenced
 *                               switchover()│  ▲                                           ▲
 *                                           ▼  │ nothing was handed over in time           │
 *                                         switching ── handed over, and taken over ────────┘
 *                                              │ link lost, or bye: gaveUp ─▶ suspended · bye ─▶ solo
 *
 *   any ── stop(): bye ─▶ stopped              any ── machine error, leave(): no bye ─▶ stopped
 *
 * The guest ends itself:
 *   solo, syncing before holdOutput   bye that says so ─▶ ended
 *   syncing after it, protected       guestEnd(N) · epoch N ─▶ acked, its output out ─▶ bye ─▶ ended
 *   suspended                         claim won ─▶ solo: its output leaves ─▶ ended
 *                                     claim lost ─▶ fenced: the guest goes on elsewhere, from before
 * Whoever holds epoch N knows that it is the last and resumes nothing, should this host die now; who
 * does not hold it resumes an earlier one, in which the guest ends itself again.
 *
 * Who owns the output:
 *   solo, and syncing before holdOutput   this host alone; the standby cannot be promoted
 *                                         (output is held once memory and disks are both through)
 *   syncing after holdOutput, protected   held from the base cut on, until the epoch is acked
 *   switching                             as protected; nothing once it was handed over
 *   suspended                             held, if the base was cut (before, the standby has nothing
 *                                         to run): nothing leaves until the witness has decided
 *   fenced, stopped                       nobody here
 */
import { assert } from '../common/assert';
import type { FtError } from '../common/errors';
import type { GuestEnd } from '../machine/machine';
import type { Connection } from '../transport/connection';
import type { Frame } from '../wire/frame';
import type { TookOver } from '../wire/messages';
import type { GenerationRecord } from '../witness/witness';
import { claimBoot } from './boot-claim';
import { Claim } from './claim';
import type { EpochPipeline } from './epoch-pipeline';
import { GuestHalt } from './guest-halt';
import { LastWords } from './last-words';
import { Link } from './link';
import { endOfLink, reportEnd } from './link-end';
import type { Dial, LinkDown, LinkOptions, LinkPeer } from './link-types';
import type { OutputCommit } from './output-commit';
import { PrimaryStats } from './primary-stats';
import type { PrimaryChange, PrimaryHandlers, PrimaryOptions, PrimaryState } from './primary-types';
import { Replication } from './replication';
import { Switchover, type SwitchoverDone, SwitchoverError } from './switchover';
import { SwitchoverRequest } from './switchover-request';
import { WitnessLoss } from './witness-loss';

/** How long no standby is dialled when this side could not sync one. */
const SYNC_REST_MS = 10_000;

export class PrimaryRole {
  readonly stats = new PrimaryStats();
  private current: PrimaryState = 'starting';
  private whyNow = '';
  private currentGeneration = 0;
  private claim: Claim | undefined;
  private switching: Switchover | undefined;
  private readonly switchoverRequest: SwitchoverRequest;
  private readonly halts: GuestHalt;
  private readonly witnessLoss: WitnessLoss;
  private readonly lastWords: LastWords;
  private readonly link: Link;
  private readonly commit: OutputCommit;
  private readonly pipeline: EpochPipeline;
  private readonly replication: Replication;

  constructor(
    private readonly options: PrimaryOptions,
    private readonly handlers: PrimaryHandlers,
  ) {
    const { clock, logger, machine } = options;
    this.halts = new GuestHalt(machine, options.onStandbyLoss);
    this.lastWords = new LastWords(machine);
    this.switchoverRequest = new SwitchoverRequest({
      ...options,
      unable: () => {
        const able = this.current === 'protected' && this.lastWords.end === undefined;
        return able ? undefined : SwitchoverError.state(this.current);
      },
      generation: () => this.currentGeneration,
      begin: () => this.beginSwitchover(),
    });
    this.witnessLoss = new WitnessLoss(clock, logger, options.onWitnessLoss, this.halts, (error) =>
      this.witnessLost(error),
    );
    this.replication = new Replication(options, this.stats, {
      onFinal: (epoch, end) => {
        this.lastWords.announced(epoch, end);
        this.switchoverCancelled(SwitchoverError.guestEnded());
      },
      onResting: (epoch) => this.switching?.lastSent(epoch),
    });
    this.commit = this.replication.commit;
    this.pipeline = this.replication.pipeline;
    const { catchUp, lease } = this.replication;
    const ours: LinkOptions = {
      ...options,
      machine: machine.description,
      diskSyncIds: () => machine.diskSyncIds(),
      catchUpFrom: () => catchUp.offer(),
      generation: () => this.currentGeneration,
      epoch: () => this.stats.epochCut,
    };
    this.link = new Link(ours, {
      onUp: (connection, peer) => this.linkUp(connection, peer),
      onFrame: (frame) => this.received(frame),
      onBeat: () => lease.nextBeat(),
      onEcho: (sequence) => {
        const error = lease.echoed(sequence);
        if (this.lastWords.allLeft(this.commit.acked)) this.finishGuestEnd();
        return error;
      },
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

  /** Why it is in this state, in the words of the log. */
  get why(): string {
    return this.whyNow;
  }

  /** The newest standby, also one that is gone. */
  get lastPeer(): Replication['lastPeer'] {
    return this.replication.lastPeer;
  }

  /** Epochs sent whole and not yet acknowledged. */
  get inFlight(): number {
    return this.commit.unacked;
  }

  /** How far the standby is behind; of interest while one is there, or may have taken over. */
  get lag(): OutputCommit['lag'] {
    return this.commit.lag;
  }

  /** Why the guest stands still; "" when it runs. */
  get halted(): string {
    return this.halts.why;
  }

  /** Heartbeats of the standby that came late. */
  get lateHeartbeats(): number {
    return this.link.lateHeartbeats;
  }

  /** 0…1 while syncing: of memory or disks, whichever is behind. */
  get syncProgress(): number {
    return this.current === 'syncing' ? this.replication.progress : 1;
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
    this.halts.stateIs('protected');
    this.takeMachine();
    this.toSolo('the guest was promoted');
  }

  /**
   * Ends the guest on the operator's word; the standby is told, and will not promote. While the guest
   * is being handed over, this side alone ends: see leave().
   */
  stop(reason: string): void {
    if (this.over) return;
    if (this.switchoverUnderWay !== undefined) {
      this.leave(reason);
      return;
    }
    this.endAll(reason);
    this.options.machine.fence();
    this.become('stopped', reason);
  }

  /**
   * Hands the guest over to the standby, if the witness can decide about it. Never rejects; an FtError
   * says why the guest goes on here (FT_ERR_SWITCHOVER_…), or that nobody here knows how it went.
   */
  switchover(): Promise<SwitchoverDone | FtError> {
    return this.switchoverRequest.make();
  }

  /** Other policies count from now on (docs/policies.md), and another time between cuts. */
  change({ onStandbyLoss, onWitnessLoss, intervalUs }: PrimaryChange): void {
    if (this.over) return;
    this.replication.setInterval(intervalUs);
    const waited = this.halts.waitsForStandby;
    this.halts.setOnStandbyLoss(onStandbyLoss);
    // The guest's output waited with it: see toSolo.
    if (this.current === 'solo' && waited && !this.halts.waitsForStandby) {
      this.options.machine.openOutput();
    }
    this.witnessLoss.setPolicy(onWitnessLoss);
  }

  /** Other standbys to dial; one that holds the guest, or is being made, stays. */
  setDials(dials: readonly Dial[]): void {
    this.link.setDials(dials);
    if (this.current === 'solo' && this.lastWords.end === undefined) this.link.start();
  }

  /** The outcome of the switchover that was asked for, until it is known. Never rejects. */
  get switchoverUnderWay(): Promise<SwitchoverDone | FtError> | undefined {
    return this.switchoverRequest.underWay;
  }

  /**
   * Ends this side without a word, as the end of the host would: whoever holds the guest claims it.
   * A claim of ours that is under way may still be won, and the guest then ends with this side. To
   * wait for its answer would be no better: what was won cannot be given back, and a claim that would
   * have been lost to the standby could be won meanwhile. A drain is refused as long as that is open.
   */
  leave(reason: string): void {
    if (this.over) return;
    this.switchoverFailed(SwitchoverError.ended(reason));
    this.claim?.stop();
    this.witnessLoss.end();
    this.replication.drop();
    // In this order: to the standby the end of both connections means that nothing leaves here.
    this.options.machine.fence();
    this.link.stop();
    this.become('stopped', reason);
  }

  private beginSwitchover(): Promise<SwitchoverDone | FtError> {
    const switching = new Switchover(this.options.clock, {
      handOver: (epoch) => this.link.sendHandOver(epoch),
      outputIsOut: () => !this.options.machine.outputWaits(),
      cancel: (error) => this.switchoverCancelled(error),
      lose: (error) => this.link.fail(error),
    });
    this.switching = switching;
    this.become('switching', 'a switchover was asked for');
    this.pipeline.restAtHalt();
    this.halts.halt('switchover');
    return switching.outcome;
  }

  // ── the link ───────────────────────────────────────────────────────────────────────────────────

  private linkUp(connection: Connection, peer: LinkPeer): void {
    assert(this.current === 'solo', 'a standby is taken on while this host runs alone');
    this.replication.open(connection, peer, this.currentGeneration);
    this.become('syncing', `standby ${peer.standbyId} joined`);
    const error = this.replication.begin();
    if (error !== undefined) this.cannotSync(error);
  }

  /**
   * This side cannot have a copy made: its machine cannot begin one, or a disk cannot be read. The
   * guest is worth more than its protection and runs on alone. Each try is a sync for the standby, so
   * the next one comes after a rest; none where no try can succeed any more.
   */
  private cannotSync(error: FtError): void {
    if (this.current !== 'syncing') return;
    if (error.code === 'FT_ERR_RING_LOST') this.link.retire();
    this.refused(error);
    this.link.fail(error, SYNC_REST_MS);
  }

  private received(frame: Frame): void {
    const error = this.replication.received(frame);
    if (error !== undefined) this.link.fail(error);
  }

  /** Output leaves for the acks that came; what follows from them comes after that. */
  private turnEnded(): void {
    const epoch = this.commit.settle();
    if (epoch === 0) return;
    if (this.current === 'syncing' && this.replication.baseHeld(epoch)) {
      this.replication.synced();
      this.become('protected', `epoch ${epoch} is held by the standby`);
    }
    this.switching?.settled(epoch);
    if (this.lastWords.allLeft(epoch)) this.finishGuestEnd();
  }

  /** Why nobody protects the guest, for the operator. */
  private refused(error: FtError): void {
    const { message, code, facts } = error;
    const all = { ...facts, code, event: 'refused' };
    this.options.logger.error(`${message} ${this.halts.withoutStandby}`, all);
    this.handlers.onRefused(error);
  }

  private linkDown(down: LinkDown): void {
    const owner = this.replication.standbyId;
    this.replication.drop();
    this.lastWords.linkLost();
    this.replication.catchUp.ended(down.kind === 'lost');
    const handedOver = this.switching?.handedOver === true;
    const { currentGeneration: generation } = this;
    const { holding } = this.replication;
    const end = endOfLink(down, { generation, holding, handedOver });
    reportEnd(down, end, this.options.logger, this.stats, this.halts.withoutStandby);
    if (end.kind === 'handed-over') this.wasTakenOver(end.tookOver, owner);
    else if (end.kind === 'alone') this.toSolo(end.why);
    else this.suspend(end.from, end.error.message);
  }

  /** The standby may own the guest: it is this side's again when the witness says so. */
  private suspend(from: number, why: string): void {
    this.switching?.stop();
    this.become('suspended', why);
    // Whoever heard that may have ended this side, and then the guest is the standby's alone.
    if (this.over) return;
    this.stats.claims += 1;
    this.witnessLoss.begin();
    this.claim = new Claim(this.options, from, {
      onWon: (generation) => this.claimWon(generation, why),
      onLost: (record) => this.claimLost(record),
      onUnknown: (error, tries) => this.witnessLoss.unknown(error, tries),
    });
  }

  // ── the switchover ─────────────────────────────────────────────────────────────────────────────

  private wasTakenOver(tookOver: TookOver, owner: string): void {
    const done = this.switching?.done(tookOver);
    this.options.logger.info('the guest was handed over', { event: 'switchover', owner, ...done });
    this.fenced({ generation: tookOver.generation, owner }, `handed over to ${owner}`, done);
  }

  /** Nothing was handed over: the guest runs on here, protected as before. */
  private switchoverCancelled(error: FtError): void {
    if (this.current !== 'switching') return;
    this.switchoverFailed(error);
    this.become('protected', error.message);
    this.halts.resume('switchover');
    this.pipeline.goOn();
  }

  private switchoverFailed(error: FtError): void {
    this.switching = this.switching?.fail(error);
  }

  // ── the claim ──────────────────────────────────────────────────────────────────────────────────

  private claimWon(generation: number, why: string): void {
    this.claim = undefined;
    this.currentGeneration = generation;
    // Epochs are numbered anew in each generation, but not above output that is held (toSolo).
    if (!this.halts.waitsForStandby) this.stats.epochCut = 0;
    this.stats.epochCommitted = 0;
    this.toSolo(`won generation ${generation} (${why})`);
  }

  private claimLost(current: GenerationRecord): void {
    const { generation, owner } = current;
    this.options.logger.error('another node won; the guest here is fenced', { generation, owner });
    this.switchoverFailed(SwitchoverError.wordLost(current));
    this.fenced(current, `generation ${generation} belongs to ${owner}`);
  }

  private fenced(current: GenerationRecord, why: string, switchover?: SwitchoverDone): void {
    this.claim = undefined;
    this.switching = undefined;
    this.witnessLoss.end();
    this.options.machine.fence();
    this.become('fenced', why);
    const end = { kind: 'fenced', current } as const;
    this.handlers.onEnd(switchover === undefined ? end : { ...end, switchover });
  }

  /** --on-witness-loss stop. */
  private witnessLost(error: FtError): void {
    this.stop(error.message);
    this.handlers.onEnd({ kind: 'witness-lost', error });
  }

  // ── the machine ────────────────────────────────────────────────────────────────────────────────

  private takeMachine(): void {
    this.options.machine.setHandlers({
      onCut: () => this.pipeline.pump(),
      onGuestEnd: (end) => this.guestEnded(end),
      onStopped: (error) => this.machineStopped(error),
      onDisksSynced: () => this.replication.holdWhenSynced(),
      // A promoted guest goes on while the last epochs are still being written to the image. What
      // the guest holds for written would be missing there for ever, so it must not go on.
      onDiskFailed: (error) => this.machineStopped(error),
      onDiskSyncFailed: (error) => this.cannotSync(error),
    });
  }

  /** Nothing of this role goes on any more. */
  private get over(): boolean {
    return this.current === 'stopped' || this.current === 'fenced' || this.current === 'ended';
  }

  private guestEnded(end: GuestEnd): void {
    if (this.over) return;
    this.lastWords.end = end;
    this.options.logger.info('the guest ended itself', { kind: end.kind, cause: end.cause });
    const nobodyElse =
      this.current === 'solo' || (this.current === 'syncing' && !this.replication.holding);
    if (!nobodyElse) return;
    this.options.machine.openOutput();
    this.finishGuestEnd();
  }

  /** All that the guest said has left, and nobody will resume it. */
  private finishGuestEnd(): void {
    const { end } = this.lastWords;
    if (end === undefined) return;
    this.endAll(`the guest ended itself (${end.cause})`, end);
    this.become('ended', end.cause);
    this.handlers.onEnd({ kind: 'guest-ended', end });
  }

  private machineStopped(error: FtError): void {
    if (this.over) return;
    // This machine cannot go on, the guest could: the standby takes over at once.
    this.leave(error.message);
    this.handlers.onEnd({ kind: 'machine-error', error });
  }

  // ── states ─────────────────────────────────────────────────────────────────────────────────────

  /** This host alone owns its output; called only where the diagram above has an arrow to solo. */
  private toSolo(why: string): void {
    this.replication.release();
    this.witnessLoss.end();
    const open = !this.halts.waitsForStandby || this.lastWords.end !== undefined;
    if (open) this.options.machine.openOutput();
    // What waits for a standby has a number, and so have cuts that were never taken: go on above.
    else this.stats.epochCut += this.options.policy.inFlightMax;
    this.become('solo', why);
    this.switchoverFailed(SwitchoverError.goesOnHere(why));
    this.halts.resume('switchover', 'witness-loss');
    if (this.lastWords.end === undefined) this.link.start();
    else this.finishGuestEnd();
  }

  private endAll(reason: string, guestEnd?: GuestEnd): void {
    this.claim?.stop();
    this.claim = undefined;
    this.witnessLoss.end();
    this.switchoverFailed(SwitchoverError.ended(reason));
    this.replication.drop();
    this.link.stop(guestEnd === undefined ? { reason } : { reason, guestEnd });
  }

  private become(to: PrimaryState, why: string): void {
    const from = this.current;
    this.current = to;
    this.whyNow = why;
    this.halts.stateIs(to);
    const epoch = this.stats.epochCommitted;
    const facts = { event: 'state', role: 'primary', from, to, why, epoch };
    this.options.logger.info(`primary: ${from} → ${to}`, { ...facts, generation: this.generation });
    this.handlers.onState(from, to);
  }
}
