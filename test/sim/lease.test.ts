/**
 * The lease on the release path, in the simulated world: what a primary that stood still, or whose
 * link was cut in part, lets out, and who asks the witness when.
 */
import { beaconRequest } from './sim-lan';
import { type SimHost, World, type WorldOptions } from './world';

/** One way; so an ack is on its way for a while. */
const DELAY_MS = 2;

async function slowPair(options: WorldOptions = {}): Promise<{
  world: World;
  a: SimHost;
  b: SimHost;
}> {
  const world = new World(options);
  world.delayMs = DELAY_MS;
  const { a, b } = await world.protectedPair();
  await world.advance(50);
  return { world, a, b };
}

/** Asks, and stops the primary when the answer's epoch is on its way and not acknowledged. */
async function stopWithAckUnderWay(world: World, a: SimHost): Promise<void> {
  world.lan.request(beaconRequest('incr', 1, 1));
  await world.advance(2.5);
  expect(a.node.primary?.inFlight).toBeGreaterThan(0);
  expect(a.machine.stats().outboxFrames).toBe(1);
  a.gate.pause();
}

function linksBetween(a: SimHost): [SimHost['links'][number], SimHost['links'][number]] {
  const [replication, heartbeat] = a.links;
  if (replication === undefined || heartbeat === undefined) throw new Error('There are two links.');
  return [replication, heartbeat];
}

describe('a primary that stood still with acks in its socket', () => {
  test('lets nothing out once it may have been superseded', async () => {
    const { world, a, b } = await slowPair();
    await stopWithAckUnderWay(world, a);
    await world.until('b runs', () => b.state === 'solo');
    expect(world.answers).toEqual([]);
    a.gate.resume();
    await world.until('a is fenced', () => a.end?.kind === 'fenced');
    expect(world.answers).toEqual([]);
    expect(a.machine.stats().leaseExpired).toBeGreaterThan(0);
    // The request is in the state that goes on, and its answer comes from there when asked again.
    world.lan.request(beaconRequest('incr', 1, 1));
    await world.advance(5);
    expect(world.answers.map((answer) => answer.node)).toEqual(['b']);
    expect(world.answers[0]?.counter).toBe(1);
    expect(world.violations).toEqual([]);
  });

  test('without the lease it would: the test can tell', async () => {
    const { world, a, b } = await slowPair({ faults: ['ignore-lease'] });
    await stopWithAckUnderWay(world, a);
    await world.until('b runs', () => b.state === 'solo');
    a.gate.resume();
    await world.until('a is fenced', () => a.end?.kind === 'fenced');
    expect(world.answers.map((answer) => answer.node)).toEqual(['a']);
  });

  test('lets it out later when it was not superseded after all, by an echo alone', async () => {
    const { world, a, b } = await slowPair({ intervalUs: 1_000_000 });
    await stopWithAckUnderWay(world, a);
    await world.advance(53);
    a.gate.resume();
    await world.advance(1);
    expect(world.answers).toEqual([]);
    await world.advance(20);
    expect(world.answers.map((answer) => answer.node)).toEqual(['a']);
    expect(a.machine.stats().leaseExpired).toBeGreaterThan(0);
    expect([a.state, b.state]).toEqual(['protected', 'ready']);
    expect(a.node.primary?.inFlight).toBe(0);
  });

  test('a standby with less patience than its primary says so, and the lease is as short', async () => {
    const world = new World();
    world.delayMs = DELAY_MS;
    const b = world.add('b', 'a', { suspectAfterMs: 20 });
    b.node.startStandby();
    const a = world.add('a', 'b', { suspectAfterMs: 5000 });
    await world.startPrimary(a);
    await world.until('protected', () => a.state === 'protected');
    await stopWithAckUnderWay(world, a);
    await world.until('b runs', () => b.state === 'solo');
    a.gate.resume();
    await world.until('a is fenced', () => a.end?.kind === 'fenced');
    expect(world.answers).toEqual([]);
  });
});

test('a round trip beyond what the standby waits: output waits, and the log says why', async () => {
  const { world, a } = await slowPair();
  for (const link of a.links) link.setDelayMs(40);
  await world.advance(1500);
  expect(a.state).toBe('protected');
  world.lan.request(beaconRequest('incr', 1, 1));
  await world.advance(300);
  expect(world.answers).toEqual([]);
  expect(a.said.filter((line) => line.includes('--suspect-after-ms'))).toHaveLength(1);
  for (const link of a.links) link.setDelayMs(1);
  await world.advance(100);
  expect(world.answers).toHaveLength(1);
});

describe('one connection of two', () => {
  test('is no proof: the standby falls silent at once, and its primary keeps the guest', async () => {
    for (const [which, cause] of [
      [0, 'ECONNRESET'],
      [1, 'ECONNRESET'],
      [0, 'ETIMEDOUT'],
      [1, 'ETIMEDOUT'],
    ] as const) {
      const { world, a, b } = await slowPair();
      linksBetween(a)[which].b.broken(cause);
      await world.advance(1);
      expect(b.state).toBe('suspecting');
      expect(b.node.standby?.stats.claims).toBe(0);
      const held = b.node.standby?.stats.epochHeld;
      world.lan.request(beaconRequest('incr', 1, 1));
      await world.until('a owns the guest', () => a.state === 'solo' && a.generation === 2);
      expect(b.node.standby?.stats.epochHeld).toBe(held);
      expect(world.answers.map((answer) => answer.node)).toEqual(['a']);
      expect(world.witness.owners).toEqual(['a', 'a']);
      await world.until('protected again', () => a.state === 'protected' && b.state === 'ready');
      expect(world.violations).toEqual([]);
    }
  });

  test('with a primary that stands still: a claim, but not before the last sign is too old', async () => {
    const { world, a, b } = await slowPair();
    await stopWithAckUnderWay(world, a);
    linksBetween(a)[1].b.broken('ETIMEDOUT');
    await world.advance(57);
    expect(b.node.standby?.stats.claims).toBe(0);
    await world.until('b runs', () => b.state === 'solo');
    a.gate.resume();
    await world.until('a is fenced', () => a.end?.kind === 'fenced');
    expect(world.answers).toEqual([]);
    expect(b.node.standby?.stats.failovers.get('silence')).toBe(1);
  });

  test('both, closed by the kernel of a process that ended: at once', async () => {
    const { world, a, b } = await slowPair();
    world.kill(a);
    await world.advance(1);
    expect(b.node.standby?.stats.claims).toBe(1);
    await world.until('b runs', () => b.state === 'solo');
    expect(b.node.standby?.stats.failovers.get('closed')).toBe(1);
  });
});

test('when nothing but the link is cut, the primary asks the witness first', async () => {
  for (let seed = 0; seed < 10; seed += 1) {
    const { world, a, b } = await slowPair();
    await world.advance(seed * 1.3);
    world.cutLinks();
    await world.until('a winner', () => world.witness.owners.length === 2);
    expect(world.witness.owners).toEqual(['a', 'a']);
    await world.until('b lost', () => b.states.some((event) => event.to === 'fenced'));
    expect(a.state).toBe('solo');
  }
});
