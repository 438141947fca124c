/**
 * The link to a standby: two connections of one session, dialled again and again until one answers.
 *
 *   idle ──start──▶ dialling ──▶ greeting ──▶ pulse dialling ──▶ pulse greeting ──▶ up
 *                     ▲             │ refused, closed, 2 s passed      │             │
 *                     └── backoff ◀─┴──────────────────────────────────┘             │
 *                     ▲                                                              ▼
 *                     └──────────── restart() by the owner ◀── down (lost | bye) ────┘
 *
 * Of several candidates each gets its turn, one right after the other; the backoff comes when none of
 * them was any good. The first that answers is taken; when it is lost it is tried first again.
 *
 * After `down` the link rests: whether and when to dial again is the role's decision.
 */
import type { Timer } from '../common/clock';
import { FtError } from '../common/errors';
import type { Connection } from '../transport/connection';
import { allocHeaderBuffer } from '../wire/buffer-pool';
import {
  BODY_BYTES_MAX,
  BODY_BYTES_MAX_WELCOME,
  type Frame,
  FrameType,
  PROTOCOL_VERSION,
} from '../wire/frame';
import {
  type Bye,
  type CatchUpFrom,
  type Channel,
  packFrame,
  unpackBye,
  unpackRefuse,
  unpackWelcome,
  type Welcome,
} from '../wire/messages';
import { LinkBeats } from './link-beats';
import type { Dial, LinkDown, LinkHandlers, LinkOptions, LinkPeer } from './link-types';
import { diskMapsFault } from './peer-disks';

const GREETING_MS = 2000;
const BACKOFF_MS_MIN = 20;
const BACKOFF_MS_MAX = 250;
/** From a candidate that was tried in vain to the next one. */
const NEXT_MS = 1;
/** A refusal stands until somebody changes something over there. */
const REFUSED_MS = 1000;
/** A link that was up this long was a good one. */
const LASTING_MS = 1000;

export class Link {
  private state: 'idle' | 'dialling' | 'up' = 'idle';
  private attempt = 0;
  private dials: readonly Dial[];
  private candidate = 0;
  private backoffMs = BACKOFF_MS_MIN;
  private restMs = 0;
  private retired = false;
  private upAtUs = 0;
  private timer: Timer | undefined;
  private session = '';
  private syncIds: readonly string[] = [];
  private catchUpFrom: CatchUpFrom | undefined;
  private peer: LinkPeer = {
    ...{ standbyId: '', session: '', diskMaps: [] },
    ...{ suspectAfterMs: 0, catchUp: false },
  };
  private replication: Connection | undefined;
  private heartbeat: Connection | undefined;
  private readonly beats: LinkBeats;
  /** What each candidate was last heard to say against a session, by its place in the list. */
  private readonly refusedBefore = new Map<number, string>();

  constructor(
    private readonly options: LinkOptions,
    private readonly handlers: LinkHandlers,
  ) {
    this.dials = options.dials;
    this.beats = new LinkBeats(options, {
      onBeat: () => handlers.onBeat(),
      onEcho: (sequence) => handlers.onEcho(sequence),
      onLost: (error) => this.down({ kind: 'lost', error }, error),
    });
  }

  get up(): boolean {
    return this.state === 'up';
  }

  /** Heartbeats of the standby that came late. */
  get lateHeartbeats(): number {
    return this.beats.late;
  }

  /** Dials until a standby answers. Without candidates, or retired, the link stays idle. */
  start(): void {
    if (this.state !== 'idle' || this.dials.length === 0 || this.retired) return;
    this.state = 'dialling';
    if (this.attempt === 0) this.dialReplication();
    else this.timer = this.options.clock.after(this.backoffMs, () => this.dialReplication());
  }

  /**
   * Other candidates, from the next start() on. A try that is under way is given up, and the link is
   * idle then; a session that goes on is left alone, whoever it is with.
   */
  setDials(dials: readonly Dial[]): void {
    this.dials = dials;
    this.candidate = 0;
    this.backoffMs = BACKOFF_MS_MIN;
    this.refusedBefore.clear();
    if (this.state !== 'dialling') return;
    this.dropConnections(undefined);
    this.state = 'idle';
  }

  /** Drops everything without a word to the handlers. A `bye` reaches the standby if it can. */
  stop(bye?: Bye): void {
    if (bye !== undefined && this.state === 'up') this.sendBye(bye);
    this.dropConnections(undefined);
    this.state = 'idle';
  }

  /** No standby is of any use from here on: the one that is there stays, and nobody else is dialled. */
  retire(): void {
    this.retired = true;
  }

  /** Cuts the link as lost, because of what was found; onDown follows at once. No standby is dialled
   * for `restMs` after that. */
  fail(error: FtError, restMs = 0): void {
    if (this.state !== 'up') return;
    this.restMs = restMs;
    this.down({ kind: 'lost', error }, error);
  }

  /** Gives up the right to run the guest, whose last epoch was `epoch`. */
  sendHandOver(epoch: number): void {
    const generation = this.options.generation();
    const header = { type: FrameType.handOver, flags: 0, generation, epoch };
    this.beats.handedOver();
    this.replication?.send(header, allocHeaderBuffer(), 0);
  }

  // ── dialling ───────────────────────────────────────────────────────────────────────────────────

  private dialReplication(): void {
    this.attempt += 1;
    this.session = this.options.drawSession();
    this.syncIds = this.options.diskSyncIds();
    this.catchUpFrom = this.options.catchUpFrom();
    this.dial('replication', (connection, welcome) => {
      this.replication = connection;
      const { nodeId, session, diskMaps, suspectAfterMs, catchUp = false } = welcome;
      this.peer = { standbyId: nodeId, session, diskMaps, suspectAfterMs, catchUp };
      this.dial('heartbeat', (second) => {
        this.heartbeat = second;
        this.goUp();
      });
    });
  }

  private dial(
    channel: Channel,
    onWelcome: (connection: Connection, welcome: Welcome) => void,
  ): void {
    const attempt = this.attempt;
    const current = this.dials[this.candidate % this.dials.length];
    if (current === undefined) return;
    this.timer?.cancel();
    this.timer = this.options.clock.after(GREETING_MS, () => {
      this.retry(
        attempt,
        new FtError('FT_ERR_GREETING_TIMEOUT', 'The standby did not greet in time.'),
      );
    });
    current(
      (connection) => {
        if (attempt !== this.attempt || this.state !== 'dialling') {
          connection.close();
          return;
        }
        if (channel === 'replication') this.replication = connection;
        else this.heartbeat = connection;
        this.greet(connection, channel, attempt, onWelcome);
      },
      (error) => {
        // Nobody there is ordinary; somebody who is not believed is for the operator.
        if (attempt === this.attempt && error.code.startsWith('FT_ERR_TLS_')) {
          this.sayOnce(error);
          this.backoffMs = REFUSED_MS;
        }
        this.retry(attempt, error);
      },
    );
  }

  private greet(
    connection: Connection,
    channel: Channel,
    attempt: number,
    onWelcome: (connection: Connection, welcome: Welcome) => void,
  ): void {
    connection.onClose = (error) => {
      const why =
        error ?? new FtError('FT_ERR_GREETING_CLOSED', 'The standby closed the greeting.');
      this.retry(attempt, why);
    };
    connection.onFrame = (frame) => {
      if (attempt !== this.attempt) return;
      if (frame.type === FrameType.refuse) {
        this.refused(attempt, frame);
        return;
      }
      const welcome = this.readWelcome(frame, channel, connection.peerNode);
      if (welcome instanceof FtError) {
        this.sayOnce(welcome);
        this.retry(attempt, welcome);
        return;
      }
      connection.onFrame = () => undefined;
      connection.setMaxBodyBytes(BODY_BYTES_MAX);
      onWelcome(connection, welcome);
    };
    connection.setMaxBodyBytes(BODY_BYTES_MAX_WELCOME);
    const hello = {
      protocolVersion: PROTOCOL_VERSION,
      pair: this.options.pair,
      nodeId: this.options.nodeId,
      channel,
      session: this.session,
      machine: this.options.machine,
      diskSyncIds: this.syncIds,
      ...(this.catchUpFrom === undefined ? {} : { catchUp: this.catchUpFrom }),
    };
    const header = {
      type: FrameType.hello,
      flags: 0,
      generation: this.options.generation(),
      epoch: 0,
    };
    const { buffer, bytes } = packFrame(hello);
    connection.send(header, buffer, bytes);
  }

  /** The standby's answer, if it is one that can be gone on with. */
  private readWelcome(
    frame: Frame,
    channel: Channel,
    certified: string | undefined,
  ): Welcome | FtError {
    if (frame.type !== FrameType.welcome) {
      const message = `The standby greets with a frame of type ${frame.type}.`;
      return new FtError('FT_ERR_GREETING', message);
    }
    const welcome = unpackWelcome(frame.body);
    if (welcome instanceof FtError) return welcome;
    if (welcome.session !== this.session) {
      const message = 'The standby answers for another session than ours.';
      return new FtError('FT_ERR_GREETING', message);
    }
    const { nodeId } = welcome;
    const both = channel === 'heartbeat' ? this.peer.standbyId : nodeId;
    if (nodeId !== both || (certified !== undefined && certified !== nodeId)) {
      const message =
        `The standby calls itself ${nodeId}, and it is ${certified ?? both} by its certificate or ` +
        'by what it said before. Check which files --tls-cert and --node name on that host.';
      return new FtError('FT_ERR_PEER_NAME', message, { theirs: nodeId, certified });
    }
    if (channel === 'heartbeat') return welcome;
    if (welcome.catchUp === true && this.catchUpFrom === undefined) {
      const message = 'The standby wants to catch up, and was not asked to.';
      return new FtError('FT_ERR_GREETING', message);
    }
    return diskMapsFault(welcome.diskMaps, this.options.machine.disks, this.syncIds) ?? welcome;
  }

  private refused(attempt: number, frame: Frame): void {
    const refuse = unpackRefuse(frame.body);
    if (refuse instanceof FtError) {
      this.retry(attempt, refuse);
      return;
    }
    const facts = { field: refuse.field, standby: refuse.ours, here: refuse.theirs };
    const error = new FtError(refuse.code, `The standby refuses: ${refuse.message}`, facts);
    this.sayOnce(error);
    // A busy standby may just not know yet that the last session is over; other reasons stay.
    if (refuse.code !== 'FT_ERR_BUSY') this.backoffMs = REFUSED_MS;
    this.retry(attempt, error);
  }

  /** Says why no session comes about, once, then again only when the candidate's reason changes. */
  private sayOnce(error: FtError): void {
    const candidate = this.candidate % this.dials.length;
    if (this.refusedBefore.get(candidate) !== error.message) this.handlers.onRefused(error);
    this.refusedBefore.set(candidate, error.message);
  }

  private retry(attempt: number, error: FtError): void {
    if (attempt !== this.attempt || this.state !== 'dialling') return;
    this.dropConnections(error);
    this.candidate += 1;
    if (this.candidate % this.dials.length !== 0) {
      this.timer = this.options.clock.after(NEXT_MS, () => this.dialReplication());
      return;
    }
    const waitMs = this.backoffMs;
    this.backoffMs = Math.min(BACKOFF_MS_MAX, this.backoffMs * 2);
    this.timer = this.options.clock.after(waitMs, () => this.dialReplication());
  }

  // ── up ─────────────────────────────────────────────────────────────────────────────────────────

  private goUp(): void {
    const { replication, heartbeat } = this;
    if (replication === undefined || heartbeat === undefined) return;
    this.timer?.cancel();
    this.state = 'up';
    this.refusedBefore.clear();
    this.upAtUs = this.options.clock.nowUs();
    replication.onFrame = (frame) => this.received(frame);
    replication.onTurn = () => {
      if (this.state === 'up') this.handlers.onTurn();
    };
    replication.onClose = (error) => this.closed(error);
    heartbeat.onFrame = (frame) => this.heardBeat(frame);
    heartbeat.onClose = (error) => this.closed(error);
    this.beats.begin(replication, heartbeat);
    this.handlers.onUp(replication, this.peer);
  }

  private received(frame: Frame): void {
    if (this.state !== 'up') return;
    this.beats.sign();
    if (frame.type === FrameType.bye) this.saidBye(frame);
    else this.handlers.onFrame(frame);
  }

  private heardBeat(frame: Frame): void {
    if (this.state !== 'up') return;
    this.beats.sign();
    if (frame.type === FrameType.bye) this.saidBye(frame);
    else if (frame.type !== FrameType.heartbeat) {
      const message = `A frame of type ${frame.type} came on the heartbeat connection.`;
      this.fail(new FtError('FT_ERR_FRAME_UNEXPECTED', message, { type: frame.type }));
    } else {
      const error = this.beats.heard(frame);
      if (error !== undefined) this.fail(error);
    }
  }

  /** A bye counts only when it speaks of the generation that runs here. */
  private saidBye(frame: Frame): void {
    // What came before the word counts as before it.
    this.handlers.onTurn();
    if (this.state !== 'up') return;
    const bye = unpackBye(frame.body);
    if (bye instanceof FtError) this.fail(bye);
    else if (frame.generation !== this.options.generation()) {
      const message = `The standby left generation ${frame.generation}, not ours.`;
      this.fail(new FtError('FT_ERR_BYE', message, { generation: frame.generation }));
    } else if (bye.tookOver !== undefined) {
      const message = `The standby runs the guest in generation ${bye.tookOver.generation}.`;
      const error = new FtError('FT_ERR_SUPERSEDED', message, { ...bye.tookOver });
      this.down({ kind: 'took-over', tookOver: bye.tookOver, error }, undefined);
    } else if (bye.gaveUp !== undefined) {
      const { generation } = bye.gaveUp;
      const message = `The standby won generation ${generation} and cannot run the guest: ${bye.reason}`;
      const error = new FtError('FT_ERR_GAVE_UP', message, { generation });
      this.down({ kind: 'gave-up', generation, error }, undefined);
    } else this.down({ kind: 'bye', reason: bye.reason }, undefined);
  }

  private closed(error: FtError | undefined): void {
    if (this.state !== 'up') return;
    const why = error ?? new FtError('FT_ERR_LINK_CLOSED', 'The standby closed the link.');
    this.down({ kind: 'lost', error: why }, error);
  }

  private down(down: LinkDown, error: FtError | undefined): void {
    if (this.state !== 'up') return;
    this.state = 'idle';
    // A link that comes up and breaks at once must not be dialled in a tight circle.
    const lastedMs = (this.options.clock.nowUs() - this.upAtUs) / 1000;
    const doubled = Math.min(BACKOFF_MS_MAX, this.backoffMs * 2);
    this.backoffMs = Math.max(this.restMs, lastedMs >= LASTING_MS ? BACKOFF_MS_MIN : doubled);
    this.restMs = 0;
    this.dropConnections(error);
    this.handlers.onDown(down);
  }

  /** On both connections, since the end of either must not overtake the word. */
  private sendBye(bye: Bye): void {
    for (const connection of [this.replication, this.heartbeat]) {
      const header = {
        type: FrameType.bye,
        flags: 0,
        generation: this.options.generation(),
        epoch: this.options.epoch(),
      };
      const { buffer, bytes } = packFrame(bye);
      connection?.send(header, buffer, bytes);
    }
  }

  private dropConnections(error: FtError | undefined): void {
    this.attempt += 1;
    this.timer?.cancel();
    this.timer = undefined;
    this.beats.stop();
    const { replication, heartbeat } = this;
    this.replication = undefined;
    this.heartbeat = undefined;
    for (const connection of [replication, heartbeat]) {
      if (connection === undefined) continue;
      connection.onFrame = () => undefined;
      connection.onTurn = () => undefined;
      connection.onDrain = () => undefined;
      connection.onClose = () => undefined;
      connection.close(error);
    }
  }
}
