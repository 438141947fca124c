/** Output commit: what an acknowledgement may and may not release. */
import fc from 'fast-check';
import { type Clock, systemClock } from '../../src/common/clock';
import { type Cut, emptyCut } from '../../src/machine/machine';
import { claimBoot } from '../../src/primary/boot-claim';
import { OutputCommit } from '../../src/primary/output-commit';
import { PrimaryStats } from '../../src/primary/primary-stats';
import type {
  Claimant,
  GenerationRecord,
  NewestGeneration,
  Witness,
} from '../../src/witness/witness';
import { ManualClock } from '../support/manual-clock';

function cutOf(epoch: number, outputFrames: number): Cut {
  return { ...emptyCut(), epoch, outputFrames };
}

function setUp(): {
  commit: OutputCommit;
  committed: number[];
  stats: PrimaryStats;
  clock: ManualClock;
  links: [number, number][];
} {
  const clock = new ManualClock();
  const committed: number[] = [];
  const stats = new PrimaryStats();
  const machine = { commit: (epoch: number) => void committed.push(epoch) };
  const links: [number, number][] = [];
  const commit = new OutputCommit(clock, machine, stats, (bytes, us) => links.push([bytes, us]));
  return { commit, committed, stats, clock, links };
}

test('acks are cumulative and timed', () => {
  const { commit, committed, stats, clock, links } = setUp();
  commit.begin(1);
  for (let epoch = 1; epoch <= 3; epoch += 1) {
    commit.noteCut({ ...cutOf(epoch, epoch === 2 ? 1 : 0), wakeUs: 500 }, clock.nowUs());
    commit.noteSent(epoch, 100, clock.nowUs());
  }
  clock.advance(1);
  commit.noteFlushed(clock.nowUs());
  clock.advance(2);
  expect(commit.unacked).toBe(3);
  expect(commit.ack(2)).toBeUndefined();
  expect(commit.ack(3)).toBeUndefined();
  expect(committed).toEqual([]);
  expect(commit.settle()).toBe(3);
  expect(committed).toEqual([3]);
  expect(commit.settle()).toBe(0);
  expect(committed).toEqual([3]);
  expect(links).toEqual([[300, 2000]]);
  expect(commit.unacked).toBe(0);
  expect(stats.ackUs.total.count).toBe(3);
  expect(stats.outputDelayUs.total.count).toBe(1);
  expect(stats.ackUs.total.minUs).toBeCloseTo(3500, 0);
  expect(stats.stages.send.total.minUs).toBeCloseTo(1000, 0);
  expect(stats.stages.wire.total.minUs).toBeCloseTo(2000, 0);
  expect(stats.stages.release.total.count).toBe(1);
});

test('an ack for what was not sent whole, or was acked before, releases nothing', () => {
  const { commit, committed } = setUp();
  commit.begin(5);
  commit.noteCut(cutOf(5, 1), 0);
  expect(commit.ack(5)?.code).toBe('FT_ERR_ACK');
  commit.noteSent(5, 100, 0);
  expect(commit.ack(6)?.code).toBe('FT_ERR_ACK');
  expect(commit.ack(4)?.code).toBe('FT_ERR_ACK');
  expect(commit.settle()).toBe(0);
  expect(committed).toEqual([]);
  expect(commit.ack(5)).toBeUndefined();
  expect(commit.settle()).toBe(5);
  expect(commit.ack(5)?.code).toBe('FT_ERR_ACK');
  expect(committed).toEqual([5]);
});

test('whatever a standby says, nothing is committed that was not sent whole', () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('send' as const), epoch: fc.constant(0) }),
    fc.record({ kind: fc.constant('ack' as const), epoch: fc.integer({ min: -3, max: 40 }) }),
    fc.record({ kind: fc.constant('settle' as const), epoch: fc.constant(0) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const { commit, committed } = setUp();
      let sent = 0;
      let acked = 0;
      commit.begin(1);
      for (const { kind, epoch } of steps) {
        if (kind === 'send') {
          sent += 1;
          commit.noteCut(cutOf(sent, 1), 0);
          commit.noteSent(sent, 100, 0);
        } else if (kind === 'ack') {
          if (commit.ack(epoch) === undefined) acked = epoch;
        } else {
          commit.settle();
          expect(committed.at(-1) ?? 0).toBe(acked);
        }
        expect(Math.max(0, ...committed)).toBeLessThanOrEqual(sent);
      }
      expect(committed).toEqual([...new Set(committed)].sort((a, b) => a - b));
    }),
  );
});

describe('the claim of a boot', () => {
  function witness(
    current: GenerationRecord | undefined,
    loses = false,
    claimants: Claimant[] = ['ended'],
  ): Witness & { asked: number[] } {
    const asked: number[] = [];
    let looks = 0;
    const look = (): NewestGeneration | undefined => {
      const claimant = claimants[Math.min(looks++, claimants.length - 1)] ?? 'ended';
      return current && { ...current, claimant, origin: 'host-x, process 7' };
    };
    return {
      asked,
      description: 'test',
      current: () => Promise.resolve(look()),
      claim: (_pair, from, nodeId) => {
        asked.push(from);
        const other = { generation: from + 1, owner: 'other' };
        return Promise.resolve(
          loses
            ? { outcome: 'lost', current: other }
            : { outcome: 'won', generation: from + 1, owner: nodeId },
        );
      },
      close: () => Promise.resolve(),
    };
  }
  const clock: Clock = { ...systemClock, after: (_ms, fn) => systemClock.after(0, fn) };
  const boot = (w: Witness, force = false): Promise<number> =>
    claimBoot({ clock, witness: w, pair: 'p', nodeId: 'me', force });

  test('a pair that never ran, and one whose newest generation is ours', async () => {
    expect(await boot(witness(undefined))).toBe(1);
    expect(await boot(witness({ generation: 7, owner: 'me' }))).toBe(8);
  });

  test('a generation of another node is refused by name, before anything is claimed', async () => {
    const other = witness({ generation: 7, owner: 'beta' });
    await expect(boot(other)).rejects.toMatchObject({ code: 'FT_ERR_GENERATION_OWNED' });
    await expect(boot(other)).rejects.toThrow(/beta.*ft-standby.*--force-claim/);
    expect(other.asked).toEqual([]);
    expect(await boot(other, true)).toBe(8);
  });

  test('its own name from another host is refused, unless the operator vouches for it', async () => {
    const twin = witness({ generation: 7, owner: 'me' }, false, ['elsewhere']);
    await expect(boot(twin)).rejects.toMatchObject({ code: 'FT_ERR_GENERATION_OWNED' });
    await expect(boot(twin)).rejects.toThrow(/own name.*host-x, process 7.*--node.*--force-claim/);
    expect(twin.asked).toEqual([]);
    expect(await boot(twin, true)).toBe(8);
  });

  test.each(['me', 'other'])('a process of %s that runs here is never overruled', async (owner) => {
    const rival = witness({ generation: 7, owner }, false, ['running']);
    await expect(boot(rival, true)).rejects.toThrow(/this very host \(host-x, process 7\)/);
    expect(rival.asked).toEqual([]);
  });

  test('a killed process of this node is given a moment to go', async () => {
    const dying = witness({ generation: 7, owner: 'me' }, false, ['running', 'running', 'ended']);
    expect(await boot(dying)).toBe(8);
  });

  test('a claim that is lost between looking and claiming starts nothing', async () => {
    await expect(boot(witness(undefined, true))).rejects.toThrow(/other/);
  });
});
