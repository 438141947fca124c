/**
 * Switchovers that come to nothing: a witness that cannot decide keeps them from beginning, and a
 * standby that won and cannot run the guest gives it back. The guest that stood still goes on where
 * it is sound, in a generation of its own, and never on both sides.
 */
import { FtError } from '../../src/common/errors';
import type { SimulatedMachine } from '../../src/machine/simulated-machine';
import type { Mutation } from './sim-host';
import { ask, codeOf, exchange, forgetRequests, halting, states } from './switchover-support';
import { type SimHost, World } from './world';

const RUNS: readonly string[] = ['solo', 'syncing', 'protected'];

/** The standby's host cannot restore the guest. */
const unrestorable: Mutation = {
  machine: (machine: SimulatedMachine, host: SimHost) => {
    if (host.name !== 'b') return;
    machine.promote = () => {
      throw new FtError('FT_ERR_STATE_RESTORE', 'This host does not know that register.');
    };
  },
};

async function answersFrom(world: World, name: string): Promise<void> {
  const before = world.answers.length;
  ask(world);
  await world.until('an answer', () => world.answers.length > before);
  expect(world.answers.at(-1)?.node).toBe(name);
}

/** `a` has its guest back, in the generation after the one that `b` gave up. */
async function goesOnThere(world: World, a: SimHost, b: SimHost): Promise<void> {
  await world.until('the guest', () => RUNS.includes(a.state));
  expect(world.witness.owners).toEqual(['a', 'b', 'a']);
  expect(a.node.primary?.generation).toBe(3);
  expect(states(b)).not.toContain('active');
  expect(states(b).slice(-2)).toEqual(['promoting', 'stopped']);
  expect(world.judge.guestGone).toBe(false);
  await answersFrom(world, 'a');
  // A standby that is sound protects it again.
  world.kill(b);
  world.add('b', 'a').node.startStandby();
  await world.until('protected again', () => a.state === 'protected');
  await answersFrom(world, 'a');
  expect(world.violations).toEqual([]);
}

beforeEach(forgetRequests);

describe('a switchover that the witness could not decide', () => {
  test('does not begin: the guest never stands still, and nothing is given up', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    await answersFrom(world, 'a');
    world.witness.unreachableFor.add('a').add('b');
    const seen = exchange(a);
    await answersFrom(world, 'a');
    await world.until('an outcome', () => seen.outcome !== undefined);
    expect(codeOf(seen.outcome)).toBe('FT_ERR_SWITCHOVER_WITNESS');
    expect([a.state, b.state, states(a).includes('switching')]).toEqual([
      'protected',
      'ready',
      false,
    ]);
    world.witness.unreachableFor.clear();
    const again = exchange(a);
    await world.until('the exchange', () => again.outcome !== undefined);
    expect(codeOf(again.outcome)).toBe('done');
    expect(world.violations).toEqual([]);
  });

  test('does not begin where a person decides', async () => {
    const mutate: Mutation = { witness: (witness) => ({ ...witness, asksPerson: true }) };
    const world = new World({ mutate });
    const { a, b } = await world.protectedPair();
    expect(codeOf(await a.node.switchover())).toBe('FT_ERR_SWITCHOVER_WITNESS');
    await answersFrom(world, 'a');
    expect([a.state, b.state, states(a).includes('switching')]).toEqual([
      'protected',
      'ready',
      false,
    ]);
  });

  test('does not begin when the standby is lost, or a second is asked for, meanwhile', async () => {
    const world = new World();
    world.witness.delayMs = 20;
    const { a, b } = await world.protectedPair();
    const seen = exchange(a);
    const second = exchange(a);
    await world.advance(5);
    expect([a.state, codeOf(second.outcome)]).toEqual(['protected', 'FT_ERR_SWITCHOVER_STATE']);
    b.node.stop('SIGTERM');
    await world.until('an outcome', () => seen.outcome !== undefined);
    expect([a.state, codeOf(seen.outcome)]).toEqual(['solo', 'FT_ERR_SWITCHOVER_STATE']);
    await answersFrom(world, 'a');
    expect(world.violations).toEqual([]);
  });
});

describe('a standby that won and cannot run the guest gives it back', () => {
  test('when restoring fails', async () => {
    const world = new World({ mutate: unrestorable });
    const { a, b } = await world.protectedPair();
    await answersFrom(world, 'a');
    const seen = exchange(a);
    await world.until('an outcome', () => seen.outcome !== undefined);
    expect(codeOf(seen.outcome)).toBe('FT_ERR_SWITCHOVER_FAILED');
    expect((seen.outcome as FtError).message).toContain('does not know that register');
    expect(b.end).toMatchObject({
      kind: 'promotion-failed',
      error: { code: 'FT_ERR_STATE_RESTORE' },
    });
    await goesOnThere(world, a, b);
  });

  test('when its disk fails during the claim', async () => {
    const world = new World({ diskLatencyMs: 20 });
    const { a, b } = await world.protectedPair();
    await world.advance(200);
    for (let request = 0; request < 4; request += 1) ask(world);
    await world.until('answers', () => world.answers.length === 4);
    const seen = await halting(world, a);
    world.witness.delayMs = 100;
    await world.until('the claim', () => b.state === 'suspecting');
    world.imageOf('b').failing = true;
    await world.until('an outcome', () => seen.outcome !== undefined);
    expect(b.end).toMatchObject({ kind: 'promotion-failed', error: { code: 'FT_ERR_DISK_IO' } });
    expect(codeOf(seen.outcome)).toBe('FT_ERR_SWITCHOVER_FAILED');
    world.imageOf('b').failing = false;
    await goesOnThere(world, a, b);
  });

  test('and with --on-standby-loss pause the guest waits there for its next standby', async () => {
    const world = new World({ mutate: unrestorable, onStandbyLoss: 'pause' });
    const { a, b } = await world.protectedPair();
    const seen = exchange(a);
    await world.until('an outcome', () => seen.outcome !== undefined);
    ask(world);
    await world.advance(200);
    expect([a.node.primary?.halted, world.answers.length]).toEqual(['standby-loss', 0]);
    world.kill(b);
    world.add('b', 'a').node.startStandby();
    await world.until('the answer', () => world.answers.length === 1);
    expect(world.witness.owners).toEqual(['a', 'b', 'a']);
    expect(world.violations).toEqual([]);
  });

  test('and the witness decides: who was booted meanwhile keeps the guest', async () => {
    const world = new World({ mutate: unrestorable });
    const { a, b } = await world.protectedPair();
    const seen = await halting(world, a);
    world.witness.unreachableFor.add('a');
    await world.until('the word', () => b.end !== undefined && a.state === 'suspended');
    await world.advance(100);
    expect([a.state, codeOf(seen.outcome)]).toEqual(['suspended', 'open']);
    world.judge.excuse = true;
    world.witness.owners.push('c');
    world.witness.unreachableFor.clear();
    await world.until('an outcome', () => seen.outcome !== undefined);
    expect([a.state, codeOf(seen.outcome)]).toEqual(['fenced', 'FT_ERR_SWITCHOVER_WORD']);
    expect(world.violations).toEqual([]);
  });

  test('and whose word is lost takes the guest with it: no side runs without a generation', async () => {
    const world = new World({ mutate: unrestorable });
    const { a, b } = await world.protectedPair();
    const seen = await halting(world, a);
    await world.until('the claim', () => b.state === 'suspecting');
    world.cutLinks();
    await world.until('an outcome', () => seen.outcome !== undefined && b.end !== undefined);
    expect([a.state, codeOf(seen.outcome)]).toEqual(['fenced', 'FT_ERR_SWITCHOVER_WORD']);
    expect(world.witness.owners).toEqual(['a', 'b']);
    expect(world.violations).toEqual([]);
  });

  test('keeps both promises whoever dies, stops or is cut off meanwhile', async () => {
    let givenBack = 0;
    for (const fault of ['kill a', 'kill b', 'pause a', 'pause b', 'cut'] as const) {
      for (let afterMs = 0; afterMs <= 7; afterMs += 1) {
        forgetRequests();
        const world = new World({ mutate: unrestorable });
        world.witness.delayMs = 1.5;
        const { a, b } = await world.protectedPair();
        ask(world);
        exchange(a);
        await world.advance(afterMs);
        if (fault === 'cut') world.cutLinks();
        else if (fault.startsWith('kill')) world.kill(fault.endsWith('a') ? a : b);
        else (fault.endsWith('a') ? a : b).gate.pause();
        await world.advance(300);
        a.gate.resume();
        b.gate.resume();
        world.healLinks();
        for (let round = 0; round < 10; round += 1) {
          await world.advance(250);
          // The process ends with its node, as the commands have it.
          if (b.alive && b.end !== undefined) b.node.stop('it ends');
        }
        const { owners } = world.witness;
        const story = `${fault} after ${afterMs} ms: ${owners}; a ${states(a)}; b ${states(b)}`;
        expect([story, world.violations]).toEqual([story, []]);
        expect([story, states(b).includes('active')]).toEqual([story, false]);
        const runs = a.alive && RUNS.includes(a.state);
        expect([story, runs && owners.at(-1) !== 'a']).toEqual([story, false]);
        if (!runs) continue;
        await answersFrom(world, 'a');
        if (owners.length === 3) givenBack += 1;
      }
    }
    expect(givenBack).toBeGreaterThan(5);
  }, 120_000);
});

test('a standby whose disk is known to be broken takes nothing over, and claims nothing', async () => {
  const world = new World();
  const { a, b } = await world.protectedPair();
  const seen = await halting(world, a);
  // As if the word of it had come in the same turn as the hand-over.
  const inside = b.node.standby as unknown as { disks: { failed(error: FtError): void } };
  inside.disks.failed(new FtError('FT_ERR_DISK_IO', 'The image cannot be written.'));
  await world.until('an outcome', () => seen.outcome !== undefined);
  expect([a.state, codeOf(seen.outcome)]).toEqual(['solo', 'FT_ERR_SWITCHOVER_FAILED']);
  await answersFrom(world, 'a');
  expect([world.witness.owners, states(b).includes('suspecting')]).toEqual([['a'], false]);
  expect(world.violations).toEqual([]);
});
