/**
 * Stands between a connection and Node's HTTP server, and hands on one request at a time. Node parses
 * all of a packet in one go: two thousand small requests in it would hold up this node's heartbeats
 * for a tenth of a second, before anybody was asked who they are.
 *
 *            head's bytes, as they come
 *   ┌──────┐ ── blank line handed on ──▶ ┌───────────┐ ── upgraded ──▶ ┌─────────┐ all bytes, both
 *   │ head │                             │ answering │                 │ through │ ways, for ever
 *   └──────┘ ◀── answered, a turn later ─┴───────────┘                 └─────────┘
 *                    what comes meanwhile │  ▲  is held, and the connection read no further
 *                          body expected  ▼  │  all of it handed on
 *                                        body
 *
 * A head ends with a line of nothing but CR and LF. However a request is framed, Node cannot find the
 * end of a second head in what it gets before the first is answered, and between two answers
 * everything else of the node has its turn. A body is handed on only to a server that expects one,
 * and as long as its request said. At most two reads of a socket (128 KiB) are held.
 */
import type { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';

const CR = 0x0d;
const LF = 0x0a;

type State = 'head' | 'answering' | 'body' | 'through' | 'over';

/** Takes the place of `source`, which nobody else reads or writes from then on. */
export class HeadFilter extends Duplex {
  readonly remoteAddress: string | undefined;
  readonly remotePort: number | undefined;
  /** How many were handed on, whole. */
  heads = 0;
  private state: State = 'head';
  /** What came after the head that is being answered. */
  private held: Buffer[] = [];
  /** Of the head that is being read: whether it has begun, and what its line has beside CRs. */
  private begun = false;
  private lineBytes = 0;
  /** Of the body that is being read: what is to come. */
  private bodyBytes = 0;
  private ended = false;

  constructor(private readonly source: Socket) {
    super({ allowHalfOpen: true });
    this.remoteAddress = source.remoteAddress;
    this.remotePort = source.remotePort;
    source.on('data', (bytes: Buffer) => this.arrived(bytes));
    source.on('end', () => {
      this.ended = true;
      this.endIfDone();
    });
    source.on('timeout', () => this.emit('timeout'));
    source.on('error', () => this.destroy());
    source.on('close', () => this.destroy());
    // Its client may have gone while it waited to be let in.
    if (source.readableEnded) {
      this.ended = true;
      process.nextTick(() => this.endIfDone());
    }
  }

  /** The client's certificate was signed by an authority of ours. */
  get authorized(): boolean {
    return this.source instanceof TLSSocket && this.source.authorized;
  }

  getPeerX509Certificate(): X509Certificate | undefined {
    return this.source instanceof TLSSocket ? this.source.getPeerX509Certificate() : undefined;
  }

  /** The request was answered: the next may come, after whatever else this process has to do. */
  answered(): void {
    setImmediate(() => {
      if (this.state !== 'answering' || this.destroyed) return;
      this.state = 'head';
      this.goOn();
    });
  }

  /** The request that was handed on has a body of so many bytes, which are to be handed on as well. */
  expectBody(bytes: number): void {
    if (this.state !== 'answering' || bytes <= 0) return;
    this.bodyBytes = bytes;
    this.state = 'body';
    // The parser, which has just said that the head is whole, takes nothing until it has returned.
    process.nextTick(() => this.goOn());
  }

  /** The answer goes on until the client ends; whatever else it says is thrown away. */
  answerIsEndless(): void {
    this.state = 'over';
    this.held = [];
    this.source.resume();
    process.nextTick(() => this.endIfDone());
  }

  /** What comes from now on is no HTTP. */
  passThrough(): void {
    this.state = 'through';
    this.goOn();
  }

  // What Node's HTTP server and ws ask of a socket beside a Duplex's methods.

  setTimeout(ms: number): this {
    this.source.setTimeout(ms);
    return this;
  }

  setNoDelay(isOn?: boolean): this {
    this.source.setNoDelay(isOn);
    return this;
  }

  /** Ends the connection when all is written; what still comes is thrown away. */
  destroySoon(): void {
    this.state = 'over';
    this.held = [];
    this.source.resume();
    if (this.writableFinished) this.destroy();
    else this.once('finish', () => this.destroy());
    this.end();
  }

  override _read(): void {
    if (this.held.length === 0) this.source.resume();
  }

  override _write(bytes: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.source.write(bytes, done);
  }

  override _writev(
    pieces: { chunk: Buffer; encoding: BufferEncoding }[],
    done: (error?: Error | null) => void,
  ): void {
    this.source.write(Buffer.concat(pieces.map(({ chunk }) => chunk)), done);
  }

  override _final(done: (error?: Error | null) => void): void {
    // Called without an error when the other side closed first.
    this.source.end(() => done());
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.state = 'over';
    this.held = [];
    this.source.destroy();
    done(error);
  }

  private arrived(bytes: Buffer): void {
    if (this.state === 'through') this.handOn(bytes);
    else if (this.state !== 'over') {
      this.held.push(bytes);
      this.takePart();
    }
  }

  /** In a new state: with what is held, and then with what comes. */
  private goOn(): void {
    if (this.state === 'through') for (const bytes of this.held.splice(0)) this.handOn(bytes);
    else this.takePart();
    if (this.held.length === 0) this.source.resume();
    this.endIfDone();
  }

  /** Hands on what is held, up to the end of one head, or of the body that is expected. */
  private takePart(): void {
    while (this.state === 'head' || this.state === 'body') {
      const bytes = this.held.shift();
      if (bytes === undefined) return;
      const end = this.state === 'head' ? this.endOfHead(bytes) : this.endOfBody(bytes);
      if (end < bytes.length) this.held.unshift(bytes.subarray(end));
      this.handOn(end < bytes.length ? bytes.subarray(0, end) : bytes);
    }
    if (this.held.length > 0) this.source.pause();
  }

  /** Where these bytes' head ends, in bytes; all of them when they hold no blank line. */
  private endOfHead(bytes: Buffer): number {
    for (let n = 0; n < bytes.length; n += 1) {
      const byte = bytes[n];
      if (byte === LF) {
        if (this.begun && this.lineBytes === 0) {
          this.begun = false;
          this.heads += 1;
          this.state = 'answering';
          return n + 1;
        }
        this.lineBytes = 0;
      } else if (byte !== CR) {
        this.begun = true;
        this.lineBytes += 1;
      }
    }
    return bytes.length;
  }

  private endOfBody(bytes: Buffer): number {
    const end = Math.min(bytes.length, this.bodyBytes);
    this.bodyBytes -= end;
    if (this.bodyBytes === 0) this.state = 'answering';
    return end;
  }

  private handOn(bytes: Buffer): void {
    if (!this.push(bytes)) this.source.pause();
  }

  private endIfDone(): void {
    if (this.ended && this.held.length === 0 && this.state !== 'answering') this.push(null);
  }
}
