/** A bzImage is a guest like any other: booted by its 64-bit entry, protected, resumed elsewhere. */
import path from 'node:path';
import { GUEST_ADDRESS } from '../../src/drill/lan/netns';
import { OracleProcess } from '../../src/drill/oracle/oracle-process';
import { Pair } from '../../src/drill/pair/pair';
import { projectRoot } from '../../src/drill/process/process';
import { until } from '../../src/drill/process/time';
import { kvmDescribe } from '../support/kvm';

const bzImagePath = path.join(projectRoot, 'build/guest/beacon.bz');

kvmDescribe('a bzImage', () => {
  let pair: Pair;
  let oracle: OracleProcess | undefined;

  beforeEach(() => {
    pair = new Pair({ machine: 'kvm', name: 'bzimage', kernel: bzImagePath });
  });

  afterEach(async () => {
    await oracle?.close();
    await pair.close();
  });

  test('boots, answers, and survives the kill of its primary', async () => {
    await pair.start();
    const ping = (): string =>
      pair.netns?.run('ping', '-c', '3', '-i', '0.2', '-W', '1', GUEST_ADDRESS) ?? '';
    expect(ping()).toMatch(/ 0% packet loss/);
    const settings = { ...pair.guest, clients: 8, ratePerSecond: 400 };
    const clients = await OracleProcess.start(settings, pair.netns?.name);
    oracle = clients;
    await clients.start();
    const answersGoOn = async (): Promise<void> => {
      const { answered } = await clients.sample();
      await until(
        'more answers',
        async () => (await clients.sample()).answered > answered + 50,
        5000,
      );
    };
    await answersGoOn();
    await pair.killActive();
    await answersGoOn();
    expect(ping()).toMatch(/ 0% packet loss/);
    const verdict = await clients.finish();
    expect(verdict.violations.map((violation) => violation.story)).toEqual([]);
    expect(verdict).toMatchObject({ unanswered: 0, lost: 0, regressed: 0 });
  });
});
