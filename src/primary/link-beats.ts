/**
 * The heartbeat of a link that is up: says that this side is alive, hears that the standby is, and
 * watches with that whether the other connection still brings anything.
 *
 *   begin ─▶ beat k every interval ──▶          ◀── beat m of the standby, echo k' ─▶ onEcho
 *                └─ looks at the replication connection: link-watch.ts
 *   no sign within suspectAfterMs ─▶ onSilent
 */
import { FtError } from '../common/errors';
import { Pulse } from '../common/pulse';
import type { Connection } from '../transport/connection';
import { allocFrameBuffer } from '../wire/buffer-pool';
import { type Frame, FrameType } from '../wire/frame';
import { HEARTBEAT_BYTES, noHeartbeat, readHeartbeat, writeHeartbeat } from '../wire/heartbeat';
import type { LinkHandlers, LinkOptions } from './link-types';
import { LinkWatch } from './link-watch';

export interface LinkBeatsHandlers extends Pick<LinkHandlers, 'onBeat' | 'onEcho'> {
  /** The standby is silent or mute, or the replication connection is stuck: the link is lost. */
  onLost(error: FtError): void;
}

export class LinkBeats {
  private readonly pulse: Pulse;
  private readonly watch: LinkWatch;
  private readonly buffer = allocFrameBuffer(HEARTBEAT_BYTES);
  private readonly ours = noHeartbeat();
  private readonly theirs = noHeartbeat();
  private replication: Connection | undefined;
  private heartbeat: Connection | undefined;
  /** A beat is with a connection, maybe that of the link before, and the buffer too. */
  private busy = false;

  constructor(
    private readonly options: LinkOptions,
    private readonly handlers: LinkBeatsHandlers,
  ) {
    this.watch = new LinkWatch(options);
    this.pulse = new Pulse({
      clock: options.clock,
      intervalMs: options.heartbeatIntervalMs,
      suspectAfterMs: options.suspectAfterMs,
      beat: () => this.beat(),
      onSuspect: (why, silentMs) => this.silent(why, silentMs),
    });
  }

  /** Heartbeats of the standby that came late. */
  get late(): number {
    return this.pulse.detector.late;
  }

  begin(replication: Connection, heartbeat: Connection): void {
    this.replication = replication;
    this.heartbeat = heartbeat;
    Object.assign(this.ours, noHeartbeat());
    Object.assign(this.theirs, noHeartbeat());
    this.watch.begin();
    this.pulse.start();
  }

  stop(): void {
    this.pulse.stop();
    this.replication = undefined;
    this.heartbeat = undefined;
  }

  /** The standby gave a sign of life. */
  sign(): void {
    this.pulse.detector.heard();
  }

  /** The guest was handed over: the standby is expected to be mute. */
  handedOver(): void {
    this.watch.noEchoes();
  }

  /** A beat of the standby; an error ends the link. */
  heard(frame: Frame): FtError | undefined {
    const damaged = readHeartbeat(frame.body, this.theirs);
    if (damaged !== undefined) return damaged;
    this.ours.echo = this.theirs.sequence;
    this.watch.heard();
    return this.handlers.onEcho(this.theirs.echo);
  }

  private beat(): void {
    const { heartbeat, replication, ours } = this;
    if (heartbeat === undefined || replication === undefined) return;
    const stuck = this.watch.look(replication, ours.sequence, this.theirs);
    if (stuck !== undefined) {
      this.handlers.onLost(stuck);
      return;
    }
    if (this.busy) return;
    this.busy = true;
    const { generation, epoch } = this.options;
    const header = {
      type: FrameType.heartbeat,
      flags: 0,
      generation: generation(),
      epoch: epoch(),
    };
    ours.sequence = this.handlers.onBeat();
    ours.received = replication.bytesReceived;
    ours.sent = replication.bytesSent;
    const bytes = writeHeartbeat(ours, this.buffer.body);
    heartbeat.send(header, this.buffer, bytes, () => {
      this.busy = false;
    });
  }

  private silent(why: 'silence' | 'closed', silentMs: number): void {
    const message = `The standby has been silent for ${silentMs.toFixed(1)} ms.`;
    this.handlers.onLost(new FtError('FT_ERR_PEER_SILENT', message, { silentMs, why }));
  }
}
