/**
 * The planned exchange of roles, and the policies for a lost standby and a lost witness: nothing is
 * lost, exactly one side runs on whoever dies at whatever step, and a guest that may not run does
 * not.
 */
import type { SwitchoverDone } from '../../src/primary/switchover';
import { beaconRequest } from './sim-lan';
import {
  ask,
  askAgain,
  codeOf,
  exchange,
  forgetRequests,
  halting,
  states,
} from './switchover-support';
import { type SimHost, settlePromises, World } from './world';

beforeEach(forgetRequests);

describe('a switchover', () => {
  test('moves the guest with all that it said, and says how long it stood still', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    ask(world);
    await world.until('an answer', () => world.answers.length === 1);
    // In the turn that halts the guest: the answer to this one leaves on this side, or is given there.
    a.onState = (event) => {
      if (event.to === 'switching') ask(world);
    };
    const seen = exchange(a);
    await world.until('the exchange', () => seen.outcome !== undefined && b.state === 'solo');
    const done = seen.outcome as SwitchoverDone;
    expect(codeOf(done)).toBe('done');
    expect(done.generation).toBe(2);
    expect(done.blackoutUs).toBeGreaterThan(0);
    expect(done.drainUs + done.takeoverUs).toBeLessThanOrEqual(done.blackoutUs);
    expect(done.blackoutUs).toBeLessThan(20_000);
    expect(states(a).slice(-2)).toEqual(['switching', 'fenced']);
    expect(a.end).toMatchObject({ kind: 'fenced', current: { generation: 2, owner: 'b' } });
    expect(states(b).slice(-4)).toEqual(['suspecting', 'promoting', 'active', 'solo']);
    expect(b.node.standby?.stats.failovers.get('switchover')).toBe(1);
    expect(world.witness.owners).toEqual(['a', 'b']);
    expect(b.machine.memory.bytes.equals(a.machine.memory.bytes)).toBe(true);
    if (world.answers.length < 2) askAgain(world);
    ask(world);
    await world.until('an answer there', () => world.answers.at(-1)?.node === 'b');
    expect(world.answers.at(-1)?.sequence).toBe(3);
    expect(world.violations).toEqual([]);
  });

  test('is refused where there is nothing to hand over, or nobody to take it', async () => {
    const world = new World();
    const a = world.add('a', 'b');
    await world.startPrimary(a);
    const alone = await a.node.switchover();
    expect(codeOf(alone)).toBe('FT_ERR_SWITCHOVER_STATE');
    const b = world.add('b', 'a');
    b.node.startStandby();
    expect(codeOf(await b.node.switchover())).toBe('FT_ERR_SWITCHOVER_ROLE');
    await world.until('protected', () => a.state === 'protected');
    const first = exchange(a);
    expect(codeOf(await a.node.switchover())).toBe('FT_ERR_SWITCHOVER_STATE');
    await world.until('the exchange', () => first.outcome !== undefined);
    expect(codeOf(first.outcome)).toBe('done');
  });

  test('that the standby is too slow for is given up: the guest goes on, protected', async () => {
    const world = new World({ suspectAfterMs: 10_000 });
    const { a, b } = await world.protectedPair();
    b.gate.pause();
    const seen = await halting(world, a);
    await world.advance(100);
    ask(world);
    await world.until('the end of patience', () => seen.outcome !== undefined);
    expect(codeOf(seen.outcome)).toBe('FT_ERR_SWITCHOVER_SLOW');
    expect(a.state).toBe('protected');
    b.gate.resume();
    await world.until('an answer', () => world.answers.length === 1);
    expect(world.answers[0]?.node).toBe('a');
    // What was asked for once can be asked for again.
    const again = exchange(a);
    await world.until('the exchange', () => again.outcome !== undefined);
    expect(codeOf(again.outcome)).toBe('done');
    expect(world.violations).toEqual([]);
  });

  test('that the standby cannot carry out leaves the guest where it is', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    const seen = await halting(world, a);
    b.node.stop('SIGTERM');
    await world.until('an outcome', () => seen.outcome !== undefined);
    expect(codeOf(seen.outcome)).toBe('FT_ERR_SWITCHOVER_FAILED');
    expect(a.state).toBe('solo');
    ask(world);
    await world.until('an answer', () => world.answers.length === 1);
    expect(world.witness.owners).toEqual(['a']);
    expect(world.violations).toEqual([]);
  });

  test('of a guest that ends itself at that moment comes to nothing', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    world.lan.request(beaconRequest('end', 1, 1, 0n));
    await world.advance(0.5);
    const seen = exchange(a);
    await world.until('both ends', () => a.end !== undefined && b.end !== undefined);
    expect(['FT_ERR_SWITCHOVER_GUEST_ENDED', 'FT_ERR_SWITCHOVER_STATE']).toContain(
      codeOf(seen.outcome),
    );
    expect(world.answers).toHaveLength(1);
    expect(world.witness.owners).toEqual(['a']);
    expect(world.violations).toEqual([]);
  });

  test('whose claim fails at first is carried out when the witness answers again', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    world.witness.unreachableFor.add('b');
    const seen = exchange(a);
    await world.until('the claim', () => b.state === 'suspecting');
    await world.advance(100);
    expect([a.state, codeOf(seen.outcome)]).toEqual(['switching', 'open']);
    world.witness.unreachableFor.clear();
    await world.until('the exchange', () => seen.outcome !== undefined);
    expect(codeOf(seen.outcome)).toBe('done');
    expect(world.violations).toEqual([]);
  });

  test('whose claim nobody answers ends at the witness: the guest goes on here', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    world.witness.unreachableFor.add('b');
    const seen = exchange(a);
    await world.until('an outcome', () => seen.outcome !== undefined);
    expect(codeOf(seen.outcome)).toBe('FT_ERR_SWITCHOVER_FAILED');
    expect(a.state).toBe('solo');
    world.witness.unreachableFor.clear();
    await world.until('protected again', () => a.state === 'protected' && b.state === 'ready');
    ask(world);
    await world.until('an answer', () => world.answers.length === 1);
    expect(world.witness.owners).toEqual(['a', 'a']);
    expect(world.violations).toEqual([]);
  });

  test('whose word is lost is known from the witness', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    const seen = exchange(a);
    await world.until('the claim', () => b.state === 'suspecting');
    world.cutLinks();
    await world.until('both outcomes', () => seen.outcome !== undefined && b.state === 'solo');
    expect(codeOf(seen.outcome)).toBe('FT_ERR_SWITCHOVER_WORD');
    expect(a.end).toMatchObject({ kind: 'fenced', current: { generation: 2, owner: 'b' } });
    expect(world.violations).toEqual([]);
  });

  test('whose node ends in the midst of it does not say that nothing was done', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    const seen = await halting(world, a);
    await world.until('the claim', () => b.state === 'suspecting');
    a.node.stop('SIGTERM');
    await world.until('an outcome', () => seen.outcome !== undefined && b.state === 'solo');
    expect(codeOf(seen.outcome)).toBe('FT_ERR_SWITCHOVER_ENDED');
    expect(world.witness.owners).toEqual(['a', 'b']);
    expect(world.violations).toEqual([]);
  });

  test('keeps both promises whoever dies, stops or is cut off, at every moment of it', async () => {
    const outcomes = new Map<string, number>();
    for (const fault of ['kill a', 'kill b', 'pause a', 'pause b', 'cut'] as const) {
      for (let afterMs = 0; afterMs <= 6; afterMs += 0.25) {
        forgetRequests();
        const world = new World();
        world.witness.delayMs = 1.5;
        const { a, b } = await world.protectedPair();
        ask(world);
        const seen = exchange(a);
        await world.advance(afterMs, 0.25);
        if (fault === 'cut') world.cutLinks();
        else if (fault.startsWith('kill')) world.kill(fault.endsWith('a') ? a : b);
        else (fault.endsWith('a') ? a : b).gate.pause();
        await world.advance(300);
        a.gate.resume();
        b.gate.resume();
        world.healLinks();
        await world.advance(2500, 5);
        const story = `${fault} after ${afterMs} ms: a ${states(a).join(' ')}; b ${states(b).join(' ')}`;
        expect([story, world.violations]).toEqual([story, []]);
        const before = world.answers.length;
        ask(world);
        const key = `${fault.split(' ')[0]}: ${codeOf(seen.outcome)}`;
        outcomes.set(key, (outcomes.get(key) ?? 0) + 1);
        // Who dies with a claim that succeeded takes the guest with it; it then runs nowhere.
        if (fault === 'kill b' && world.witness.owners.at(-1) === 'b') {
          await world.advance(100);
          expect([story, a.state, world.answers.length]).toEqual([story, 'fenced', before]);
          continue;
        }
        await world.until(`an answer; ${story}`, () => world.answers.length > before);
        await world.advance(50);
        expect([story, world.violations]).toEqual([story, []]);
        const running = [a, b].filter(
          (host) => host.alive && ['solo', 'syncing', 'protected'].includes(host.state),
        );
        expect([story, running.length]).toEqual([story, 1]);
      }
    }
    process.stdout.write(`switchovers with a fault: ${JSON.stringify([...outcomes])}\n`);
    // The faults came before, in the midst and behind it.
    expect(outcomes.get('kill: done')).toBeGreaterThan(0);
    expect(outcomes.get('kill: FT_ERR_SWITCHOVER_FAILED')).toBeGreaterThan(0);
    expect(outcomes.get('cut: FT_ERR_SWITCHOVER_WORD')).toBeGreaterThan(0);
  }, 120_000);

  test('word of a takeover that was not asked for is no proof: the witness is asked', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    // Stopped for longer than the standby waits, the old primary finds the other's word.
    a.gate.pause();
    await world.until('a takeover', () => b.state === 'solo');
    a.gate.resume();
    await world.until('the fence', () => a.end !== undefined);
    expect(states(a).slice(-3)).toEqual(['protected', 'suspended', 'fenced']);
    expect(world.violations).toEqual([]);
  });
});

describe('--on-standby-loss pause', () => {
  const paused = { onStandbyLoss: 'pause' } as const;

  test('a guest that never was protected runs', async () => {
    const world = new World(paused);
    const a = world.add('a', 'b');
    await world.startPrimary(a);
    ask(world);
    await world.until('an answer', () => world.answers.length === 1);
  });

  test.each(['dies', 'leaves'])(
    'when the standby %s it stands still until the next',
    async (how) => {
      const world = new World(paused);
      const { a, b } = await world.protectedPair();
      ask(world);
      await world.until('an answer', () => world.answers.length === 1);
      if (how === 'dies') world.kill(b);
      else b.node.stop('SIGTERM');
      await world.until('alone', () => a.state === 'solo');
      ask(world);
      await world.advance(300);
      expect(world.answers).toHaveLength(1);
      expect(a.node.primary?.halted).toBe('standby-loss');
      if (how === 'leaves') world.kill(b);
      world.add('b', 'a').node.startStandby();
      await world.until('protected again', () => a.state === 'protected');
      await world.until('the answer', () => world.answers.length === 2);
      expect(a.node.primary?.halted).toBe('');
      expect(world.violations).toEqual([]);
    },
  );

  test('what was said and is held by no standby waits with it', async () => {
    const world = new World(paused);
    const { a, b } = await world.protectedPair();
    b.gate.pause();
    ask(world);
    await world.advance(5);
    world.kill(b);
    await world.until('alone', () => a.state === 'solo');
    await world.advance(100);
    expect([world.answers.length, a.machine.stats().outboxFrames]).toEqual([0, 1]);
    world.add('b', 'a').node.startStandby();
    await world.until('the answer', () => world.answers.length === 1);
    expect(a.state).toBe('protected');
    expect(world.violations).toEqual([]);
  });

  test('after a takeover the guest waits for a standby, too', async () => {
    const world = new World(paused);
    const { a, b } = await world.protectedPair();
    ask(world);
    await world.until('an answer', () => world.answers.length === 1);
    world.kill(a);
    await world.until('a takeover', () => b.state === 'solo');
    ask(world);
    await world.advance(300);
    expect(world.answers).toHaveLength(1);
    world.add('a', 'b').node.startStandby();
    await world.until('protected again', () => b.state === 'protected');
    await world.until('the answer', () => world.answers.length === 2);
    expect(world.violations).toEqual([]);
  });
});

describe('--on-witness-loss', () => {
  async function suspended(
    onWitnessLoss: 'hold' | 'pause' | 'stop',
    more: { onStandbyLoss?: 'pause' } = {},
  ): Promise<{ world: World; a: SimHost }> {
    const world = new World({ onWitnessLoss, ...more });
    const { a, b } = await world.protectedPair();
    world.witness.unreachableFor.add('a');
    world.kill(b);
    await world.until('suspended', () => a.state === 'suspended' || a.end !== undefined);
    return { world, a };
  }

  test('hold: the guest runs on, and its answers wait', async () => {
    const { world, a } = await suspended('hold');
    await world.advance(50);
    ask(world);
    await world.advance(300);
    expect([world.answers.length, a.machine.stats().outboxFrames]).toEqual([0, 1]);
    expect(a.node.primary?.halted).toBe('');
    world.witness.unreachableFor.clear();
    await world.until('the answer', () => world.answers.length === 1);
    expect(a.state).toBe('solo');
  });

  test('pause: it stands still until the witness has decided', async () => {
    const { world, a } = await suspended('pause');
    await world.until('a halt', () => a.node.primary?.halted === 'witness-loss');
    ask(world);
    await world.advance(300);
    expect([world.answers.length, a.machine.stats().outboxFrames]).toEqual([0, 0]);
    world.witness.unreachableFor.clear();
    await world.until('the answer', () => world.answers.length === 1);
    expect(a.node.primary?.halted).toBe('');
  });

  test('stop: the guest is ended, and the node', async () => {
    const { world, a } = await suspended('stop');
    await world.until('the end', () => a.end !== undefined);
    expect(a.end?.kind).toBe('witness-lost');
    expect(a.state).toBe('stopped');
    await world.advance(300);
    expect(world.answers).toEqual([]);
  });

  test('stop: nothing is claimed for a guest that was ended; its standby goes on', async () => {
    const world = new World({ onWitnessLoss: 'stop' });
    const { a, b } = await world.protectedPair();
    world.witness.unreachableFor.add('a').add('b');
    world.cutLinks();
    await world.until('the end', () => a.end !== undefined);
    world.witness.unreachableFor.clear();
    await world.until('the other side', () => b.state === 'solo');
    expect(world.witness.owners).toEqual(['a', 'b']);
    expect(world.violations).toEqual([]);
  });

  test('stop: a claim that was won while this process stood still keeps the guest', async () => {
    const world = new World({ onWitnessLoss: 'stop' });
    const { a, b } = await world.protectedPair();
    world.kill(b);
    await world.until('the claim', () => a.state === 'suspended');
    a.gate.pause();
    await world.advance(1101);
    expect(world.witness.owners).toEqual(['a', 'a']);
    a.gate.resume();
    await world.until('an end or the guest', () => a.state !== 'suspended');
    expect([a.state, a.end]).toEqual(['solo', undefined]);
    expect(world.violations).toEqual([]);
  });

  test('a switchover that the witness keeps from its end: the guest runs on with hold', async () => {
    const world = new World({ onWitnessLoss: 'hold' });
    const { a, b } = await world.protectedPair();
    const seen = await halting(world, a);
    world.witness.unreachableFor.add('a').add('b');
    await world.until('the claim', () => b.state === 'suspecting');
    world.kill(b);
    await world.until('suspended', () => a.state === 'suspended');
    await world.until('a guest that runs', () => a.node.primary?.halted === '');
    expect(codeOf(seen.outcome)).toBe('open');
    world.witness.unreachableFor.clear();
    await world.until('the outcome', () => seen.outcome !== undefined);
    await settlePromises();
    expect(codeOf(seen.outcome)).toBe('FT_ERR_SWITCHOVER_FAILED');
    expect(a.state).toBe('solo');
    expect(world.violations).toEqual([]);
  });
});
