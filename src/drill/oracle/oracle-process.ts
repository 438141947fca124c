/** The parent's side of oracle-main: starts the clients' process and speaks with it. */
import path from 'node:path';
import { projectRoot, WatchedProcess } from '../process/process';
import type { DiskVerdict, LoadRegion } from './disk-oracle';
import type { JudgeOptions, Verdict } from './oracle';
import type { ClientOptions, ClientSample } from './oracle-client';
import type { Silence } from './oracle-meter';

export type OracleCommand =
  | { readonly command: 'start'; readonly ratePerSecond?: number }
  | { readonly command: 'stop'; readonly timeoutMs: number }
  | { readonly command: 'sample' }
  | {
      readonly command: 'silence';
      readonly fromUs: number;
      readonly withinMs: number;
      readonly ofDisk?: boolean;
    }
  | { readonly command: 'timeline'; readonly fromUs: number; readonly toUs: number }
  | { readonly command: 'stats'; readonly timeoutMs: number }
  | { readonly command: 'vcpu'; readonly index: number; readonly timeoutMs: number }
  | ({ readonly command: 'load'; readonly timeoutMs: number } & GuestLoad)
  | ({ readonly command: 'disk-load'; readonly timeoutMs: number } & GuestDiskLoad)
  | { readonly command: 'disk-figures'; readonly timeoutMs: number }
  | ({ readonly command: 'judge-disk' } & DiskJudging)
  | { readonly command: 'finish'; readonly timeoutMs: number; readonly judge?: JudgeOptions };

/** One request: when it was sent, monotonic µs, and until its answer came; -1 without an answer. */
export type RequestTime = readonly [sentUs: number, latencyUs: number];

/** What the guest shall write by itself. */
export interface GuestLoad {
  /** Pages dirtied per millisecond; 'max': as fast as it can. */
  readonly pagesPerMs: number | 'max';
  readonly bytesPerPage: number;
  readonly workingSetPages: number;
  /** Never sleep, and count progress. */
  readonly spin: boolean;
  /** On every vCPU, each with pages of its own; otherwise on the first alone. */
  readonly each?: boolean;
}

/** What one vCPU has done since boot. */
export interface VcpuFigures {
  readonly vcpus: number;
  readonly progress: number;
  readonly pagesDirtied: number;
}

/** What the guest shall write to a disk by itself. */
export interface GuestDiskLoad {
  readonly disk: number;
  /** 0: none. */
  readonly underWayMax: number;
  /** 0: as fast as it goes. */
  readonly writesPerSecond: number;
  readonly firstBlock: number;
  readonly blocks: number;
}

/** How the guest's disk load went since boot. */
export interface DiskFigures {
  readonly writes: number;
  readonly reads: number;
  readonly errors: number;
  /** Reads that brought something else than was written there. */
  readonly broken: number;
}

/** What to judge beside the answers: the image of the disk, once the guest is gone. */
export interface DiskJudging {
  readonly image?: string;
  readonly region?: LoadRegion;
}

/** Numbers of one answer of the guest. */
export interface BeaconStats {
  readonly bootId: string;
  readonly sequence: number;
  readonly uptimeNs: number;
  readonly progress: number;
  readonly pagesDirtied: number;
  readonly gapMaxNs: number;
  readonly gapP50Ns: number;
  readonly gapP99Ns: number;
  readonly gapCount: number;
  readonly loadPagesMax: number;
}

interface Reply {
  readonly id?: number;
  readonly ok?: boolean;
  readonly result?: unknown;
  readonly error?: string;
}

const ANSWER_TIMEOUT_MS = 5000;

/** The clients in a process of their own; see oracle-main for what each command does. */
export class OracleProcess {
  private nextId = 1;

  private constructor(readonly process: WatchedProcess) {}

  static async start(options: ClientOptions, netns?: string): Promise<OracleProcess> {
    const child = new WatchedProcess({
      name: 'oracle',
      command: process.execPath,
      args: [
        path.join(projectRoot, 'dist/src/drill/oracle/oracle-main.js'),
        JSON.stringify(options),
      ],
      netns,
      stdin: true,
    });
    await child.waitFor('ready', (line) => line.fields['event'] === 'ready', 10_000);
    return new OracleProcess(child);
  }

  /** The clients begin to ask. Without a rate: the rate of the options. */
  async start(ratePerSecond?: number): Promise<void> {
    const rate = ratePerSecond === undefined ? {} : { ratePerSecond };
    await this.call({ command: 'start', ...rate });
  }

  /** The clients stop asking; returns how many requests have no answer after `timeoutMs`. */
  async rest(timeoutMs = 10_000): Promise<number> {
    const result = await this.call({ command: 'stop', timeoutMs }, timeoutMs);
    return (result as { unanswered: number }).unanswered;
  }

  async sample(): Promise<ClientSample> {
    return (await this.call({ command: 'sample' })) as ClientSample;
  }

  /**
   * The longest stretch without an answer that touches the time after `fromUs`; `ofDisk`: without
   * an answer to a disk request.
   */
  async silence(fromUs: number, withinMs: number, ofDisk = false): Promise<Silence | undefined> {
    const result = await this.call({ command: 'silence', fromUs, withinMs, ofDisk });
    return (result as { silence?: Silence }).silence;
  }

  /** The requests that were sent in a stretch of time, in their order; the newest 20,000 at most. */
  async timeline(fromUs: number, toUs: number): Promise<readonly RequestTime[]> {
    const result = await this.call({ command: 'timeline', fromUs, toUs });
    return (result as { requests: RequestTime[] }).requests;
  }

  async stats(timeoutMs = ANSWER_TIMEOUT_MS): Promise<BeaconStats> {
    return (await this.call({ command: 'stats', timeoutMs }, timeoutMs)) as BeaconStats;
  }

  async load(load: GuestLoad, timeoutMs = ANSWER_TIMEOUT_MS): Promise<BeaconStats> {
    return (await this.call({ command: 'load', timeoutMs, ...load }, timeoutMs)) as BeaconStats;
  }

  async vcpu(index: number, timeoutMs = ANSWER_TIMEOUT_MS): Promise<VcpuFigures> {
    return (await this.call({ command: 'vcpu', index, timeoutMs }, timeoutMs)) as VcpuFigures;
  }

  async diskLoad(load: GuestDiskLoad, timeoutMs = ANSWER_TIMEOUT_MS): Promise<DiskFigures> {
    return (await this.call(
      { command: 'disk-load', timeoutMs, ...load },
      timeoutMs,
    )) as DiskFigures;
  }

  async diskFigures(timeoutMs = ANSWER_TIMEOUT_MS): Promise<DiskFigures> {
    return (await this.call({ command: 'disk-figures', timeoutMs }, timeoutMs)) as DiskFigures;
  }

  /** Judges the disk requests after `finish`; with an image, that as well. */
  async judgeDisk(judging: DiskJudging = {}): Promise<DiskVerdict> {
    return (await this.call({ command: 'judge-disk', ...judging }, 30_000)) as DiskVerdict;
  }

  /** Comes to rest, reads every key and block back, judges the whole history. */
  async finish(options: JudgeOptions = {}, timeoutMs = 15_000): Promise<Verdict> {
    const command = { command: 'finish', timeoutMs, judge: options } as const;
    return (await this.call(command, 4 * timeoutMs)) as Verdict;
  }

  async close(): Promise<void> {
    await this.process.stop();
  }

  private async call(command: OracleCommand, timeoutMs = 0): Promise<unknown> {
    const id = this.nextId++;
    const from = this.process.lines.length;
    this.process.write(`${JSON.stringify({ id, ...command })}\n`);
    const line = await this.process.waitFor(
      `the answer to ${command.command}`,
      (candidate) => candidate.fields['id'] === id,
      timeoutMs + ANSWER_TIMEOUT_MS,
      from,
    );
    const reply = line.fields as Reply;
    if (reply.ok !== true)
      throw new Error(`The clients' ${command.command} failed: ${reply.error}`);
    return reply.result;
  }
}
