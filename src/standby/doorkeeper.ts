/**
 * Judges who connects. Every connection gets DEADLINE_MS to say a hello that fits; strangers,
 * garbage and slow ones are cut off and disturb nobody.
 *
 *   accepted ──▶ first frame is a hello? ──▶ fits ours (compareHello)? ──▶ the role's verdict
 *       │ deadline, close                │ no: cut off     │ no: refuse        │ refuse | prepare
 *       ▼                                ▼                 ▼                   ▼          │
 *                                                              refuse ◀── cannot ─────────┴─▶ welcome
 */
import type { Clock } from '../common/clock';
import { type Facts, FtError } from '../common/errors';
import { LineBudget, type Logger } from '../common/logger';
import type { MachineDescription } from '../machine/machine';
import type { Connection } from '../transport/connection';
import { compareHello } from '../wire/compare-hello';
import { BODY_BYTES_MAX, type Frame, FrameType, PROTOCOL_VERSION } from '../wire/frame';
import { type Hello, packFrame, type Refuse, unpackHello, type Welcome } from '../wire/messages';

const DEADLINE_MS = 2000;
/** Whoever can connect can make this node write: so many lines at once, then one in this time. */
const LINES_AT_ONCE = 10;
const LINE_MS = 1000;

export interface DoorkeeperOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly pair: string;
  readonly nodeId: string;
  readonly machine: MachineDescription;
  readonly suspectAfterMs: number;
}

export interface DoorkeeperHandlers {
  /** A hello that fits. Returns why it is refused, or undefined to welcome it. */
  judge(hello: Hello, generation: number): Refuse | undefined;
  /**
   * Makes ready for a hello that is not refused: for a replication connection, forgets the image
   * and returns what the welcome says of the disks.
   */
  prepare(hello: Hello): Pick<Welcome, 'diskMaps' | 'catchUp'> | Refuse;
  /** The welcome is sent; the connection is the role's from here on. */
  admitted(connection: Connection, hello: Hello, generation: number): void;
  onRefused(): void;
}

export class Doorkeeper {
  private readonly lines = new LineBudget(LINES_AT_ONCE, LINE_MS);

  constructor(
    private readonly options: DoorkeeperOptions,
    private readonly handlers: DoorkeeperHandlers,
  ) {}

  /** A connection was accepted by the listener. */
  accept(connection: Connection): void {
    let done = false;
    const deadline = this.options.clock.after(DEADLINE_MS, () => {
      const message = 'The connection said no hello in time.';
      turnAway(new FtError('FT_ERR_GREETING_TIMEOUT', message));
    });
    const turnAway = (error: FtError): void => {
      if (done) return;
      done = true;
      deadline.cancel();
      this.cutOff(connection, error);
    };
    connection.onClose = (error) => {
      turnAway(error ?? new FtError('FT_ERR_GREETING_CLOSED', 'It closed before a hello.'));
    };
    connection.onFrame = (frame) => {
      if (done) return;
      const hello = this.readHello(frame);
      if (hello instanceof FtError) {
        turnAway(hello);
        return;
      }
      done = true;
      deadline.cancel();
      this.decide(connection, hello, frame.generation);
    };
  }

  private readHello(frame: Frame): Hello | FtError {
    if (frame.type === FrameType.hello) return unpackHello(frame.body);
    const message = `The first frame is of type ${frame.type}, not a hello.`;
    return new FtError('FT_ERR_GREETING', message, { type: frame.type });
  }

  private decide(connection: Connection, hello: Hello, generation: number): void {
    connection.onFrame = () => undefined;
    connection.onClose = () => undefined;
    const verdict =
      impostor(connection.peerNode, hello) ??
      compareHello(this.ours(), hello) ??
      this.handlers.judge(hello, generation) ??
      this.handlers.prepare(hello);
    if ('code' in verdict) {
      this.refuse(connection, hello, verdict);
      return;
    }
    connection.setMaxBodyBytes(BODY_BYTES_MAX);
    const { nodeId, suspectAfterMs } = this.options;
    const welcome = { nodeId, session: hello.session, ...verdict, suspectAfterMs };
    const header = { type: FrameType.welcome, flags: 0, generation, epoch: 0 };
    this.handlers.admitted(connection, hello, generation);
    const { buffer, bytes } = packFrame(welcome);
    connection.send(header, buffer, bytes);
  }

  private refuse(connection: Connection, hello: Hello, refuse: Refuse): void {
    this.handlers.onRefused();
    this.say('a connection was refused', {
      remote: connection.remote,
      peer: hello.nodeId,
      code: refuse.code,
      field: refuse.field,
      ours: refuse.ours,
      theirs: refuse.theirs,
    });
    const header = { type: FrameType.refuse, flags: 0, generation: 0, epoch: 0 };
    const { buffer, bytes } = packFrame(refuse);
    connection.send(header, buffer, bytes);
    connection.close();
  }

  private ours(): Hello {
    const { pair, nodeId, machine } = this.options;
    return {
      protocolVersion: PROTOCOL_VERSION,
      pair,
      nodeId,
      channel: 'replication',
      session: 'none',
      machine,
      diskSyncIds: [],
    };
  }

  /** A line that a stranger caused; `unsaid`: so many were left out before it. */
  private say(message: string, facts: Facts): void {
    const unsaid = this.lines.take(this.options.clock.nowUs());
    if (unsaid === undefined) return;
    const all = { event: 'door', ...facts };
    this.options.logger.warn(message, unsaid === 0 ? all : { ...all, unsaid });
  }

  private cutOff(connection: Connection, error: FtError): void {
    this.handlers.onRefused();
    this.say('a connection that is no peer was cut off', {
      remote: connection.remote,
      code: error.code,
      cause: error.message,
    });
    connection.onFrame = () => undefined;
    connection.onClose = () => undefined;
    connection.close(error);
  }
}

/** Whoever has a certificate goes by the name in it. */
function impostor(certified: string | undefined, { nodeId }: Hello): Refuse | undefined {
  if (certified === undefined || certified === nodeId) return undefined;
  const message =
    `The certificate is of node ${certified}, and the node calls itself ${nodeId}. Start it with ` +
    `--node ${certified}, or give it a certificate of its own.`;
  return refusal('FT_ERR_TLS_NODE', 'nodeId', certified, nodeId, message);
}

/** Why a fitting hello is refused, in the words of the peer's log. */
export function refusal(
  code: string,
  field: string,
  ours: string,
  theirs: string,
  message: string,
): Refuse {
  return { code, field, ours, theirs, message };
}
