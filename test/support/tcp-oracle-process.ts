/** The parent's side of tcp-oracle-main: starts the client's process and speaks with it. */
import path from 'node:path';
import type { Silence } from '../../src/drill/oracle/oracle-meter';
import { projectRoot, WatchedProcess } from '../../src/drill/process/process';
import type { TcpVerdict } from './tcp-oracle';

export interface TcpClientOptions {
  readonly host: string;
  readonly port: number;
  readonly messages: number;
  readonly ratePerSecond: number;
  /** Most messages sent and not answered. */
  readonly underWayMax: number;
  readonly seed: number;
}

export interface TcpClientSample {
  readonly sent: number;
  readonly answered: number;
  /** How the connection ended; null while it lives. */
  readonly ended: string | null;
}

/** How it went, from the first message to the end of the connection. */
export interface TcpOutcome {
  readonly verdict: TcpVerdict;
  /** The one connection was still open after the last answer. */
  readonly openToTheEnd: boolean;
  /** Bytes behind the last whole answer. */
  readonly surplusBytes: number;
  readonly ended: string;
}

export type TcpCommand =
  | { readonly command: 'start' }
  | { readonly command: 'sample' }
  | { readonly command: 'silence'; readonly fromUs: number; readonly withinMs: number }
  | { readonly command: 'finish'; readonly timeoutMs: number };

const ANSWER_TIMEOUT_MS = 5000;

/** One TCP connection in a process of its own. */
export class TcpOracleProcess {
  private nextId = 1;

  private constructor(readonly process: WatchedProcess) {}

  /** Returns when the connection is established. */
  static async start(options: TcpClientOptions, netns?: string): Promise<TcpOracleProcess> {
    const child = new WatchedProcess({
      name: 'tcp-oracle',
      command: process.execPath,
      args: [
        path.join(projectRoot, 'dist/test/support/tcp-oracle-main.js'),
        JSON.stringify(options),
      ],
      netns,
      stdin: true,
    });
    await child.waitFor('ready', (line) => line.fields['event'] === 'ready', 10_000);
    return new TcpOracleProcess(child);
  }

  /** The messages begin to flow. */
  async send(): Promise<void> {
    await this.call({ command: 'start' });
  }

  async sample(): Promise<TcpClientSample> {
    return (await this.call({ command: 'sample' })) as TcpClientSample;
  }

  /** The longest stretch without a byte that touches the time after `fromUs`. */
  async silence(fromUs: number, withinMs: number): Promise<Silence | undefined> {
    const result = await this.call({ command: 'silence', fromUs, withinMs });
    return (result as { silence?: Silence }).silence;
  }

  /** Waits for the last answer, ends the connection, judges. */
  async finish(timeoutMs: number): Promise<TcpOutcome> {
    return (await this.call({ command: 'finish', timeoutMs }, timeoutMs)) as TcpOutcome;
  }

  async close(): Promise<void> {
    await this.process.stop();
  }

  private async call(command: TcpCommand, timeoutMs = 0): Promise<unknown> {
    const id = this.nextId++;
    const from = this.process.lines.length;
    this.process.write(`${JSON.stringify({ id, ...command })}\n`);
    const { fields } = await this.process.waitFor(
      `the answer to ${command.command}`,
      (line) => line.fields['id'] === id,
      timeoutMs + ANSWER_TIMEOUT_MS,
      from,
    );
    if (fields['ok'] === true) return fields['result'];
    throw new Error(`The TCP client's ${command.command} failed: ${String(fields['error'])}`);
  }
}
