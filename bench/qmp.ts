/**
 * QEMU's control protocol over a UNIX socket: JSON lines, one command at a time.
 *
 *   QEMU: {"QMP": …}          we: {"execute":"qmp_capabilities"}      QEMU: {"return":{}}
 *   we: {"execute":…,"id":n}  QEMU: {"return":…,"id":n} or {"error":{"desc":…},"id":n}
 *   QEMU at any time: {"event":…}, passed over
 *
 * Every wait is bounded; a socket that ends rejects what waits.
 */
import { connect, type Socket } from 'node:net';
import { sleep } from '../src/drill/process/time';

const OPEN_MS = 5000;
const ANSWER_MS = 10_000;

/** One line of QEMU, as far as it matters here. */
export type QmpLine =
  | { readonly kind: 'greeting' | 'event' | 'other' }
  | { readonly kind: 'return'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'error'; readonly id: number; readonly message: string };

/** Tells what a line is; one that is no JSON object is "other". */
export function readQmpLine(line: string): QmpLine {
  let fields: unknown;
  try {
    fields = JSON.parse(line);
  } catch {
    return { kind: 'other' };
  }
  if (typeof fields !== 'object' || fields === null) return { kind: 'other' };
  const { QMP, event, id, error } = fields as Record<string, unknown>;
  if (QMP !== undefined) return { kind: 'greeting' };
  if (event !== undefined) return { kind: 'event' };
  if (typeof id !== 'number') return { kind: 'other' };
  if ('return' in fields) return { kind: 'return', id, value: fields.return };
  if (typeof error !== 'object' || error === null) return { kind: 'other' };
  const { desc } = error as Record<string, unknown>;
  return { kind: 'error', id, message: typeof desc === 'string' ? desc : 'no reason given' };
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

export class QmpClient {
  private readonly waiting = new Map<number, Waiting>();
  private nextId = 1;
  private partial = '';
  private greeted: () => void = () => undefined;
  private readonly greeting = new Promise<void>((resolve) => {
    this.greeted = resolve;
  });

  private constructor(private readonly socket: Socket) {
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => this.read(text));
    socket.on('error', () => undefined);
    socket.on('close', () => this.ended());
  }

  /** Connects, also to a QEMU that is only starting, and leaves the capabilities mode. */
  static async open(path: string): Promise<QmpClient> {
    const client = new QmpClient(await connectSoon(path));
    await withinMs(client.greeting, OPEN_MS, 'QEMU did not greet');
    await client.run('qmp_capabilities');
    return client;
  }

  /** Runs one command. Rejects with QEMU's own words, or when no answer comes in time. */
  run(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    const id = this.nextId++;
    const answer = new Promise<unknown>((resolve, reject) => {
      this.waiting.set(id, {
        resolve,
        reject: (error) => reject(new Error(`QEMU's ${command}: ${error.message}`)),
      });
    });
    this.socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    return withinMs(answer, ANSWER_MS, `QEMU gave no answer to ${command}`);
  }

  close(): void {
    this.socket.destroy();
  }

  private read(text: string): void {
    const lines = (this.partial + text).split('\n');
    this.partial = lines.pop() ?? '';
    for (const text of lines) {
      const line = readQmpLine(text);
      if (line.kind === 'greeting') this.greeted();
      if (line.kind !== 'return' && line.kind !== 'error') continue;
      const one = this.waiting.get(line.id);
      this.waiting.delete(line.id);
      if (line.kind === 'return') one?.resolve(line.value);
      else one?.reject(new Error(line.message));
    }
  }

  private ended(): void {
    for (const one of this.waiting.values()) one.reject(new Error('QEMU is gone.'));
    this.waiting.clear();
  }
}

async function connectSoon(path: string): Promise<Socket> {
  const endMs = performance.now() + OPEN_MS;
  for (;;) {
    const socket = connect(path);
    const error = await new Promise<Error | undefined>((resolve) => {
      socket.once('connect', () => resolve(undefined));
      socket.once('error', resolve);
    });
    if (error === undefined) {
      socket.removeAllListeners();
      return socket;
    }
    if (performance.now() > endMs) throw new Error(`QEMU's QMP socket: ${error.message}`);
    await sleep(20);
  }
}

async function withinMs<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} within ${ms} ms.`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
