/** Drain in the simulator: the guest is at exactly one side afterwards, whatever is lost on the way. */
import { FtError } from '../../src/common/errors';
import type { Drained } from '../../src/node/drain';
import { ask, forgetRequests, states } from './switchover-support';
import { type SimHost, settlePromises, World } from './world';

interface Asked {
  outcome: Drained | FtError | undefined;
}

function drain(host: SimHost, force = false): Asked {
  const seen: Asked = { outcome: undefined };
  host.node.drain(force).then(
    (outcome) => {
      seen.outcome = outcome;
      // What the command does when a node has come to its end.
      if (!(outcome instanceof FtError)) host.node.stop('the command ends');
    },
    (thrown: unknown) => {
      throw thrown;
    },
  );
  return seen;
}

beforeEach(forgetRequests);

describe('a drain', () => {
  test('of the primary moves the guest, and the node is no standby afterwards', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    ask(world);
    await world.until('an answer', () => world.answers.length === 1);
    const seen = drain(a);
    await world.until('the drain', () => seen.outcome !== undefined && b.state === 'solo');
    expect(seen.outcome).toMatchObject({ guest: 'handed-over', generation: 2 });
    expect(a.end).toMatchObject({ kind: 'drained' });
    expect(states(a)).not.toContain('joining');
    expect(world.witness.owners).toEqual(['a', 'b']);
    ask(world);
    await world.until('an answer there', () => world.answers.at(-1)?.node === 'b');
    expect(world.violations).toEqual([]);
  });

  test('whose word is lost ends when the witness has said where the guest is', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    // The standby has won and runs the guest; nobody hears it say so.
    b.onState = (event) => {
      if (event.to === 'promoting') world.cutLinks();
    };
    const seen = drain(a);
    await world.until('the drain', () => seen.outcome !== undefined && b.state === 'solo');
    expect(seen.outcome).toEqual({ drained: true, role: 'primary', guest: 'handed-over' });
    expect(a.end).toMatchObject({ kind: 'drained' });
    expect(states(a)).toContain('suspended');
    expect(world.witness.owners).toEqual(['a', 'b']);
    expect(world.violations).toEqual([]);
  });

  test('whose standby dies meanwhile goes on here, and says why', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    a.onState = (event) => {
      if (event.to === 'switching') world.crash(b, 'reset');
    };
    const seen = drain(a);
    await world.until('an answer', () => seen.outcome !== undefined && a.state === 'solo');
    expect(seen.outcome).toBeInstanceOf(FtError);
    expect(a.end).toBeUndefined();
    ask(world);
    await world.until('an answer here', () => world.answers.at(-1)?.node === 'a');
    expect(await a.node.drain(false)).toMatchObject({ code: 'FT_ERR_DRAIN_UNPROTECTED' });
    expect(world.violations).toEqual([]);
  });

  test('of the standby leaves its primary alone at once, without a claim', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    const seen = drain(b);
    await settlePromises();
    expect(seen.outcome).toMatchObject({ role: 'standby', guest: 'elsewhere' });
    expect(b.end).toMatchObject({ kind: 'drained' });
    await world.until('solo', () => a.state === 'solo');
    expect(states(a)).not.toContain('suspended');
    expect(a.node.primary?.why).toBe('the standby left: drained by its operator');
    expect(world.witness.owners).toEqual(['a']);
    expect(world.violations).toEqual([]);
  });

  test('of a standby that is taking over is refused: it runs the guest then', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    let seen: Asked | undefined;
    b.onState = (event) => {
      if (event.to === 'suspecting') seen = drain(b, true);
    };
    world.crash(a, 'reset');
    await world.until('the takeover', () => b.state === 'solo');
    expect(seen?.outcome).toMatchObject({ code: 'FT_ERR_DRAIN_BUSY' });
    expect(b.end).toBeUndefined();
    expect(world.violations).toEqual([]);
  });
});
