/**
 * Many UDP clients in one process, cheap on the CPU: the pair under test shares two cores with them.
 *
 * Each client has at most one request outstanding:
 *
 *   idle ──due──▶ waiting ──answer──▶ idle
 *                   │  ▲
 *                   └──┘ no answer for retryMs, then ever longer: the same request once more
 *
 * One timer serves all clients. Requests are written into a buffer per client, everything said and
 * heard goes into the History.
 */
import dgram from 'node:dgram';
import { monotonicUs } from '../process/time';
import { History } from './oracle-history';
import { At, isAnswer, isDiskOp, Op, REQUEST_BYTES, Status, writeRequest } from './oracle-layout';
import { ArrivalLog, LatencyLog, type LatencySummary } from './oracle-meter';

/** How the clients behave; all have defaults but the address. */
export interface ClientOptions {
  readonly host: string;
  readonly port: number;
  /** Clients, each with a socket and a client number of its own. Default 16. */
  readonly clients?: number;
  /** Requests a second of all clients together; 0: each asks again as soon as it is answered. */
  readonly ratePerSecond?: number;
  /** Keys that puts and gets choose from. Default 512. */
  readonly keys?: number;
  /** Shares of incr, put and get. Default [2, 1, 1]. */
  readonly mix?: readonly [number, number, number];
  /** Also write blocks and read them back; each client has blocks of its own. */
  readonly disk?: DiskOptions;
  /** First retry, and the longest wait between two, ms. Defaults 20 and 60. */
  readonly retryMs?: number;
  readonly retryMsMax?: number;
  /** First client number; the numbers above it belong to this process. Default 1. */
  readonly firstClient?: number;
  readonly seed?: number;
}

/** What the clients do with a disk of the guest. */
export interface DiskOptions {
  /** Shares of writing, reading and discarding, beside those of `mix`. */
  readonly shares: readonly [number, number, number];
  /** Number of the disk. */
  readonly disk: number;
  /** The blocks of the first client begin here; the others' follow. */
  readonly firstBlock: number;
  readonly blocksPerClient: number;
}

/** What the control client asks: u64 as bigint. */
export interface ControlRequest {
  readonly op: number;
  readonly a?: bigint;
  readonly b?: bigint;
  readonly c?: bigint;
}

export interface ClientSample {
  readonly requests: number;
  readonly answered: number;
  readonly waiting: number;
  readonly retries: number;
  readonly latency: LatencySummary;
}

const NONE = -1;
const NO_DISK = { firstBlock: 0, blocksPerClient: 1 };

class Client {
  readonly buffer = Buffer.alloc(REQUEST_BYTES);
  /** History index of request n at n − 1. */
  readonly indices: number[] = [];
  outstanding = NONE;
  sentUs = 0;
  dueUs = 0;
  retryAtUs = 0;
  retryUs = 0;
  onAnswer: ((answer: Buffer) => void) | undefined;
  /** Its blocks that were ever written. */
  readonly written = new Set<bigint>();

  constructor(
    readonly id: number,
    readonly socket: dgram.Socket,
  ) {}
}

/** The clients; every method is called on the event loop. */
export class OracleClients {
  readonly history = new History();
  readonly arrivals = new ArrivalLog();
  /** The answers to disk writes and reads alone. */
  readonly diskArrivals = new ArrivalLog();
  private readonly latencies = new LatencyLog();
  private readonly clients: Client[] = [];
  private readonly putKeys = new Set<number>();
  private readonly offsetUs = monotonicUs() - performance.now() * 1000;
  private readonly retryUs: number;
  private readonly retryUsMax: number;
  private readonly keys: number;
  private readonly mix: readonly [number, number, number];
  private ratePerSecond: number;
  private control: Client | undefined;
  private random: number;
  private asking = false;
  private retries = 0;
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly options: ClientOptions) {
    this.retryUs = (options.retryMs ?? 20) * 1000;
    this.retryUsMax = (options.retryMsMax ?? 60) * 1000;
    this.keys = options.keys ?? 512;
    this.mix = options.mix ?? [2, 1, 1];
    this.ratePerSecond = options.ratePerSecond ?? 1000;
    this.random = (options.seed ?? 0x2545f491) >>> 0 || 1;
  }

  /** Opens the sockets and starts the timer; no request is made yet. */
  async open(): Promise<void> {
    const first = this.options.firstClient ?? 1;
    const count = this.options.clients ?? 16;
    for (let i = 0; i < count; i++) this.clients.push(await this.openClient(first + i));
    this.control = await this.openClient(first + count);
    this.timer = setInterval(() => this.tick(), 1);
  }

  close(): void {
    clearInterval(this.timer);
    for (const client of this.all()) client.socket.close();
  }

  /** From now on the clients ask, `ratePerSecond` together (see ClientOptions). */
  start(ratePerSecond = this.ratePerSecond): void {
    this.ratePerSecond = ratePerSecond;
    this.asking = true;
    const nowUs = this.nowUs();
    for (const client of this.clients) client.dueUs = nowUs + this.pauseUs() * this.nextRandom();
  }

  /** No new requests; the outstanding ones are still retried. */
  stop(): void {
    this.asking = false;
  }

  /** Stops, and waits until every request has its answer. Returns how many have none. */
  async rest(timeoutMs: number): Promise<number> {
    this.stop();
    const untilUs = this.nowUs() + timeoutMs * 1000;
    while (this.waiting() > 0 && this.nowUs() < untilUs) await sleep(5);
    return this.waiting();
  }

  /** Reads back every key and block that was ever written, spread over the clients, then comes to rest. */
  async readBack(timeoutMs: number): Promise<number> {
    const keys = [...this.putKeys];
    const untilUs = this.nowUs() + timeoutMs * 1000;
    let blocksLeft = 0;
    for (const client of this.clients) {
      const blocks = [...client.written];
      blocksLeft += blocks.length;
      const next = (): void => {
        const inTime = this.nowUs() < untilUs;
        const block = inTime ? blocks.pop() : undefined;
        const key = inTime && block === undefined ? keys.pop() : undefined;
        client.onAnswer = block === undefined && key === undefined ? undefined : next;
        if (block !== undefined) {
          blocksLeft--;
          this.ask(client, Op.diskRead, block, 0n, this.diskField());
        } else if (key !== undefined) this.ask(client, Op.get, BigInt(key), 0n, 0n);
      };
      next();
    }
    while (this.waiting() > 0 && this.nowUs() < untilUs) await sleep(5);
    return this.waiting() + keys.length + blocksLeft;
  }

  /** One request of the control client; rejects when no answer comes in time or it is refused. */
  ask1(request: ControlRequest, timeoutMs: number): Promise<Buffer> {
    const client = this.control;
    if (client === undefined) return Promise.reject(new Error('The clients are not open.'));
    if (client.outstanding !== NONE) {
      return Promise.reject(new Error('The control client still waits for an answer.'));
    }
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        client.onAnswer = undefined;
        reject(new Error(`The guest gave no answer to op ${request.op} in ${timeoutMs} ms.`));
      }, timeoutMs);
      client.onAnswer = (answer) => {
        clearTimeout(timer);
        const status = answer.readUInt16LE(At.status);
        if (status === Status.ok) resolve(Buffer.from(answer));
        else reject(new Error(`The guest refused op ${request.op} with status ${status}.`));
      };
      this.ask(client, request.op, request.a ?? 0n, request.b ?? 0n, request.c ?? 0n);
    });
  }

  /** What happened since the last sample. */
  sample(): ClientSample {
    return {
      requests: this.history.length,
      answered: this.history.answeredCount,
      waiting: this.waiting(),
      retries: this.retries,
      latency: this.latencies.take(),
    };
  }

  private all(): Client[] {
    return this.control === undefined ? this.clients : [...this.clients, this.control];
  }

  private waiting(): number {
    let count = 0;
    for (const client of this.all()) if (client.outstanding !== NONE) count++;
    return count;
  }

  private nowUs(): number {
    return performance.now() * 1000 + this.offsetUs;
  }

  private async openClient(id: number): Promise<Client> {
    const socket = dgram.createSocket('udp4');
    // The address may answer "unreachable" while nobody serves it: a reason to retry, not to stop.
    socket.on('error', () => undefined);
    await new Promise<void>((resolve) => {
      socket.connect(this.options.port, this.options.host, () => resolve());
    });
    const client = new Client(id, socket);
    socket.on('message', (bytes) => this.heard(client, bytes));
    return client;
  }

  private tick(): void {
    const nowUs = this.nowUs();
    for (const client of this.clients) this.serve(client, nowUs);
    if (this.control !== undefined) this.retryIfLate(this.control, nowUs);
  }

  private serve(client: Client, nowUs: number): void {
    if (client.outstanding !== NONE) this.retryIfLate(client, nowUs);
    else if (this.asking && nowUs >= client.dueUs) this.askSomething(client, nowUs);
  }

  private retryIfLate(client: Client, nowUs: number): void {
    if (client.outstanding === NONE || nowUs < client.retryAtUs) return;
    client.retryUs = Math.min(client.retryUs * 1.3, this.retryUsMax);
    client.retryAtUs = nowUs + client.retryUs;
    this.retries++;
    this.history.again(client.outstanding);
    client.socket.send(client.buffer);
  }

  private askSomething(client: Client, nowUs: number): void {
    client.dueUs = Math.max(client.dueUs, nowUs - 5000) + this.pauseUs() * 2 * this.nextRandom();
    const [incr, put, get] = this.mix;
    const [write, read, discard] = this.options.disk?.shares ?? [0, 0, 0];
    const draw = this.nextRandom() * (incr + put + get + write + read + discard);
    const key = Math.floor(this.nextRandom() * this.keys);
    if (draw < incr) this.ask(client, Op.incr, 0n, 0n, 0n);
    else if (draw < incr + put) {
      this.putKeys.add(key);
      // Every value is written once, so that an old one can be told from the newest.
      const value = BigInt(client.id) * 0x1_0000_0000n + BigInt(client.indices.length + 1);
      this.ask(client, Op.put, BigInt(key), value, 0n);
    } else if (draw < incr + put + get) this.ask(client, Op.get, BigInt(key), 0n, 0n);
    else if (draw < incr + put + get + read) this.askDisk(client, Op.diskRead);
    else
      this.askDisk(client, draw < incr + put + get + read + write ? Op.diskWrite : Op.diskDiscard);
  }

  private askDisk(client: Client, op: number): void {
    const { firstBlock, blocksPerClient } = this.options.disk ?? NO_DISK;
    const of = this.clients.indexOf(client) * blocksPerClient;
    const block = BigInt(firstBlock + of + Math.floor(this.nextRandom() * blocksPerClient));
    if (op === Op.diskRead) {
      this.ask(client, op, block, 0n, this.diskField());
      return;
    }
    client.written.add(block);
    // The sequence grows from write to write, in each block and in all of this client's.
    const sequence = BigInt(client.indices.length + 1);
    this.ask(client, op, block, sequence, this.diskField());
  }

  private diskField(): bigint {
    return BigInt(this.options.disk?.disk ?? 0) << 56n;
  }

  private ask(client: Client, op: number, a: bigint, b: bigint, c: bigint): void {
    const requestId = client.indices.length + 1;
    writeRequest(client.buffer, 0, { op, client: client.id, requestId, a, b, c });
    const nowUs = this.nowUs();
    client.outstanding = this.history.add(client.buffer, nowUs);
    client.indices.push(client.outstanding);
    client.sentUs = nowUs;
    // Not all clients retry in the same millisecond.
    client.retryUs = this.retryUs * (0.75 + 0.5 * this.nextRandom());
    client.retryAtUs = nowUs + client.retryUs;
    client.socket.send(client.buffer);
  }

  private heard(client: Client, bytes: Buffer): void {
    if (!isAnswer(bytes)) return;
    const nowUs = this.nowUs();
    const index = client.indices[bytes.readUInt32LE(At.requestId) - 1];
    if (index === undefined || bytes.readUInt32LE(At.client) !== client.id) {
      this.history.stray(bytes, nowUs);
      return;
    }
    if (this.history.answer(index, bytes, nowUs) !== 'first' || index !== client.outstanding)
      return;
    client.outstanding = NONE;
    this.arrivals.add(nowUs);
    if (isDiskOp(bytes[At.op])) this.diskArrivals.add(nowUs);
    if (client !== this.control) this.latencies.add(nowUs - client.sentUs);
    const { onAnswer } = client;
    client.onAnswer = undefined;
    onAnswer?.(bytes);
    if (this.asking && client !== this.control && client.outstanding === NONE) {
      if (this.ratePerSecond === 0 || nowUs >= client.dueUs) this.askSomething(client, nowUs);
    }
  }

  /** Mean time between two requests of one client, µs. */
  private pauseUs(): number {
    if (this.ratePerSecond === 0) return 0;
    return (1e6 * this.clients.length) / this.ratePerSecond;
  }

  /** 0 ≤ r < 1, xorshift32: a run can be repeated from its seed. */
  private nextRandom(): number {
    let x = this.random;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.random = x >>> 0;
    return this.random / 4294967296;
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
