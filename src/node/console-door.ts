/**
 * The guest's serial console for whoever attaches over the control socket, whatever --console says.
 *
 *   attach ──▶ what was printed last, 64 KiB at most ──▶ what is printed, as it leaves
 *                                        ▲    what is typed goes to the guest, while it runs here
 *   a standby: one line that says so, then nothing until the guest runs here
 *   another life of the node: one line, then the console of its new machine
 *
 * Output comes from the machine's ring, whose bytes have left the outbox: nothing is shown that is
 * not safe (docs/adr/006). Each client keeps a place in that ring, so one that does not read costs
 * nothing but the bytes that it misses, and is told how many. What is typed faster than the guest
 * reads stays with the client.
 */
import type { Duplex } from 'node:stream';
import { FtError } from '../common/errors';
import type { Logger } from '../common/logger';
import type { Machine, MachineConsole } from '../machine/machine';

/** What of a node this looks at. */
export interface ConsoleNode {
  readonly machine: Pick<Machine, 'console'> | undefined;
  /** Undefined while the guest runs elsewhere. */
  readonly primary: object | undefined;
}

const CLIENTS_MAX = 4;
const PIECE_BYTES = 16 * 1024;
/** A guest that has no room for what is typed is asked again so soon. */
const TYPE_AGAIN_MS = 10;
const STANDBY_NOTE =
  'romulus: standby; the guest runs elsewhere, its console comes here when it does\r\n';
const NEW_LIFE_NOTE = '\r\nromulus: the guest left this node, which is a standby now\r\n';

export class ConsoleDoor {
  private readonly clients = new Set<Client>();
  private watched: MachineConsole | undefined;

  constructor(
    private readonly node: ConsoleNode,
    private readonly logger: Logger,
  ) {}

  /** Why nobody can attach now; undefined: somebody can. */
  fault(): FtError | undefined {
    if (this.node.machine !== undefined && this.node.machine.console === undefined) {
      const message = 'The guest of this node has no serial console (--machine simulated).';
      return new FtError('FT_ERR_CONSOLE_NONE', message);
    }
    if (this.clients.size < CLIENTS_MAX) return undefined;
    const message = `${CLIENTS_MAX} clients are attached to the console already; detach one.`;
    return new FtError('FT_ERR_CONTROL_BUSY', message, { clients: this.clients.size });
  }

  /** Takes on a client whose upgrade was answered; `head` is what it has typed by then. */
  attach(socket: Duplex, head: Buffer): void {
    const client = new Client(socket, this.node, () => this.left(client));
    this.clients.add(client);
    this.logger.info('a client is attached to the console', {
      ...{ event: 'console', clients: this.clients.size },
    });
    this.watch();
    client.begin(head);
  }

  /** The node changed its state: it may have another role, or another machine. */
  nodeChanged(): void {
    if (this.clients.size === 0) return;
    this.watch();
    for (const client of [...this.clients]) client.pump();
  }

  close(): void {
    for (const client of [...this.clients]) client.end();
  }

  private left(client: Client): void {
    if (!this.clients.delete(client)) return;
    this.logger.info('a client left the console', {
      ...{ event: 'console', clients: this.clients.size },
    });
    this.watch();
  }

  /** Output of the machine of this life is asked for while somebody is attached. */
  private watch(): void {
    const wanted = this.clients.size === 0 ? undefined : this.node.machine?.console;
    if (wanted === this.watched) return;
    this.watched?.watch(undefined);
    this.watched = wanted;
    wanted?.watch(() => {
      for (const client of [...this.clients]) client.pump();
    });
  }
}

class Client {
  private readonly piece = Buffer.alloc(PIECE_BYTES);
  /** Whose output `place` counts. */
  private console: MachineConsole | undefined;
  private place = 0;
  private typed: Buffer = Buffer.alloc(0);
  private again: NodeJS.Timeout | undefined;
  private hasRoom = true;
  private gone = false;

  constructor(
    private readonly socket: Duplex,
    private readonly node: ConsoleNode,
    private readonly onGone: () => void,
  ) {
    socket.on('data', (typed: Buffer) => this.type(typed));
    socket.on('drain', () => {
      this.hasRoom = true;
      this.pump();
    });
    // Who types no more and still listens cannot be told from who is gone.
    socket.on('end', () => this.end());
    socket.on('close', () => this.finish());
    socket.on('error', () => socket.destroy());
  }

  begin(head: Buffer): void {
    this.console = this.node.machine?.console;
    if (this.node.primary === undefined) this.say(STANDBY_NOTE);
    this.pump();
    if (head.length > 0) this.type(head);
  }

  /** Hands on what was printed, as far as the client takes it. */
  pump(): void {
    if (this.gone) return;
    const current = this.node.machine?.console;
    if (current !== this.console) {
      // Another life: its machine counts from 0.
      if (this.console !== undefined) this.say(NEW_LIFE_NOTE);
      this.console = current;
      this.place = 0;
      this.typed = Buffer.alloc(0);
    }
    while (this.hasRoom && this.console !== undefined) {
      const { first, bytes } = this.console.read(this.place, this.piece);
      if (bytes === 0) return;
      const skipped = this.place === 0 ? 0 : first - this.place;
      if (skipped > 0) this.say(`\r\nromulus: ${skipped} bytes of output were skipped here\r\n`);
      this.place = first + bytes;
      this.hasRoom = this.socket.write(Buffer.from(this.piece.subarray(0, bytes)));
    }
  }

  end(): void {
    if (!this.gone) this.socket.end();
    this.finish();
  }

  private say(note: string): void {
    this.hasRoom = this.socket.write(note) && this.hasRoom;
  }

  private type(typed: Buffer): void {
    this.typed = this.typed.length === 0 ? typed : Buffer.concat([this.typed, typed]);
    this.deliver();
  }

  /** What the guest has no room for waits here, and the rest with the client. */
  private deliver(): void {
    clearTimeout(this.again);
    if (this.gone) return;
    if (this.node.primary === undefined || this.console === undefined) {
      this.typed = Buffer.alloc(0);
    } else {
      this.typed = this.typed.subarray(this.console.type(this.typed));
    }
    if (this.typed.length === 0) {
      this.socket.resume();
      return;
    }
    this.socket.pause();
    this.again = setTimeout(() => this.deliver(), TYPE_AGAIN_MS);
  }

  private finish(): void {
    if (this.gone) return;
    this.gone = true;
    clearTimeout(this.again);
    this.onGone();
  }
}
