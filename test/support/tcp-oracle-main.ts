/**
 * One ordinary TCP connection of the kernel, in a process of its own so that it can live inside a
 * network namespace. Commands come on stdin, one JSON object a line; answers go to stdout, as in
 * oracle-main. The first argument is TcpClientOptions as JSON. Ends when stdin ends.
 */
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { ArrivalLog } from '../../src/drill/oracle/oracle-meter';
import { monotonicUs } from '../../src/drill/process/time';
import { ANSWER_BYTES, RECORD_BYTES, TcpJudge, writeRecord } from './tcp-oracle';
import type {
  TcpClientOptions,
  TcpClientSample,
  TcpCommand,
  TcpOutcome,
} from './tcp-oracle-process';

const TICK_MS = 4;
const CLOSE_TIMEOUT_MS = 3000;

/** Sends the messages at a steady rate, as many under way as allowed, and judges what comes. */
class TcpClient {
  private readonly judge: TcpJudge;
  private readonly arrivals = new ArrivalLog();
  private readonly seed: bigint;
  private partial: Buffer = Buffer.alloc(0);
  private sent = 0;
  private startedUs = 0;
  private ticker: NodeJS.Timeout | undefined;
  private ended: string | undefined;

  constructor(
    private readonly options: TcpClientOptions,
    private readonly socket: Socket,
  ) {
    this.seed = BigInt(options.seed);
    this.judge = new TcpJudge(options.messages, this.seed);
    socket.setNoDelay(true);
    socket.on('data', (bytes) => this.take(bytes));
    socket.on('error', (error) => this.end(error.message));
    socket.on('close', () => this.end('closed in order'));
  }

  start(): void {
    this.startedUs = monotonicUs();
    this.ticker = setInterval(() => this.sendDue(), TICK_MS);
  }

  sample(): TcpClientSample {
    const { answered } = this.judge;
    return { sent: this.sent, answered, ended: this.ended ?? null };
  }

  silence(fromUs: number, withinMs: number): object {
    return { silence: this.arrivals.longestSilence(fromUs, withinMs) };
  }

  /** Waits for every answer, closes our side, waits for the guest to close its own. */
  async finish(timeoutMs: number): Promise<TcpOutcome> {
    const isOver = (): boolean => this.judge.answered === this.options.messages;
    await this.wait(isOver, timeoutMs);
    clearInterval(this.ticker);
    const openToTheEnd = this.ended === undefined;
    this.socket.end();
    await this.wait(() => false, CLOSE_TIMEOUT_MS);
    const surplusBytes = this.partial.length;
    const ended = this.ended ?? 'the guest did not close its side';
    return { verdict: this.judge.finish(), openToTheEnd, surplusBytes, ended };
  }

  private sendDue(): void {
    const { messages, ratePerSecond, underWayMax } = this.options;
    const due = Math.floor(((monotonicUs() - this.startedUs) / 1e6) * ratePerSecond);
    const upTo = Math.min(due, messages, this.judge.answered + underWayMax);
    if (upTo <= this.sent || this.ended !== undefined) return;
    const bytes = Buffer.alloc((upTo - this.sent) * RECORD_BYTES);
    for (let at = 0; at < bytes.length; at += RECORD_BYTES) {
      writeRecord(bytes, at, ++this.sent, this.seed);
    }
    this.socket.write(bytes);
  }

  private take(bytes: Buffer): void {
    this.arrivals.add(monotonicUs());
    const all = this.partial.length === 0 ? bytes : Buffer.concat([this.partial, bytes]);
    let at = 0;
    for (; at + ANSWER_BYTES <= all.length; at += ANSWER_BYTES) {
      this.judge.take(all.subarray(at, at + ANSWER_BYTES));
    }
    this.partial = all.subarray(at);
  }

  private end(how: string): void {
    this.ended ??= how;
  }

  /** Until it is true, the connection has ended, or time is over. */
  private async wait(isTrue: () => boolean, timeoutMs: number): Promise<void> {
    const endUs = monotonicUs() + timeoutMs * 1000;
    while (!isTrue() && this.ended === undefined && monotonicUs() < endUs) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

async function perform(client: TcpClient, command: TcpCommand): Promise<object> {
  switch (command.command) {
    case 'start':
      client.start();
      return {};
    case 'sample':
      return client.sample();
    case 'silence':
      return client.silence(command.fromUs, command.withinMs);
    case 'finish':
      return await client.finish(command.timeoutMs);
  }
}

async function main(): Promise<void> {
  const options = JSON.parse(process.argv[2] ?? '{}') as TcpClientOptions;
  const socket = connect({ host: options.host, port: options.port });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  const client = new TcpClient(options, socket);
  const reply = (value: object): void => {
    process.stdout.write(`${JSON.stringify(value)}\n`);
  };
  reply({ event: 'ready' });
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => {
    const command = JSON.parse(line) as TcpCommand & { id: number };
    perform(client, command).then(
      (result) => reply({ id: command.id, ok: true, result }),
      (thrown: unknown) => {
        const error = thrown instanceof Error ? thrown.message : String(thrown);
        reply({ id: command.id, ok: false, error });
      },
    );
  });
  lines.on('close', () => process.exit(0));
}

main().catch((thrown: unknown) => {
  process.stderr.write(`tcp oracle: ${thrown instanceof Error ? thrown.stack : String(thrown)}\n`);
  process.exit(70);
});
