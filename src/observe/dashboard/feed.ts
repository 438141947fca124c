/**
 * The live feed of the dashboard: a WebSocket on which the node speaks and the page listens.
 *
 *   page ── upgrade (let in by http-server.ts) ──▶ hello: who, recent history, recent events
 *        ◀── sample, every second ── event, as it happens ── …
 *        ◀── ping ── pong ──▶   silence ─▶ dropped
 *
 * Whoever listens costs the node at most BUFFERED_BYTES_MAX: a reader that takes less than it is sent
 * is dropped, and so is one that says anything (there is nothing to say) or pings for ever. A reader
 * too many is told so by a close code, since browsers hide from pages with which status an upgrade
 * was refused. Each message is written as JSON once for all readers, and not at all when nobody is
 * there.
 */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { offeredProtocols } from '../http-access';
import { refuseUpgrade } from '../http-server';

/** What pages offer, and get back, as the WebSocket's subprotocol. */
export const FEED_PROTOCOL = 'romulus-feed-1';

export interface FeedLimits {
  readonly readersMax: number;
  /** What one reader may leave unread. */
  readonly bufferedBytesMax: number;
  /** Time between pings; who has not answered one when the next is due is dropped. */
  readonly pingMs: number;
}

export const FEED_LIMITS: FeedLimits = {
  readersMax: 16,
  bufferedBytesMax: 512 * 1024,
  pingMs: 5000,
};

/** Close codes of RFC 6455. */
const GOING_AWAY = 1001;
const POLICY = 1008;
/** "Try again later", of the same registry. */
const FULL = 1013;
/** Who does not answer a farewell is not waited for. */
const FAREWELL_MS = 100;
/** Pages say nothing; a control frame has at most 125 bytes. */
const MESSAGE_BYTES_MAX = 125;
/** Pings of a reader's own that are answered between two of ours; some programs send them. */
const PINGS_MAX = 8;

/** Since our last ping. */
interface Heard {
  answered: boolean;
  pings: number;
}

export class Feed {
  private readonly sockets: WebSocketServer;
  /** Readers, and what each has said. */
  private readonly readers = new Map<WebSocket, Heard>();
  private timer: NodeJS.Timeout | undefined;

  /** `hello` makes what a new reader is told first. */
  constructor(
    private readonly hello: () => object,
    private readonly limits: FeedLimits = FEED_LIMITS,
  ) {
    this.sockets = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      autoPong: false,
      maxPayload: MESSAGE_BYTES_MAX,
      perMessageDeflate: false,
      handleProtocols: (offered) => (offered.has(FEED_PROTOCOL) ? FEED_PROTOCOL : false),
    });
  }

  /** Who listens now. */
  get readerCount(): number {
    return this.readers.size;
  }

  /** Takes the socket of a request that was let in. */
  accept(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const offered = offeredProtocols(request);
    if (offered[0] !== '' && !offered.includes(FEED_PROTOCOL)) refuseUpgrade(socket, 400);
    else this.sockets.handleUpgrade(request, socket, head, (reader) => this.greet(reader));
  }

  /** Sends a message to everybody. */
  publish(message: object): void {
    if (this.readers.size === 0) return;
    const text = JSON.stringify(message);
    for (const reader of this.readers.keys()) this.send(reader, text);
  }

  /** Lets everybody go: the proof that they came with is not good any more, or the node ends. */
  dropAll(why: string): void {
    for (const reader of [...this.readers.keys()]) {
      sendAway(reader, GOING_AWAY, why);
      this.forget(reader);
    }
  }

  close(): void {
    this.dropAll('this node ends');
    clearInterval(this.timer);
    this.timer = undefined;
  }

  private greet(reader: WebSocket): void {
    if (this.readers.size >= this.limits.readersMax) {
      sendAway(reader, FULL, 'as many as may look on do so');
      return;
    }
    const heard: Heard = { answered: true, pings: 0 };
    this.readers.set(reader, heard);
    this.timer ??= setInterval(() => this.look(), this.limits.pingMs).unref();
    reader.on('pong', () => {
      heard.answered = true;
    });
    reader.on('ping', (data: Buffer) => {
      heard.pings += 1;
      if (heard.pings <= PINGS_MAX) reader.pong(data, false, () => undefined);
      else reader.terminate();
    });
    reader.on('message', () => reader.close(POLICY, 'nothing is asked here'));
    reader.on('error', () => reader.terminate());
    reader.on('close', () => this.forget(reader));
    this.send(reader, JSON.stringify(this.hello()));
  }

  private send(reader: WebSocket, text: string): void {
    if (reader.readyState !== reader.OPEN) return;
    if (reader.bufferedAmount + text.length > this.limits.bufferedBytesMax) {
      this.forget(reader);
      reader.terminate();
      return;
    }
    reader.send(text, () => undefined);
  }

  private look(): void {
    for (const [reader, heard] of this.readers) {
      if (!heard.answered) {
        this.forget(reader);
        reader.terminate();
        continue;
      }
      heard.answered = false;
      heard.pings = 0;
      reader.ping();
    }
  }

  private forget(reader: WebSocket): void {
    this.readers.delete(reader);
    if (this.readers.size > 0) return;
    clearInterval(this.timer);
    this.timer = undefined;
  }
}

function sendAway(reader: WebSocket, code: number, why: string): void {
  reader.on('error', () => reader.terminate());
  reader.close(code, why);
  setTimeout(() => reader.terminate(), FAREWELL_MS).unref();
}
