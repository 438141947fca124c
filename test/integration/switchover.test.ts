/**
 * Planned exchanges of roles on real KVM, with clients that ask all the time: nothing is lost, the
 * guest stands still for some milliseconds, whoever dies in the midst of it leaves one side that
 * goes on; and a guest that shall wait for its standby does.
 */
import { rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { askNode, type ControlAnswer } from '../../src/cli/control-client';
import type { Verdict } from '../../src/drill/oracle/oracle';
import { OracleProcess } from '../../src/drill/oracle/oracle-process';
import { Pair, type PairNode, type Slot } from '../../src/drill/pair/pair';
import { sleep, until } from '../../src/drill/process/time';
import { askIncrement } from '../support/beacon-ask';
import { kvmDescribe } from '../support/kvm';

const ROUNDS = 4;
const LOAD = { pagesPerMs: 16, bytesPerPage: 8, workingSetPages: 256, spin: false } as const;
const RUNS: readonly string[] = ['solo', 'syncing', 'protected'];

const controlOf = (slot: Pick<Slot, 'name'>): string =>
  path.join(os.tmpdir(), `ft-switch-${process.pid}-${slot.name}.sock`);

/** Asks a node for a switchover; status 0 when it went away meanwhile. */
function switchover(node: PairNode): Promise<ControlAnswer> {
  return askNode(controlOf(node.slot), 'POST', '/v1/switchover').catch(() => ({
    status: 0,
    body: {},
  }));
}

kvmDescribe('a switchover', () => {
  let pair: Pair;
  let oracle: OracleProcess | undefined;

  const open = async (flags: readonly string[] = []): Promise<void> => {
    pair = new Pair({
      machine: 'kvm',
      name: 'switchover',
      flags,
      slotFlags: (slot) => ['--control', controlOf(slot)],
    });
    const [a, b] = pair.slots;
    pair.startStandby(b);
    const primary = pair.startPrimary(a, b.port, ['--listen', `127.0.0.1:${a.port}`]);
    await primary.waitState(['protected'], 20_000);
  };

  const startOracle = async (): Promise<OracleProcess> => {
    const settings = { ...pair.guest, clients: 8, ratePerSecond: 400 };
    const started = await OracleProcess.start(settings, pair.netns?.name);
    oracle = started;
    await started.load(LOAD);
    await started.start();
    return started;
  };

  const sides = (): [PairNode, PairNode] => {
    const { active, standby } = pair;
    if (active === undefined || standby === undefined) throw new Error('The pair is not complete.');
    return [active, standby];
  };

  const expectClean = (verdict: Verdict): void => {
    expect(verdict.violations.map((violation) => violation.story)).toEqual([]);
    expect(verdict).toMatchObject({ unanswered: 0, lost: 0, regressed: 0 });
    expect(verdict.requests).toBeGreaterThan(50);
  };

  const answersGoOn = async (asking: OracleProcess): Promise<void> => {
    const { answered } = await asking.sample();
    const more = async (): Promise<boolean> => (await asking.sample()).answered > answered + 50;
    await until('more answers', more, 8000);
  };

  afterEach(async () => {
    await oracle?.close();
    oracle = undefined;
    await pair.close();
    for (const slot of pair.slots) rmSync(controlOf(slot), { force: true });
  });

  test(`goes back and forth ${ROUNDS} times under load, and loses nothing`, async () => {
    await open();
    let [active, standby] = sides();
    const asking = await startOracle();
    const blackouts: string[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      await answersGoOn(asking);
      const from = standby.process.lines.length;
      const { status, body } = await switchover(active);
      expect([status, body['generation']]).toEqual([200, round + 2]);
      blackouts.push((Number(body['blackoutUs']) / 1000).toFixed(1));
      await standby.waitState(RUNS, 5000, from);
      [active, standby] = [standby, active];
      // The side that gave the guest away has joined as standby by itself.
      await active.waitState(['protected'], 15_000, from);
    }
    process.stdout.write(`switchovers stood still for ${blackouts.join(', ')} ms at most\n`);
    expectClean(await asking.finish());
  });

  test('is refused while there is no standby to take the guest', async () => {
    await open();
    const [active, standby] = sides();
    expect((await switchover(standby)).body['code']).toBe('FT_ERR_SWITCHOVER_ROLE');
    const from = active.process.lines.length;
    standby.process.kill('SIGTERM');
    await active.waitState(['solo'], 5000, from);
    const { status, body } = await switchover(active);
    expect([status, body['code']]).toEqual([409, 'FT_ERR_SWITCHOVER_STATE']);
    expect(askIncrement(pair.netns?.name, pair.guest)).toBeDefined();
  });

  test.each([
    ['the standby', 1],
    ['the primary', 0],
  ])(
    '%s killed in the midst of it: one side goes on, and loses nothing',
    async (_who, victim) => {
      const stories: string[] = [];
      for (const afterMs of [0, 2, 4, 6, 9]) {
        await open();
        const [active, standby] = sides();
        const asking = await startOracle();
        await answersGoOn(asking);
        const from = active.process.lines.length;
        const outcome = switchover(active);
        await active.waitState(['switching'], 3000, from);
        await sleep(afterMs);
        const [dead, other] = victim === 0 ? [active, standby] : [standby, active];
        dead.process.kill('SIGKILL');
        const { status, body } = await outcome;
        const story = `${afterMs} ms: ${status} ${String(body['code'] ?? '')}`;
        // Had the standby the guest already, it took it with it; nobody is left to ask.
        if (victim === 1 && (status === 200 || body['code'] === 'FT_ERR_SWITCHOVER_WORD')) {
          stories.push(`${story}, too late`);
        } else {
          await answersGoOn(asking);
          expect([story, RUNS.includes(other.state)]).toEqual([story, true]);
          expectClean(await asking.finish());
          stories.push(story);
        }
        await oracle?.close();
        await pair.close();
      }
      process.stdout.write(`killed in the midst of a switchover: ${stories.join('; ')}\n`);
      expect(stories.some((story) => !story.endsWith('too late'))).toBe(true);
    },
    120_000,
  );

  test('--on-standby-loss pause: the guest waits for its next standby, and then goes on', async () => {
    await open(['--on-standby-loss', 'pause']);
    const [active, standby] = sides();
    expect(askIncrement(pair.netns?.name, pair.guest)).toMatchObject({ sequence: 1n });
    const from = active.process.lines.length;
    standby.process.kill('SIGKILL');
    await active.waitState(['solo'], 5000, from);
    await active.waitStatus(
      'a halted guest',
      (line) => line['guestHalted'] === 'standby-loss',
      3000,
    );
    expect(askIncrement(pair.netns?.name, pair.guest)).toBeUndefined();
    pair.startStandby();
    await active.waitState(['protected'], 15_000, active.process.lines.length);
    const answers = (): boolean => askIncrement(pair.netns?.name, pair.guest) !== undefined;
    await until('an answer', answers, 5000);
    // The host that takes over waits for a standby of its own.
    const { standby: heir } = pair;
    active.process.kill('SIGKILL');
    await heir?.waitState(['solo'], 5000);
    expect(askIncrement(pair.netns?.name, pair.guest)).toBeUndefined();
    pair.startStandby(pair.slots[0]);
    await heir?.waitState(['protected'], 15_000);
    await until('an answer there', answers, 5000);
  });
});
