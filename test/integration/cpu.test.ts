/**
 * Processor models over a pair: a standby that offers more takes the guest on, one that offers less
 * is refused by name, and a guest keeps its processor wherever it is resumed.
 */

import { GUEST_ADDRESS } from '../../src/drill/lan/netns';
import { OracleProcess } from '../../src/drill/oracle/oracle-process';
import { Pair, type PairNode } from '../../src/drill/pair/pair';
import { until } from '../../src/drill/process/time';
import { kvmDescribe } from '../support/kvm';

/** What the primary says of a standby that offers less than the guest was given. */
const LACKS = /The standby lacks what the guest was given: .*\(cpuid\.[0-9a-f.]+e[a-d]x bit \d+\)/;

kvmDescribe('processor models', () => {
  let pair: Pair | undefined;
  let oracle: OracleProcess | undefined;

  afterEach(async () => {
    await oracle?.close();
    await pair?.close();
    pair = undefined;
    oracle = undefined;
  });

  const makePair = (model: string): Pair => {
    const kernelFlags = ['--cmdline', `ip=${GUEST_ADDRESS}`, '--cpu', model];
    pair = new Pair({ machine: 'kvm', name: `cpu-${model}`, kernelFlags });
    return pair;
  };

  const startOracle = async (made: Pair): Promise<OracleProcess> => {
    const settings = { ...made.guest, clients: 8, ratePerSecond: 400 };
    oracle = await OracleProcess.start(settings, made.netns?.name);
    await oracle.start();
    return oracle;
  };

  const answersGoOn = async (clients: OracleProcess): Promise<void> => {
    const { answered } = await clients.sample();
    const more = async (): Promise<boolean> => (await clients.sample()).answered > answered + 50;
    await until('more answers', more, 8000);
  };

  const refusedBy = async (active: PairNode, misfit: PairNode): Promise<void> => {
    const said = (): boolean => LACKS.test(active.process.stderrTail);
    await until('the refusal in the log', said, 8000);
    expect(active.state).toBe('solo');
    expect(misfit.process.exit).toBeUndefined();
    await misfit.process.stop();
  };

  test('a guest with all of its host is not taken by a standby that offers less', async () => {
    const made = makePair('host');
    const primary = made.startPrimary();
    await primary.waitState(['solo'], 8000);
    const clients = await startOracle(made);
    await refusedBy(primary, made.startStandby(made.slots[1], '64M', ['--cpu', 'baseline']));
    made.startStandby();
    await primary.waitState(['protected'], 15_000);
    const verdict = await clients.finish();
    expect(verdict.violations.map((violation) => violation.story)).toEqual([]);
  });

  /** A guest of `model` on two hosts that offer more than it was given. */
  const liveThroughKills = async (made: Pair, model: string): Promise<void> => {
    await made.start();
    const clients = await startOracle(made);
    await answersGoOn(clients);
    await made.killActive();
    await answersGoOn(clients);
    // The survivor was started with all of its host, but the guest did not get it: a standby that
    // offers no more than the model does.
    const survivor = made.active as PairNode;
    const from = survivor.process.lines.length;
    made.startStandby(made.freeSlot, '64M', ['--cpu', model]);
    await survivor.waitState(['protected'], 15_000, from);
    await made.killActive();
    await answersGoOn(clients);
    const verdict = await clients.finish();
    expect(verdict.violations.map((violation) => violation.story)).toEqual([]);
    expect(verdict).toMatchObject({ unanswered: 0, lost: 0, regressed: 0 });
  };

  test('a guest of the baseline keeps its processor on hosts that offer more', async () => {
    await liveThroughKills(makePair('baseline'), 'baseline');
  });

  test.each(['x86-64-v2', 'x86-64-v3'])(
    'a guest of %s does so too, or this host says what it lacks for that',
    async (model) => {
      const made = makePair(model);
      const primary = made.startPrimary();
      const lacking = (): boolean => primary.process.exit !== undefined;
      await until('its start or its end', () => lacking() || primary.state === 'solo', 8000);
      if (lacking()) {
        expect(primary.process.exit?.code).toBe(3);
        const level = model.replaceAll('-', '\\-');
        const words = `this host lacks what --cpu ${level} gives: .*\\(cpuid\\..* bit \\d+\\)`;
        expect(primary.process.stderrTail).toMatch(new RegExp(words));
        return;
      }
      await primary.process.stop();
      await liveThroughKills(made, model);
    },
  );
});
