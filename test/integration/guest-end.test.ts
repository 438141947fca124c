/**
 * A guest on real KVM that ends itself, in each way there is: what it said before leaves, both
 * processes end with the code that says how, and the standby resumes nothing.
 */

import { Pair, type PairNode } from '../../src/drill/pair/pair';
import { sleep, until } from '../../src/drill/process/time';
import { askEnd, askIncrement, EndOp, sendEnd } from '../support/beacon-ask';
import { kvmDescribe } from '../support/kvm';

const WAYS: readonly [string, number, number][] = [
  ['power-off by port 0x604', EndOp.powerOff, 6],
  ['reset by the keyboard controller', EndOp.keyboard, 7],
  ['reset by port 0xcf9', EndOp.resetPort, 7],
  ['triple fault', EndOp.tripleFault, 7],
];

const statesOf = (node: PairNode | undefined): unknown[] =>
  (node?.process.lines ?? []).map((line) => line.fields['to']).filter((to) => to !== undefined);

const endOf = (node: PairNode | undefined): Readonly<Record<string, unknown>> | undefined =>
  node?.process.last((line) => line.fields['event'] === 'end')?.fields;

kvmDescribe('the guest’s own end', () => {
  let pair: Pair;
  const open = (flags: readonly string[] = []): void => {
    pair = new Pair({ machine: 'kvm', name: 'guest-end', flags });
  };
  const end = (how: number): ReturnType<typeof askEnd> => askEnd(pair.netns?.name, pair.guest, how);

  afterEach(() => pair.close());

  test.each(WAYS)('%s: the answer leaves, both sides end, nobody resumes it', async (...way) => {
    const [cause, how, code] = way;
    open();
    await pair.start();
    const { active, standby } = pair;
    expect(end(how)).toMatchObject({ status: 0, sequence: 1n });
    expect(await active?.process.waitExit(5000)).toMatchObject({ code });
    expect(await standby?.process.waitExit(5000)).toMatchObject({ code });
    for (const node of [active, standby]) {
      expect(endOf(node)).toMatchObject({ kind: 'guest-ended' });
      expect(endOf(node)?.['message']).toContain(cause);
      expect(statesOf(node).at(-1)).toBe('ended');
    }
    expect(statesOf(standby)).not.toContain('suspecting');
  });

  test('with several vCPUs, the others stop where they are', async () => {
    open(['--vcpus', '2']);
    await pair.start();
    const { active, standby } = pair;
    expect(end(EndOp.powerOff)?.status).toBe(0);
    expect(await active?.process.waitExit(5000)).toMatchObject({ code: 6 });
    expect(await standby?.process.waitExit(5000)).toMatchObject({ code: 6 });
  });

  test('without a standby it ends as well', async () => {
    open();
    const alone = pair.startAlone();
    await alone.waitState(['solo'], 8000);
    await sleep(200);
    expect(end(EndOp.powerOff)?.status).toBe(0);
    expect(await alone.process.waitExit(5000)).toMatchObject({ code: 6 });
  });

  test('on a standby that took over it ends as well', async () => {
    open();
    await pair.start();
    await pair.killActive();
    expect(end(EndOp.resetPort)?.status).toBe(0);
    expect(await pair.active?.process.waitExit(5000)).toMatchObject({ code: 7 });
  });

  test('a standby that is lost before the last epoch is acknowledged holds nothing up', async () => {
    open();
    await pair.start();
    const { active, standby } = pair;
    // A stopped process acknowledges nothing, and its connections stand.
    standby?.process.kill('SIGSTOP');
    expect(end(EndOp.powerOff)?.status).toBe(0);
    expect(await active?.process.waitExit(5000)).toMatchObject({ code: 6 });
    expect(statesOf(active).slice(-3)).toEqual(['suspended', 'solo', 'ended']);
    standby?.process.kill('SIGCONT');
    await sleep(500);
    expect(statesOf(standby)).not.toContain('active');
  });

  test('its host killed in the midst of it: over, or alive from before, never between', async () => {
    const outcomes: string[] = [];
    for (const afterMs of [30, 40, 50, 60, 70]) {
      open();
      await pair.start();
      const { active, standby } = pair;
      const sent = sendEnd(pair.netns?.name, pair.guest, EndOp.powerOff);
      await sleep(afterMs);
      active?.process.kill('SIGKILL');
      await sent;
      // A guest resumed behind its power-off would neither end nor answer.
      const decided = (): boolean => {
        if (standby?.process.exit !== undefined) return true;
        return askIncrement(pair.netns?.name, pair.guest) !== undefined;
      };
      await until(`an end or an answer (${afterMs} ms)`, decided, 8000);
      const { exit } = standby?.process ?? {};
      if (exit !== undefined) expect(exit).toMatchObject({ code: 6 });
      outcomes.push(exit === undefined ? 'alive' : 'over');
      await pair.close();
    }
    process.stdout.write(`killed in the midst of its end: ${outcomes.join(' ')}\n`);
  });

  test('hold: both processes stay, and the standby protects the guest that is started next', async () => {
    open(['--on-guest-end', 'hold']);
    await pair.start();
    const { active, standby } = pair;
    expect(end(EndOp.resetPort)?.status).toBe(0);
    await active?.waitState(['ended'], 5000);
    await standby?.waitState(['joining'], 5000, (standby?.process.lines.length ?? 1) - 1);
    await sleep(300);
    expect([active?.process.exit, standby?.process.exit]).toEqual([undefined, undefined]);
    active?.process.kill('SIGTERM');
    expect(await active?.process.waitExit(5000)).toMatchObject({ code: 0 });
    // The test gives every process a name of its own.
    const next = pair.startPrimary(pair.slots[0], pair.slots[1].port, ['--force-claim']);
    await next.waitState(['protected'], 15_000);
    expect(end(EndOp.powerOff)?.sequence).toBe(1n);
    await next.waitState(['ended'], 5000);
  });
});
