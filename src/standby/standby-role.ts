/**
 * The side that holds the copy: what state it is in, and when it may run the guest.
 *
 *             primary welcomed            base epoch held
 *   joining ───────────────────▶ syncing ───────────────▶ ready
 *     ▲  ▲                          │                      │  ▲
 *     │  │ lost · bye · broken ─────┘     silent · closed  │  │ nobody claimed, and the
 *     │  └───────── bye · broken ◀───────── (ready)        ▼  │ primary shows itself
 *     │                                             suspecting ── claim won ──▶ promoting
 *     └────── fenced ◀─────────── claim lost ──────────────┘                       ▼ active
 *
 *   ready ── handOver of the epoch that is held: the primary gave up its right ──▶ suspecting
 *   promoting after that, and the guest cannot be resumed here ── bye: gaveUp ──▶ stopped
 *
 *   syncing, ready ── the guest ended itself, and that is held here ──▶ ended ── bye · lost ──▶ over
 *
 * An image that cannot be written ends the session with a bye: the primary runs alone and says why,
 * and this side takes no primary for a while, then is synced anew. Where the outcome of a claim is not
 * known yet, that waits until the witness has said that nobody made it; no other claim is made then.
 *
 * Only `ready` may claim: before the base epoch there is no image to resume. Once suspecting, this
 * side acknowledges nothing more and takes no further epoch. So the set of acknowledged epochs, and
 * with it all output that the old primary may still release, is fixed before the claim is made, and
 * the image that a promotion resumes contains exactly that set. Otherwise promise 1 would hang on
 * the order in which the witness's answer, late frames and the end of the session happen to come.
 */
import { assert } from '../common/assert';
import { FtError } from '../common/errors';
import type { GuestEnd } from '../machine/machine';
import type { Connection } from '../transport/connection';
import type { Frame } from '../wire/frame';
import { type Bye, type Hello, type Refuse, TEXT_CHARS_MAX, type Welcome } from '../wire/messages';
import type { GenerationRecord } from '../witness/witness';
import { judge, prepareImage } from './admission';
import { AuditAlarm } from './audit-alarm';
import { CheckpointApplier } from './checkpoint-applier';
import { DiskTrouble } from './disk-trouble';
import { Doorkeeper } from './doorkeeper';
import { HeldGuestEnd } from './held-guest-end';
import { PeerSession, type SuspicionCause } from './peer-session';
import { Promotion } from './promotion';
import { resumedWords, resumeGuest } from './resume-guest';
import { StandbyStats } from './standby-stats';
import type { StandbyHandlers, StandbyOptions, StandbyState } from './standby-types';
import { Takeover, type TakeoverCause } from './takeover';

export class StandbyRole {
  readonly stats = new StandbyStats();
  private current: StandbyState = 'joining';
  private whyNow = '';
  private lastSeen: { readonly node: string; readonly address: string } | undefined;
  private session: PeerSession | undefined;
  private promotion: Promotion | undefined;
  private newestGeneration = 0;
  private readonly takeover: Takeover;
  private readonly guestEnd: HeldGuestEnd;
  private readonly disks: DiskTrouble;
  private readonly auditAlarm: AuditAlarm;
  private readonly applier: CheckpointApplier;
  private readonly doorkeeper: Doorkeeper;
  /** As StandbyOptions has it, until change(). */
  private onStandbyLoss: 'continue' | 'pause';

  constructor(
    private readonly options: StandbyOptions,
    private readonly handlers: StandbyHandlers,
  ) {
    const { clock, logger, machine, decompressor } = options;
    this.onStandbyLoss = options.onStandbyLoss;
    this.takeover = new Takeover(clock, this.stats);
    this.auditAlarm = new AuditAlarm(clock, logger, this.stats);
    this.newestGeneration = options.newestGeneration ?? 0;
    this.disks = new DiskTrouble(options, this.stats);
    this.guestEnd = new HeldGuestEnd(clock, machine, {
      diskFailed: () => this.disks.error !== undefined,
      onDisksStuck: (error) => this.diskFailed(error),
      onWritten: (end) => handlers.onGuestEnded(end),
    });
    this.applier = new CheckpointApplier(clock, machine, decompressor, this.stats, {
      onHeld: (epoch) => this.session?.ack(epoch),
      onRestorable: (epoch) => this.restorable(epoch),
      onMismatch: (epoch, gfns) => {
        this.session?.reportMismatch(epoch, gfns);
        this.auditAlarm.found(epoch, gfns);
      },
      onGuestEnd: (end) => this.heardGuestEnd(end),
      onDisksStuck: (error) => this.diskFailed(error),
    });
    this.doorkeeper = new Doorkeeper(
      { ...options, machine: machine.description },
      {
        judge: (hello, generation) => this.judge(hello, generation),
        prepare: (hello) => this.prepare(hello),
        admitted: (connection, hello, generation) => this.admitted(connection, hello, generation),
        onRefused: () => {
          this.stats.refused += 1;
        },
      },
    );
    machine.setHandlers({
      onCut: () => undefined,
      onGuestEnd: () => undefined,
      onStopped: () => undefined,
      onDisksSynced: () => undefined,
      onDiskFailed: (error) => this.diskFailed(error),
    });
  }

  /** Another policy counts from now on, for a guest that is promoted here later. */
  change({ onStandbyLoss }: Pick<StandbyOptions, 'onStandbyLoss'>): void {
    this.onStandbyLoss = onStandbyLoss;
  }

  get state(): StandbyState {
    return this.current;
  }

  /** The newest generation heard of, or won. */
  get generation(): number {
    return this.newestGeneration;
  }

  /** Why it is in this state, in the words of the log. */
  get why(): string {
    return this.whyNow;
  }

  /** The newest primary, also one that is gone: its node id and where it came from. */
  get lastPeer(): { readonly node: string; readonly address: string } | undefined {
    return this.lastSeen;
  }

  /** Heartbeats of the primary that came late, in this session. */
  get lateHeartbeats(): number {
    return this.session?.lateHeartbeats ?? 0;
  }

  /** A connection was accepted by the listener. */
  accept(connection: Connection): void {
    this.doorkeeper.accept(connection);
  }

  /**
   * Ends this side. A primary that replicates here is told that this side will not promote in this
   * generation; not when a claim is under way, since that would no longer be true for certain.
   */
  stop(reason: string): void {
    if (this.current === 'stopped') return;
    if (this.current === 'ended' && this.session === undefined) {
      this.guestEnd.forget();
      return;
    }
    // In the midst of a promotion that failed, too: the generation is ours, so nothing is resigned.
    const claiming = this.promotion !== undefined || this.current === 'promoting';
    this.promotion?.stop();
    this.promotion = undefined;
    if (claiming) this.session?.close();
    else this.session?.leave(reason);
    this.session = undefined;
    this.applier.stop();
    this.become('stopped', reason);
  }

  // ── who may come in ────────────────────────────────────────────────────────────────────────────

  private judge(hello: Hello, generation: number): Refuse | undefined {
    const { session, current } = this;
    const standing = {
      nodeId: this.options.nodeId,
      closed: current === 'active' || current === 'stopped' ? current : undefined,
      generation: this.newestGeneration,
      session,
      guestEnded: this.guestEnd.known,
      diskError: this.disks.refusal,
    };
    return judge(standing, hello, generation);
  }

  /** A replication connection begins: from here on the image is that primary's. */
  private prepare(hello: Hello): Pick<Welcome, 'diskMaps' | 'catchUp'> | Refuse {
    if (hello.channel === 'heartbeat') return { diskMaps: [] };
    this.disks.forget();
    return prepareImage(this.applier, hello, this.options.nodeId);
  }

  private admitted(connection: Connection, hello: Hello, generation: number): void {
    if (hello.channel === 'heartbeat') {
      this.session?.join(connection);
      this.stats.sessions += 1;
      this.become('syncing', `primary ${hello.nodeId} connected`);
      return;
    }
    assert(this.session === undefined && this.current === 'joining', 'one session at a time');
    this.newestGeneration = generation;
    this.lastSeen = { node: hello.nodeId, address: connection.remote };
    this.session = new PeerSession(
      {
        ...this.options,
        session: hello.session,
        primaryId: hello.nodeId,
        generation,
        epoch: () => this.applier.held,
      },
      connection,
      {
        onFrame: (frame) => this.received(frame),
        onTurn: () => this.turnEnded(),
        onHandOver: (epoch) => this.handedOver(epoch),
        onBye: (bye) => this.saidBye(bye),
        onBroken: (error) => this.broken(error),
        onHalf: (error) => this.connectionEnded(error),
        onSuspect: (why, silentMs) => this.suspect(why, silentMs),
      },
    );
  }

  // ── the session ────────────────────────────────────────────────────────────────────────────────

  private received(frame: Frame): void {
    const error = this.applier.take(frame);
    if (error !== undefined) this.broken(error);
  }

  private turnEnded(): void {
    const error = this.applier.endTurn();
    if (error !== undefined) this.broken(error);
  }

  /** The base epoch is held: from here on this side can take over, and its disks are a copy. */
  private restorable(epoch: number): void {
    this.options.machine.inStep(this.session?.name ?? '');
    this.disks.reset();
    this.become('ready', `base epoch ${epoch} is held`);
  }

  /** An image lacks what was acknowledged: this side must not take over from it. */
  private diskFailed(error: FtError): void {
    if (this.current === 'stopped' || this.current === 'active') return;
    this.disks.failed(error);
    // With a claim under way its outcome comes first: claimWon, mayClaim and notClaimed look here.
    if (this.promotion !== undefined || this.current === 'promoting') return;
    if (this.guestEnd.known) this.guestIsOver();
    else if (this.session !== undefined) this.rejoin(error.message, error.code);
  }

  /** The operator ended the guest: nothing to take over. */
  private saidBye(bye: Bye): void {
    if (this.promotion !== undefined) return;
    const { reason, guestEnd } = bye;
    // In the midst of a sync there is no epoch that could say it.
    if (guestEnd !== undefined && !this.applier.restorable) this.heardGuestEnd(guestEnd);
    if (this.guestEnd.known) {
      this.guestIsOver();
      return;
    }
    this.options.logger.info('the primary left in order', { event: 'link', reason });
    this.rejoin(`the primary left: ${reason}`, undefined);
  }

  /**
   * The primary's bytes make no sense. It may be alive and well otherwise, so nothing is claimed;
   * it is told that this side will not promote, and may begin anew.
   */
  private broken(error: FtError): void {
    this.options.logger.error('the session is dropped', {
      ...error.facts,
      code: error.code,
      cause: error.message,
    });
    // With a claim under way its outcome alone decides; the session is finished either way.
    if (this.promotion !== undefined) {
      this.session?.close(error);
      return;
    }
    if (this.guestEnd.known) {
      this.guestIsOver();
      return;
    }
    this.rejoin(error.message, error.code);
  }

  private heardGuestEnd(end: GuestEnd): void {
    if (this.guestEnd.heard(end)) this.become('ended', end.cause);
  }

  /** Whatever becomes of the primary now: the guest is over, and nothing is claimed. */
  private guestIsOver(): void {
    this.session?.close();
    this.session = undefined;
    if (this.applier.restorable) this.applier.drain();
    this.applier.stop();
    this.guestEnd.finish();
  }

  /** After the guest's end: waits for a primary that starts it anew. */
  joinAgain(): void {
    assert(this.current === 'ended' && this.session === undefined, 'the guest is over');
    this.guestEnd.forget();
    this.become('joining', 'the guest ended; waiting for a primary that starts it again');
  }

  /** An image here lacks what was acknowledged: then the session is over. */
  private lacksDisk(): boolean {
    const { error } = this.disks;
    if (error !== undefined) this.rejoin(error.message, error.code);
    return error !== undefined;
  }

  private rejoin(why: string, tell: string | undefined): void {
    this.stats.sessionsDropped += 1;
    const session = this.session;
    this.session = undefined;
    this.applier.stop();
    if (tell === undefined) session?.close();
    else session?.leave(`${tell}: ${why}`.slice(0, 1000));
    if (this.current !== 'joining') this.become('joining', why);
  }

  // ── suspicion ──────────────────────────────────────────────────────────────────────────────────

  private connectionEnded(error: FtError | undefined): void {
    // With a suspicion already, its claim decides.
    if (this.current === 'suspecting' || this.current === 'promoting') return;
    this.doubt(`a connection ended: ${error?.message ?? 'the primary closed it'}`);
  }

  /** From here on the primary gets no sign any more. True when a claim may follow. */
  private doubt(why: string): boolean {
    this.stats.suspicions += 1;
    if (this.guestEnd.known) {
      this.guestIsOver();
      return false;
    }
    if (this.current !== 'ready') {
      this.rejoin(`the primary was lost before the sync was done (${why})`, undefined);
      return false;
    }
    this.applier.freeze();
    this.session?.hush();
    this.become('suspecting', why);
    return true;
  }

  /** The primary runs its guest no longer, and will not before it has won the witness itself. */
  private handedOver(epoch: number): void {
    const { current, promotion, guestEnd } = this;
    if (promotion !== undefined || current === 'promoting' || guestEnd.known) return;
    if (this.lacksDisk()) return;
    const { held } = this.applier;
    const able = current === 'ready' || current === 'suspecting';
    if (!able || epoch !== held) {
      const message = `Epoch ${epoch} was handed over; this node is ${current} with ${held}.`;
      this.broken(new FtError('FT_ERR_HAND_OVER', message, { epoch, held, state: current }));
      return;
    }
    this.applier.freeze();
    this.session?.hush();
    if (current === 'ready') this.become('suspecting', 'the primary hands the guest over');
    this.claimGuest('switchover');
  }

  private suspect(cause: SuspicionCause, silentMs: number): void {
    const why = cause === 'closed' ? 'link closed' : `silent for ${silentMs.toFixed(1)} ms`;
    // A claim follows at most once on a doubt; with one under way, its outcome decides.
    if (this.promotion !== undefined) return;
    if (this.current !== 'suspecting' && !this.doubt(why)) return;
    this.options.logger.info('the witness is asked for the guest', { event: 'link', why });
    this.claimGuest(cause);
  }

  private claimGuest(cause: TakeoverCause): void {
    this.takeover.begin(cause);
    this.promotion = new Promotion({
      ...this.options,
      generation: this.newestGeneration,
      mayClaim: () => this.disks.error === undefined && !this.peerShowsItself(cause),
      onWon: (generation) => this.claimWon(generation),
      onLost: (record) => this.claimLost(record),
      onNotClaimed: () => this.notClaimed(),
      onUnknown: (error, tries) => this.claimUnknown(error, tries),
    });
  }

  /**
   * The suspected primary is there after all. Who handed over is, and waits for this claim alone; and
   * a session that was dropped for its bytes (`broken`) tells nothing any more, so the claim goes on:
   * what is held is whole, the primary heard of the end and claims as well, and whoever of the two
   * lives has the guest. Leaving it to a primary that may be dead could leave it to nobody.
   */
  private peerShowsItself(cause: TakeoverCause): boolean {
    return cause !== 'switchover' && this.session?.alive === true;
  }

  private claimUnknown(error: FtError, tries: number): void {
    const facts = { code: error.code, cause: error.message, tries };
    const text = 'the witness cannot be reached; this side does not promote';
    if ((tries & (tries - 1)) === 0) this.options.logger.warn(text, facts);
  }

  private claimWon(generation: number): void {
    this.promotion = undefined;
    this.newestGeneration = generation;
    this.become('promoting', `won generation ${generation}`);
    const { machine } = this.options;
    const clock = this.disks.error ?? resumeGuest(this.applier, machine, this.onStandbyLoss);
    if (clock instanceof FtError) {
      this.promotionFailed(clock, generation);
      return;
    }
    const { held, heldAgoUs } = this.applier;
    const takeoverUs = this.takeover.done(clock, heldAgoUs);
    this.session?.leave('the guest runs here', { tookOver: { generation, takeoverUs } });
    this.session = undefined;
    this.become('active', resumedWords(held, this.stats.guestClockStepUs, heldAgoUs));
    this.handlers.onActive(generation);
  }

  /**
   * A guest that was handed over stands still over there, sound: its primary may go on with it in a
   * generation of its own, since nobody runs in ours, and from this turn on nobody will. Why that
   * leaves one active side at most: ../primary/link-end.ts. After any other claim the primary did not
   * give up its right in words, and nothing that is said to it now can be relied on to reach it.
   */
  private promotionFailed(error: FtError, generation: number): void {
    if (this.takeover.cause === 'switchover') {
      const why = `${error.code}: ${error.message}`.slice(0, TEXT_CHARS_MAX);
      this.session?.leave(why, { gaveUp: { generation } });
      this.session = undefined;
      this.applier.stop();
      // Not `promoting` any more: nothing leads from here to a guest that runs.
      this.become('stopped', error.message);
    }
    this.handlers.onPromotionFailed(error);
  }

  private claimLost(record: GenerationRecord): void {
    this.promotion = undefined;
    this.newestGeneration = Math.max(this.newestGeneration, record.generation);
    this.become('fenced', `generation ${record.generation} belongs to ${record.owner}`);
    // Out of date, but for a primary that knows what changed since it is most of a sync.
    if (this.session !== undefined) this.applier.keepImage(this.session.name);
    this.rejoin('the image is out of date', undefined);
  }

  /** An image that failed meanwhile is no guest's: one who can run it may be the primary. */
  private notClaimed(): void {
    this.promotion = undefined;
    if (this.lacksDisk()) return;
    this.session?.watchAgain();
    this.become('ready', 'nobody claimed, and the primary answers');
    const error = this.applier.thaw();
    if (error !== undefined) this.broken(error);
  }

  private become(to: StandbyState, why: string): void {
    const from = this.current;
    this.current = to;
    this.whyNow = why;
    const facts = { event: 'state', role: 'standby', from, to, why, epoch: this.applier.held };
    this.options.logger.info(`standby: ${from} → ${to}`, { ...facts, generation: this.generation });
    this.handlers.onState(from, to);
  }
}
