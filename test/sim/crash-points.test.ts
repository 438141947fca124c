/**
 * A host dies at every point of a short story that others can tell apart: before each event that
 * happens to it, and instead of each thing that it does (a frame sent, a claim made, an answer that
 * leaves), one world for each. Whoever is left goes on, or nobody could.
 */
import { FrameBufferPool } from '../../src/wire/buffer-pool';
import type { FaultPoint } from './host-gate';
import { ACTIVE } from './judge';
import { beaconRequest } from './sim-lan';
import { type SimHost, World } from './world';

const POOL = new FrameBufferPool(80 * 1024, 64);
const STORY_MS = 45;

interface Story {
  readonly name: string;
  /** Up to the moment from which the points are counted. */
  begin(world: World): Promise<void>;
}

function makeWorld(): World {
  const sizes = { memoryBytes: 64 * 1024, diskBytes: 64 * 1024, intervalUs: 3000 };
  const patience = { heartbeatIntervalMs: 5, suspectAfterMs: 25, onFenced: 'rejoin' } as const;
  return new World({ ...sizes, ...patience, judgeLease: true, cheapSums: true, pool: POOL });
}

const stories: readonly Story[] = [
  {
    name: 'the first sync',
    begin: async (world) => {
      await world.startPrimary(world.add('a', 'b'));
      world.add('b', 'a').node.startStandby();
    },
  },
  {
    name: 'answers of a protected guest',
    begin: async (world) => {
      await world.protectedPair();
    },
  },
  {
    name: 'a takeover',
    begin: async (world) => {
      const { a } = await world.protectedPair();
      world.lan.request(beaconRequest('incr', 1, 1));
      await world.advance(4);
      world.crash(a, 'fin');
      world.add('a', 'b').node.startStandby();
    },
  },
  {
    name: 'a cut link, both claim',
    begin: async (world) => {
      await world.protectedPair();
      world.cutLinks();
      world.clock.after(40, () => world.healLinks());
    },
  },
  {
    name: 'a primary that stood still and joins again',
    begin: async (world) => {
      const { a, b } = await world.protectedPair();
      a.gate.pause();
      await world.until('b runs', () => b.state === 'solo');
      a.gate.resume();
    },
  },
];

/** Plays the story with a death in it; false when the story was over before. */
async function play(
  story: Story,
  slot: 'a' | 'b',
  at: FaultPoint,
  left: number,
): Promise<{ world: World; struck: boolean }> {
  const world = makeWorld();
  await story.begin(world);
  let struck = false;
  const victim = world.hosts.get(slot);
  victim?.gate.arm(at, left, () => {
    struck = true;
    world.crash(victim, 'fin');
  });
  for (let request = 1; request <= 3; request += 1) {
    world.lan.request(beaconRequest('incr', 1, request));
    await world.advance(STORY_MS / 3);
  }
  victim?.gate.disarm();
  return { world, struck };
}

/** Whoever still has the guest answers, and a fresh host makes it protected again. */
async function goesOn(world: World): Promise<void> {
  const hosts = (): SimHost[] => [...world.hosts.values()];
  for (const [slot, other] of [
    ['a', 'b'],
    ['b', 'a'],
  ] as const) {
    if (!world.hosts.has(slot)) world.add(slot, other).node.startStandby();
  }
  const answers = world.answers.length;
  await world.until('a host with the guest', () => hosts().some((one) => ACTIVE.has(one.state)));
  await world.until('protection', () => hosts().some((one) => one.state === 'protected'));
  world.lan.request(beaconRequest('incr', 2, 1));
  await world.until('an answer', () => world.answers.length > answers);
}

describe.each(stories.map((story) => [story.name, story] as const))('%s', (_name, story) => {
  test.each([
    ['a', 'event'],
    ['a', 'effect'],
    ['b', 'event'],
    ['b', 'effect'],
  ] as const)('%s dies at every %s', async (slot, at) => {
    let points = 0;
    for (let struck = true; struck; points += 1) {
      const played = await play(story, slot, at, points);
      struck = played.struck;
      const { world } = played;
      if (!world.judge.guestGone) await goesOn(world);
      expect([slot, at, points, world.violations]).toEqual([slot, at, points, []]);
    }
    expect(points).toBeGreaterThan(3);
  });
});
