/**
 * One TCP connection, opened before the first failover and used after the last, carries numbered
 * messages: none lost, none repeated, none out of order. FT_TCP_MESSAGES (5,000 if absent),
 * FT_TCP_FAILOVERS (1) and FT_TCP_RATE (messages a second, 2,500) say how much.
 */

import { quantileOf } from '../../src/common/quantile';
import { Pair } from '../../src/drill/pair/pair';
import { sleep, until } from '../../src/drill/process/time';
import { describeSite, figure, writeReport } from '../../src/drill/report/report';
import { kvmTest } from '../support/kvm';
import { TCP_PORT } from '../support/tcp-oracle';
import { TcpOracleProcess, type TcpOutcome } from '../support/tcp-oracle-process';

const messages = Number(process.env['FT_TCP_MESSAGES'] ?? 5000);
const failovers = Number(process.env['FT_TCP_FAILOVERS'] ?? 1);
const ratePerSecond = Number(process.env['FT_TCP_RATE'] ?? 2500);

/** More than the messages themselves take: stalls, and time to be protected again. */
const timeoutMs = (messages / ratePerSecond) * 2000 + 10_000;

interface TcpKill {
  /** SIGKILL sent → the standby said that it runs the guest. */
  readonly promotedMs: number;
  /** SIGKILL sent → the first bytes on the connection after the silence that it caused. */
  readonly stallMs: number;
  /** Messages answered before the kill. */
  readonly answered: number;
}

interface TcpReport {
  readonly outcome: TcpOutcome;
  readonly kills: readonly TcpKill[];
}

async function killOnce(pair: Pair, client: TcpOracleProcess): Promise<TcpKill> {
  const { answered } = await client.sample();
  if (answered >= messages) throw new Error('The messages were over before the last kill.');
  const { killedUs, promotedMs } = await pair.killActive();
  const then = await client.sample();
  const isOn = async (): Promise<boolean> => (await client.sample()).answered > then.answered;
  if (then.answered < messages) await until('answers after the failover', isOn, 10_000);
  await sleep(30);
  const silence = await client.silence(killedUs, 20);
  if (silence === undefined) throw new Error('Nothing was ever heard after the kill.');
  return { promotedMs, stallMs: (silence.toUs - killedUs) / 1000, answered };
}

async function run(): Promise<TcpReport> {
  const pair = new Pair({ machine: 'kvm', name: 'tcp' });
  let client: TcpOracleProcess | undefined;
  try {
    await pair.start();
    const settings = { host: pair.guest.host, port: TCP_PORT, underWayMax: 400, seed: 1 };
    client = await TcpOracleProcess.start(
      { ...settings, messages, ratePerSecond },
      pair.netns?.name,
    );
    const one = client;
    await one.send();
    const kills: TcpKill[] = [];
    for (let n = 1; n <= failovers; n++) {
      const mark = Math.floor((messages * n) / (failovers + 1));
      const isThere = async (): Promise<boolean> => (await one.sample()).answered >= mark;
      await until(`the answer to message ${mark}`, isThere, timeoutMs);
      kills.push(await killOnce(pair, one));
      if (n < failovers) await pair.rejoin();
    }
    return { outcome: await one.finish(timeoutMs), kills };
  } catch (thrown) {
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    throw new Error(`${message}\n=== what the nodes said\n${pair.story()}`);
  } finally {
    await client?.close();
    await pair.close();
  }
}

const name = `one TCP connection carries ${messages} messages across ${failovers} failovers`;
kvmTest(name, async () => {
  const { outcome, kills } = await run();
  const stalls = kills.map((kill) => kill.stallMs);
  const stallMsP50 = quantileOf(stalls, 0.5);
  const stallMsMax = Math.max(0, ...stalls);
  writeReport('tcp.json', { ...describeSite(), ...outcome, kills, stallMsP50, stallMsMax });
  const { verdict } = outcome;
  process.stdout.write(
    `${figure(verdict.answered)} of ${figure(messages)} messages, ${kills.length} failovers: ` +
      `${verdict.lost} lost, ${verdict.repeated} repeated, ${verdict.outOfOrder} out of order, ` +
      `${verdict.wrong} wrong\n` +
      `SIGKILL to the next bytes on the connection: ` +
      `${stalls.map((ms) => figure(ms, 1)).join(', ')} ms; to promoted: ` +
      `${kills.map((kill) => figure(kill.promotedMs, 1)).join(', ')} ms\n`,
  );
  expect(verdict.stories).toEqual([]);
  expect(verdict).toMatchObject({ answered: messages, lost: 0, repeated: 0, outOfOrder: 0 });
  expect(verdict.wrong).toBe(0);
  expect(outcome).toMatchObject({ openToTheEnd: true, surplusBytes: 0, ended: 'closed in order' });
  expect(kills).toHaveLength(failovers);
});
