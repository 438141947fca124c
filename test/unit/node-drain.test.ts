/** Drain: what it does for each state of a node, and that two who ask get one answer. */
import { FtError } from '../../src/common/errors';
import { silentLogger } from '../../src/common/logger';
import { Drain, type DrainableNode, type Drained } from '../../src/node/drain';
import type { PrimaryEnd, PrimaryState } from '../../src/primary/primary-types';
import type { SwitchoverDone } from '../../src/primary/switchover';
import type { StandbyState } from '../../src/standby/standby-types';

class FakeNode implements DrainableNode {
  claiming = false;
  settings: DrainableNode['settings'] = { onStandbyLoss: 'continue' };
  switchoverUnderWay: DrainableNode['switchoverUnderWay'];
  lost: PrimaryEnd | undefined;
  switchovers = 0;
  outcome: SwitchoverDone | FtError = {
    ...{ generation: 4, blackoutUs: 5000 },
    ...{ drainUs: 2000, takeoverUs: 1500 },
  };
  constructor(
    readonly role: 'primary' | 'standby',
    public is: PrimaryState | StandbyState,
  ) {}
  get state(): DrainableNode['state'] {
    return { role: this.role, state: this.is };
  }
  async switchover(): Promise<SwitchoverDone | FtError> {
    this.switchovers += 1;
    await Promise.resolve();
    return this.outcome;
  }
}

const FENCED: PrimaryEnd = {
  kind: 'fenced',
  current: { generation: 4, owner: 'b' },
};

interface Watched {
  readonly drain: Drain;
  readonly ends: Drained[];
  /** One for each refusal. */
  readonly refusals: string[];
}

function drainOf(node: FakeNode): Watched {
  const ends: Drained[] = [];
  const refusals: string[] = [];
  const drain = new Drain(node, silentLogger, {
    onDrained: (drained) => ends.push(drained),
    onRefused: () => refusals.push(node.is),
  });
  return { drain, ends, refusals };
}

describe('a drain', () => {
  test('of a protected primary hands the guest over, and says what it took', async () => {
    const node = new FakeNode('primary', 'protected');
    const { drain, ends } = drainOf(node);
    const asked = drain.make(false);
    expect(drain.active).toBe(true);
    expect(await asked).toEqual({
      ...{ drained: true, role: 'primary', guest: 'handed-over' },
      ...{ generation: 4, blackoutUs: 5000 },
    });
    expect(ends).toHaveLength(1);
    // From here on the node must not join anew.
    expect(drain.active).toBe(true);
  });

  test('whose switchover fails leaves everything as it was, and may be asked again', async () => {
    const node = new FakeNode('primary', 'protected');
    const { drain, ends, refusals } = drainOf(node);
    node.outcome = new FtError('FT_ERR_SWITCHOVER_WITNESS', 'The witness is away.');
    expect(await drain.make(true)).toBe(node.outcome);
    expect(drain.active).toBe(false);
    expect([ends, refusals]).toEqual([[], ['protected']]);
    expect(await drain.make(false)).toBe(node.outcome);
    expect(node.switchovers).toBe(2);
  });

  test('whose word was lost, with the guest over there, is done', async () => {
    const node = new FakeNode('primary', 'protected');
    const { drain, ends } = drainOf(node);
    node.outcome = new FtError('FT_ERR_SWITCHOVER_WORD', 'Nobody here heard how it went.');
    node.lost = FENCED;
    expect(await drain.make(false)).toEqual({
      ...{ drained: true, role: 'primary', guest: 'handed-over' },
    });
    expect(ends).toHaveLength(1);
  });

  test.each<[PrimaryState, string]>([
    ['starting', 'FT_ERR_DRAIN_UNPROTECTED'],
    ['solo', 'FT_ERR_DRAIN_UNPROTECTED'],
    ['syncing', 'FT_ERR_DRAIN_UNPROTECTED'],
    // Who has the guest is clear in a moment: worth another question.
    ['suspended', 'FT_ERR_DRAIN_BUSY'],
  ])('of a primary that is %s is refused, and with force ends the guest', async (state, code) => {
    const node = new FakeNode('primary', state);
    const { drain, ends } = drainOf(node);
    expect(await drain.make(false)).toMatchObject({ code });
    expect(ends).toEqual([]);
    expect(await drain.make(true)).toEqual({ drained: true, role: 'primary', guest: 'ended' });
    expect(node.switchovers).toBe(0);
  });

  test.each<StandbyState>(['joining', 'syncing', 'ready', 'ended'])(
    'of a standby that is %s ends it',
    async (state) => {
      const { drain, ends } = drainOf(new FakeNode('standby', state));
      expect(await drain.make(false)).toEqual({
        ...{ drained: true, role: 'standby', guest: 'elsewhere' },
      });
      expect(ends).toHaveLength(1);
    },
  );

  test.each<PrimaryState>(['switching', 'fenced'])(
    'of a primary that is %s is refused, with force too',
    async (state) => {
      const { drain, ends } = drainOf(new FakeNode('primary', state));
      for (const force of [false, true]) {
        expect(await drain.make(force)).toMatchObject({ code: 'FT_ERR_DRAIN_BUSY' });
      }
      expect(ends).toEqual([]);
    },
  );

  test.each<StandbyState>(['suspecting', 'promoting'])(
    'of a standby that is %s is refused, with force too',
    async (state) => {
      const node = new FakeNode('standby', state);
      node.claiming = true;
      const { drain, ends } = drainOf(node);
      for (const force of [false, true]) {
        expect(await drain.make(force)).toMatchObject({ code: 'FT_ERR_DRAIN_BUSY' });
      }
      expect(ends).toEqual([]);
    },
  );

  test('waits for a switchover that is under way, and goes on from how that ended', async () => {
    const gone = new FakeNode('primary', 'switching');
    gone.switchoverUnderWay = Promise.resolve(gone.outcome);
    gone.lost = FENCED;
    expect(await drainOf(gone).drain.make(false)).toMatchObject({
      ...{ guest: 'handed-over', generation: 4, blackoutUs: 5000 },
    });
    expect(gone.switchovers).toBe(0);
    const stays = new FakeNode('primary', 'switching');
    stays.switchoverUnderWay = Promise.resolve(new FtError('FT_ERR_SWITCHOVER_SLOW', 'Slow.'));
    const asked = drainOf(stays).drain.make(false);
    stays.is = 'protected';
    expect(await asked).toMatchObject({ guest: 'handed-over' });
    expect(stays.switchovers).toBe(1);
  });

  test('of a standby without which the guest would stand still needs force', async () => {
    const node = new FakeNode('standby', 'ready');
    node.settings = { onStandbyLoss: 'pause' };
    const { drain, ends } = drainOf(node);
    expect(await drain.make(false)).toMatchObject({ code: 'FT_ERR_DRAIN_PAUSE' });
    expect(ends).toEqual([]);
    expect(await drain.make(true)).toMatchObject({ guest: 'elsewhere' });
  });

  test('in which an error of our own is thrown is refused, and may be asked again', async () => {
    const node = new FakeNode('primary', 'protected');
    const { drain, refusals } = drainOf(node);
    const switchover = jest.spyOn(node, 'switchover').mockRejectedValueOnce(new Error('a defect'));
    expect(await drain.make(false)).toMatchObject({ code: 'FT_ERR_UNEXPECTED' });
    expect([drain.active, refusals]).toEqual([false, ['protected']]);
    expect(await drain.make(false)).toMatchObject({ guest: 'handed-over' });
    expect(switchover).toHaveBeenCalledTimes(2);
  });

  test('of a guest that has ended needs no force', async () => {
    const { drain } = drainOf(new FakeNode('primary', 'ended'));
    expect(await drain.make(false)).toMatchObject({ guest: 'ended' });
  });

  test('asked twice is one', async () => {
    const node = new FakeNode('primary', 'protected');
    const { drain, ends } = drainOf(node);
    const [one, two] = await Promise.all([drain.make(false), drain.make(false)]);
    expect(two).toBe(one);
    expect(node.switchovers).toBe(1);
    expect(ends).toHaveLength(1);
  });
});
