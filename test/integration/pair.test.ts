/** A pair on real KVM through its life: boot, live sync under load, loss of either side, orderly ends. */

import { GUEST_ADDRESS } from '../../src/drill/lan/netns';
import type { Verdict } from '../../src/drill/oracle/oracle';
import { OracleProcess } from '../../src/drill/oracle/oracle-process';
import { Pair, type PairNode } from '../../src/drill/pair/pair';
import { sleep, until } from '../../src/drill/process/time';
import { kvmDescribe } from '../support/kvm';

const LOAD = { pagesPerMs: 20, bytesPerPage: 32, workingSetPages: 200, spin: false } as const;

kvmDescribe('a pair', () => {
  let pair: Pair;
  let oracle: OracleProcess;

  const startOracle = async (): Promise<void> => {
    const settings = { ...pair.guest, clients: 12, ratePerSecond: 600 };
    oracle = await OracleProcess.start(settings, pair.netns?.name);
    await oracle.load(LOAD);
    await oracle.start();
  };

  const ping = (): string => {
    const { netns } = pair;
    return netns?.run('ping', '-c', '3', '-i', '0.2', '-W', '1', GUEST_ADDRESS) ?? '';
  };

  const expectClean = (verdict: Verdict): void => {
    expect(verdict.violations.map((violation) => violation.story)).toEqual([]);
    expect(verdict).toMatchObject({ unanswered: 0, lost: 0, regressed: 0 });
    expect(verdict.requests).toBeGreaterThan(50);
  };

  const answersGoOn = async (): Promise<void> => {
    const { answered } = await oracle.sample();
    const more = async (): Promise<boolean> => (await oracle.sample()).answered > answered + 50;
    await until('more answers', more, 5000);
  };

  const active = (): PairNode => {
    if (pair.active === undefined) throw new Error('There is no active side.');
    return pair.active;
  };

  beforeEach(() => {
    pair = new Pair({ machine: 'kvm', name: 'integration' });
  });

  afterEach(async () => {
    await oracle?.close();
    await pair.close();
  });

  test('syncs live under load, answers ping, survives the kill of its primary', async () => {
    const primary = pair.startPrimary();
    await primary.waitState(['solo'], 8000);
    await startOracle();
    await answersGoOn();
    expect(ping()).toMatch(/ 0% packet loss/);
    pair.startStandby();
    await primary.waitState(['protected'], 15_000);
    await answersGoOn();
    expect(ping()).toMatch(/ 0% packet loss/);
    await primary.waitStatus(
      '500 epochs',
      (fields) => Number(fields['epochCommitted']) > 500,
      8000,
    );
    await pair.killActive();
    await answersGoOn();
    expect(ping()).toMatch(/ 0% packet loss/);
    expectClean(await oracle.finish());
  });

  test('goes on alone when the standby is lost, and takes on a new one', async () => {
    await pair.start();
    await startOracle();
    await answersGoOn();
    const generation = active().figure('generation');
    const from = active().process.lines.length;
    pair.standby?.process.kill('SIGKILL');
    await active().waitState(['solo'], 5000, from);
    await answersGoOn();
    await active().waitStatus(
      'a new generation',
      (f) => Number(f['generation']) > generation,
      3000,
    );
    await pair.rejoin();
    await answersGoOn();
    await pair.killActive();
    await answersGoOn();
    expectClean(await oracle.finish());
  });

  test('SIGTERM to the standby ends it cleanly, and the guest does not notice', async () => {
    await pair.start();
    await startOracle();
    const { standby } = pair;
    const from = active().process.lines.length;
    standby?.process.kill('SIGTERM');
    expect(await standby?.process.waitExit(5000)).toMatchObject({ code: 0 });
    await active().waitState(['solo'], 3000, from);
    await answersGoOn();
    expectClean(await oracle.finish());
    active().process.kill('SIGTERM');
    expect(await active().process.waitExit(5000)).toMatchObject({ code: 0 });
  });

  test('SIGTERM to the primary ends the guest; the standby does not take it over', async () => {
    await pair.start();
    await startOracle();
    await answersGoOn();
    expectClean(await oracle.finish());
    const { standby } = pair;
    const from = standby?.process.lines.length ?? 0;
    active().process.kill('SIGTERM');
    expect(await active().process.waitExit(5000)).toMatchObject({ code: 0 });
    await sleep(500);
    expect(standby?.process.exit).toBeUndefined();
    const states = standby?.process.lines
      .slice(from)
      .map((l) => l.fields['to'] ?? l.fields['state']);
    expect(states).not.toContain('solo');
    standby?.process.kill('SIGTERM');
    expect(await standby?.process.waitExit(5000)).toMatchObject({ code: 0 });
  });
});
