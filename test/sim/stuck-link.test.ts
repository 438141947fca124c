/**
 * Something on the way swallows the replication connection, and heartbeats go on: the kernels would
 * repeat what is lost for a quarter of an hour, and a protected guest's output would wait for that.
 */
import type { LinkWay } from '../../src/transport/memory';
import { mutations } from './mutations';
import { beaconRequest } from './sim-lan';
import { type SimHost, World, type WorldOptions } from './world';

/** With a suspicion after 50 ms: src/primary/link-watch.ts. */
const STUCK_MS = 1000;

async function pairWithTraffic(options: WorldOptions = {}): Promise<{
  world: World;
  a: SimHost;
  b: SimHost;
  swallow: (way: LinkWay) => void;
}> {
  const world = new World(options);
  const { a, b } = await world.protectedPair();
  await world.advance(50);
  const [replication] = a.links;
  return { world, a, b, swallow: (way) => replication?.cut(way) };
}

test.each<[string, LinkWay]>([
  ['to the standby', 'fromA'],
  ['from the standby', 'fromB'],
  ['both ways', 'both'],
])(
  'swallowed %s: the guest waits for a second, keeps its host, and is protected anew',
  async (...[, way]) => {
    const { world, a, b, swallow } = await pairWithTraffic();
    swallow(way);
    world.lan.request(beaconRequest('incr', 1, 1));
    await world.advance(STUCK_MS / 2);
    expect([a.state, b.state, world.answers.length]).toEqual(['protected', 'ready', 0]);
    await world.until('the answer', () => world.answers.length === 1, STUCK_MS);
    expect([world.answers[0]?.node, world.witness.owners]).toEqual(['a', ['a', 'a']]);
    await world.until('protected', () => a.state === 'protected' && b.state === 'ready', 2000);
    expect(a.said.filter((line) => line.includes('the standby is lost'))).toHaveLength(1);
    expect(world.violations).toEqual([]);
  },
);

test('without the watch it waits for as long as nobody gives up: the test can tell', async () => {
  const { plant } = mutations['trust-heartbeats-alone'];
  const { world, a, swallow } = await pairWithTraffic({ mutate: plant });
  swallow('both');
  world.lan.request(beaconRequest('incr', 1, 1));
  await world.advance(60 * STUCK_MS);
  expect([a.state, world.answers.length]).toEqual(['protected', 0]);
});

test('in the midst of a sync: the sync begins anew', async () => {
  const world = new World();
  const b = world.add('b', 'a');
  b.node.startStandby();
  const a = world.add('a', 'b');
  await world.startPrimary(a);
  await world.until('a sync', () => a.state === 'syncing');
  a.links[0]?.cut('both');
  await world.advance(STUCK_MS / 2);
  expect(a.state).toBe('syncing');
  await world.until('protected', () => a.state === 'protected', 3000);
  // The base epoch may have been under way, so the witness was asked; nobody else can have been.
  expect(new Set(world.witness.owners)).toEqual(new Set(['a']));
  expect(world.violations).toEqual([]);
});

/** Nothing reaches the standby for so long that it doubts; and it cannot ask the witness. */
async function doubtAlone(options: WorldOptions = {}): Promise<{ world: World; a: SimHost }> {
  const { world, a, b } = await pairWithTraffic(options);
  world.witness.unreachableFor.add('b');
  world.cutLinks('a>b');
  await world.until('a doubt', () => b.state === 'suspecting', 200);
  world.healLinks();
  world.lan.request(beaconRequest('incr', 1, 1));
  await world.advance(STUCK_MS / 2);
  expect([a.state, b.state, world.answers.length]).toEqual(['protected', 'suspecting', 0]);
  return { world, a };
}

test('a standby that doubts and cannot ask: the primary asks, and goes on alone until it can', async () => {
  const { world, a } = await doubtAlone();
  await world.until('the answer', () => world.answers.length === 1, STUCK_MS);
  expect([world.answers[0]?.node, world.witness.owners]).toEqual(['a', ['a', 'a']]);
  world.witness.unreachableFor.clear();
  await world.until('protected', () => a.state === 'protected', 3000);
  expect(world.violations).toEqual([]);
});

test('without the watch its guest would wait for the standby’s witness: the test can tell', async () => {
  const { plant } = mutations['trust-heartbeats-alone'];
  const { world, a } = await doubtAlone({ mutate: plant });
  await world.advance(60 * STUCK_MS);
  expect([a.state, world.answers.length]).toEqual(['protected', 0]);
});

test('a standby that stood still for long, and is not replaced, finds its link as it was', async () => {
  const { world, a, b } = await pairWithTraffic({ suspectAfterMs: 5000 });
  for (const host of [a, b]) {
    host.gate.pause();
    await world.advance(4000);
    host.gate.resume();
    await world.advance(3000);
    expect([a.state, b.state]).toEqual(['protected', 'ready']);
  }
  expect(world.violations).toEqual([]);
});
