/**
 * A primary that is stopped for longer than everybody waits, under load, on real KVM: as the network
 * sees it, at most one side is active. Frames are counted by the kernel where they would leave: at
 * the old primary's TAP. The same scene without the lease lets frames out, so the count can tell.
 * LEASE_ROUNDS=n runs the scene so often.
 */

import { OracleProcess } from '../../src/drill/oracle/oracle-process';
import { Pair } from '../../src/drill/pair/pair';
import { sleep, until } from '../../src/drill/process/time';
import { kvmDescribe } from '../support/kvm';

const ROUNDS = Number(process.env['LEASE_ROUNDS'] ?? 5);
const ROUNDS_MAX_WITHOUT = 20;

/** Frames that a process has ever written into a slot's TAP. */
function framesOut(pair: Pair, tap: string): number {
  const file = `/sys/class/net/${tap}/statistics/rx_packets`;
  return Number(pair.netns?.run('cat', file) ?? '0');
}

kvmDescribe('a primary stopped for longer than its standby waits', () => {
  let pair: Pair | undefined;
  let oracle: OracleProcess | undefined;

  afterEach(async () => {
    await oracle?.close();
    await pair?.close();
    oracle = undefined;
    pair = undefined;
  });

  async function loaded(name: string, flags: readonly string[]): Promise<Pair> {
    const started = new Pair({ machine: 'kvm', name, flags: ['--on-fenced', 'exit', ...flags] });
    pair = started;
    await started.start();
    const settings = { ...started.guest, clients: 24, ratePerSecond: 3000 };
    oracle = await OracleProcess.start(settings, started.netns?.name);
    await oracle.load({ pagesPerMs: 4, bytesPerPage: 8, workingSetPages: 128, spin: false });
    await oracle.start();
    return started;
  }

  /** Stops the active side, lets the other take over, and goes on: frames that came out after. */
  async function stopAndGoOn(running: Pair): Promise<number> {
    const { active, standby } = running;
    const tap = active?.slot.tap;
    if (active === undefined || standby === undefined || tap === undefined) {
      throw new Error('The pair is not complete.');
    }
    await sleep(150 + Math.random() * 20);
    const from = standby.process.lines.length;
    active.process.kill('SIGSTOP');
    await standby.waitState(['solo'], 5000, from);
    const before = framesOut(running, tap);
    expect(before).toBeGreaterThan(0);
    await sleep(100);
    active.process.kill('SIGCONT');
    // Exit code 4: fenced.
    expect(await active.process.waitExit(5000)).toMatchObject({ code: 4, signal: null });
    const out = framesOut(running, tap) - before;
    running.active = standby;
    running.standby = undefined;
    return out;
  }

  async function answersGoOn(): Promise<void> {
    const answered = (await oracle?.sample())?.answered ?? 0;
    const more = async (): Promise<boolean> =>
      ((await oracle?.sample())?.answered ?? 0) > answered + 50;
    await until('more answers', more, 5000);
  }

  test(
    'lets not one frame out after the promotion, and ends fenced',
    async () => {
      const running = await loaded('lease', []);
      for (let round = 0; round < ROUNDS; round += 1) {
        expect(await stopAndGoOn(running)).toBe(0);
        await answersGoOn();
        await running.rejoin();
      }
      const verdict = await oracle?.finish();
      expect(verdict).toMatchObject({ unanswered: 0, lost: 0, regressed: 0 });
    },
    30_000 + ROUNDS * 10_000,
  );

  test('without the lease some leave', async () => {
    let round = 0;
    const running = await loaded('lease-off', ['--test-fault', 'ignore-lease']);
    for (let out = 0; out === 0; round += 1) {
      expect(round).toBeLessThan(ROUNDS_MAX_WITHOUT);
      out = await stopAndGoOn(running);
      await running.rejoin();
    }
    process.stdout.write(`without the lease, frames came out in round ${round}\n`);
  }, 180_000);
});
