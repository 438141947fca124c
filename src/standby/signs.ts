/**
 * The signs that this side gives to its primary: echoes of heartbeats. (Acks, the other kind, pass
 * by here only to be forbidden at the same moment.)
 *
 *   speaking   beat k heard ──▶ echo k at once; every interval a beat with the newest echo again
 *      │  ▲
 * hush │  │ speak: nobody claimed, and the primary answers
 *      ▼  │
 *   hushed     beats go on, with the echo as it was: "I am alive" is no promise, an echo is one
 *
 * A sign is a promise: on silence, nothing is promoted here before suspectAfterMs have passed since
 * what it answers was heard. The primary's output leaves on its strength (docs/adr/031), so from the
 * first doubt on, before a claim is made, no new one is given.
 */
import { assert } from '../common/assert';
import type { FtError } from '../common/errors';
import type { Connection } from '../transport/connection';
import { allocFrameBuffer } from '../wire/buffer-pool';
import { FrameType } from '../wire/frame';
import { HEARTBEAT_BYTES, noHeartbeat, readHeartbeat, writeHeartbeat } from '../wire/heartbeat';

/** What a beat tells of the session's other connection. */
export type ReplicationBytes = Pick<Connection, 'bytesReceived' | 'bytesSent'>;

export interface SignsOptions {
  readonly generation: number;
  /** The newest epoch held. */
  readonly epoch: () => number;
}

export class Signs {
  private connection: Connection | undefined;
  private replication: ReplicationBytes = { bytesReceived: 0, bytesSent: 0 };
  private hushed = false;
  /** A beat is with the connection, and its buffer too. */
  private busy = false;
  /** A beat was heard while the answer to an earlier one was not away yet. */
  private answerDue = false;
  private readonly buffer = allocFrameBuffer(HEARTBEAT_BYTES);
  private readonly ours = noHeartbeat();
  private readonly theirs = noHeartbeat();

  constructor(private readonly options: SignsOptions) {}

  /** The session's heartbeat connection is there. */
  begin(connection: Connection, replication: ReplicationBytes): void {
    this.connection = connection;
    this.replication = replication;
  }

  /** No new sign is given from here on. */
  hush(): void {
    this.hushed = true;
    this.answerDue = false;
  }

  /** Signs are given again: what was heard meanwhile counts as heard from the next beat on. */
  speak(): void {
    this.hushed = false;
  }

  /** An ack is about to leave, which is a sign as well. */
  checkAck(): void {
    assert(!this.hushed, 'a side that may be about to promote acknowledges nothing');
  }

  /** Takes a heartbeat of the primary, and answers it. Error: FT_ERR_MESSAGE. */
  heard(body: Uint8Array): FtError | undefined {
    const error = readHeartbeat(body, this.theirs);
    if (error !== undefined || this.hushed) return error;
    this.ours.echo = Math.max(this.ours.echo, this.theirs.sequence);
    if (this.busy) this.answerDue = true;
    else this.beat();
    return undefined;
  }

  /** Says that this side is alive, and how far it has heard the primary. */
  beat(): void {
    const { connection } = this;
    if (connection === undefined || this.busy) return;
    this.busy = true;
    this.answerDue = false;
    const { generation, epoch } = this.options;
    this.ours.sequence += 1;
    this.ours.received = this.replication.bytesReceived;
    this.ours.sent = this.replication.bytesSent;
    const header = { type: FrameType.heartbeat, flags: 0, generation, epoch: epoch() };
    const bytes = writeHeartbeat(this.ours, this.buffer.body);
    connection.send(header, this.buffer, bytes, this.away);
  }

  /** The session is over: nothing is sent any more. */
  stop(): void {
    this.connection = undefined;
    this.answerDue = false;
  }

  private readonly away = (): void => {
    this.busy = false;
    if (this.answerDue) this.beat();
  };
}
