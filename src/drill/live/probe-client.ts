/**
 * The client of a live pair: asks the guest at a steady rate, one probe not waiting for the other, and
 * keeps when answers came. What it says of a failover is the gap: the longest stretch without any
 * answer. It cannot judge what was answered; that is the oracle's work, on a sandbox pair.
 */
import { ArrivalLog, type Silence } from '../oracle/oracle-meter';
import type { RequestTime } from '../oracle/oracle-process';
import { WatchedProcess } from '../process/process';
import { monotonicUs } from '../process/time';
import { type ProbeTarget, probeOnce } from './probe';

const TIMEOUT_MS = 2000;
/** So many probes wait at once; the next ones are left out until some of them are over. */
const UNDER_WAY_MAX = 256;
const REQUESTS_MAX = 50_000;

export class ProbeClient {
  private readonly arrivals = new ArrivalLog();
  private readonly requests: { readonly sentUs: number; latencyUs: number }[] = [];
  private timer: NodeJS.Timeout | undefined;
  private ping: WatchedProcess | undefined;
  private underWay = 0;
  private asked = 0;
  private heard = 0;

  constructor(
    private readonly target: ProbeTarget,
    private readonly ratePerSecond: number,
  ) {}

  /** Begins to ask. */
  start(): void {
    const { target } = this;
    if (target.kind === 'icmp') this.startPing(target.host);
    else this.timer = setInterval(() => void this.ask(target), 1000 / this.ratePerSecond);
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    await this.ping?.stop(200);
  }

  /** Probes begun, and answers heard. */
  get counts(): { readonly asked: number; readonly answered: number } {
    return { asked: this.asked, answered: this.heard };
  }

  /** The longest stretch without an answer that touches the time from `fromUs` to `toUs`. */
  gap(fromUs: number, toUs: number): Silence | undefined {
    return this.arrivals.longestSilence(fromUs, (toUs - fromUs) / 1000);
  }

  /** The probes that were begun in a stretch of time. */
  timeline(fromUs: number, toUs: number): RequestTime[] {
    return this.requests
      .filter(({ sentUs }) => sentUs >= fromUs && sentUs <= toUs)
      .map(({ sentUs, latencyUs }): RequestTime => [sentUs, latencyUs]);
  }

  private async ask(target: Exclude<ProbeTarget, { readonly kind: 'icmp' }>): Promise<void> {
    if (this.underWay >= UNDER_WAY_MAX) return;
    const entry = this.begin(monotonicUs());
    this.underWay++;
    const isAnswered = await probeOnce(target, TIMEOUT_MS);
    this.underWay--;
    if (isAnswered) this.end(entry, monotonicUs());
  }

  private begin(sentUs: number): { readonly sentUs: number; latencyUs: number } {
    const entry = { sentUs, latencyUs: -1 };
    this.asked++;
    this.requests.push(entry);
    if (this.requests.length > REQUESTS_MAX) this.requests.splice(0, REQUESTS_MAX / 10);
    return entry;
  }

  private end(entry: { readonly sentUs: number; latencyUs: number }, atUs: number): void {
    entry.latencyUs = atUs - entry.sentUs;
    this.heard++;
    this.arrivals.add(atUs);
  }

  /** Node.js opens no raw sockets, so the program ping asks; -O tells of the unanswered ones too. */
  private startPing(host: string): void {
    const interval = (1 / this.ratePerSecond).toFixed(3);
    const words = ['-oL', 'ping', '-n', '-O', '-i', interval, '-W', `${TIMEOUT_MS / 1000}`, host];
    const ping = new WatchedProcess({ name: 'ping', command: 'stdbuf', args: words });
    ping.onText = (line) => {
      const took = /\btime=([\d.]+) ms/.exec(line)?.[1];
      const nowUs = monotonicUs();
      if (took !== undefined) this.end(this.begin(nowUs - Number(took) * 1000), nowUs);
      else if (/^no answer yet/.test(line)) this.begin(nowUs);
    };
    this.ping = ping;
  }
}
