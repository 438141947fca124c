/**
 * The clients of a sandbox that stays up: few requests, judged every few minutes so that no history
 * grows for days. A guest that was lost with both its nodes ends the history; the next guest gets a
 * new one.
 */
import { GUEST_ADDRESS } from './lan/netns';
import { BEACON_PORT } from './oracle/oracle-layout';
import { OracleProcess } from './oracle/oracle-process';
import { say } from './session';

const CLIENTS = 8;
const REQUESTS_PER_SECOND = 100;
const PAGES_PER_MS = 2;
const ROUND_MS = 10 * 60_000;
/** The guest remembers 1,024 clients; the oldest numbers come again after so many rounds. */
const ROUNDS_OF_NUMBERS = 100;

export class SandboxClients {
  private oracle: OracleProcess | undefined;
  private timer: NodeJS.Timeout | undefined;
  private rounds = 0;
  private nextSequence = 1;
  private wantsGuest = false;
  /** One thing after the other: a new round never begins amid the end of the last. */
  private turn: Promise<void> = Promise.resolve();

  constructor(private readonly netns: string) {}

  /** Begins to ask the guest that runs. */
  start(): Promise<void> {
    this.timer = setInterval(() => this.inTurn(() => this.nextRound()), ROUND_MS);
    return this.inTurn(() => this.begin());
  }

  /** Both nodes are gone: what was answered is judged, and nothing more can be asked. */
  guestLost(): Promise<void> {
    return this.inTurn(async () => {
      const { oracle } = this;
      this.oracle = undefined;
      this.wantsGuest = true;
      this.nextSequence = 1;
      await oracle?.close();
      say('          the guest was lost with both its nodes, and is booted anew');
    });
  }

  /** A node runs the guest: the one that went on, or a new one. */
  guestRuns(): void {
    if (this.wantsGuest) void this.inTurn(() => this.begin());
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    this.wantsGuest = false;
    const { oracle } = this;
    this.oracle = undefined;
    await oracle?.close();
    await this.turn;
  }

  private inTurn(act: () => Promise<void>): Promise<void> {
    this.turn = this.turn.then(act).catch((thrown: unknown) => {
      const why = thrown instanceof Error ? thrown.message.split('\n')[0] : String(thrown);
      say(`          the clients rest: ${why}`);
      this.wantsGuest = true;
    });
    return this.turn;
  }

  private async begin(): Promise<void> {
    this.wantsGuest = false;
    const firstClient = 1 + (this.rounds++ % ROUNDS_OF_NUMBERS) * (CLIENTS + 1);
    const options = { host: GUEST_ADDRESS, port: BEACON_PORT, clients: CLIENTS, firstClient };
    const rate = { ratePerSecond: REQUESTS_PER_SECOND, seed: this.rounds };
    const oracle = await OracleProcess.start({ ...options, ...rate }, this.netns);
    this.oracle = oracle;
    const load = { pagesPerMs: PAGES_PER_MS, bytesPerPage: 8, workingSetPages: 256, spin: false };
    await oracle.load(load);
    await oracle.start();
  }

  private async nextRound(): Promise<void> {
    const { oracle } = this;
    if (oracle === undefined) return;
    const verdict = await oracle.finish({ firstSequence: this.nextSequence });
    await oracle.close();
    this.nextSequence = verdict.sequenceMax + 1;
    const { requests, lost, regressed } = verdict;
    say(`          clients: ${requests} requests, ${lost} lost, ${regressed} contradicted`);
    for (const { story } of verdict.violations) say(`          ${story}`);
    await this.begin();
  }
}
