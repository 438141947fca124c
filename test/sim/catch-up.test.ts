/**
 * The link breaks and is mended: a standby that still has its image is sent what changed. After each
 * catch-up its memory is compared page by page, and it takes over.
 */
import { FrameType } from '../../src/wire/frame';
import { mutations } from './mutations';
import { Random } from './random';
import { beaconRequest } from './sim-lan';
import { type SimHost, World, type WorldOptions } from './world';

const OPTIONS: WorldOptions = { memoryBytes: 256 * 1024, auditPages: 4, intervalUs: 2000 };
const PAGES = 64;
let requestId = 0;

beforeEach(() => {
  requestId = 0;
});

function incr(world: World): void {
  requestId += 1;
  world.lan.request(beaconRequest('incr', 1, requestId));
}

async function incrs(world: World, count: number): Promise<void> {
  for (let i = 0; i < count; i += 1) {
    incr(world);
    await world.advance(2);
  }
}

/** The guest dirties so many pages of its working set. */
async function dirties(world: World, pages: number): Promise<void> {
  requestId += 1;
  world.lan.request(beaconRequest('load', 1, requestId, 8n, 64n, BigInt(pages)));
  await world.advance(pages / 4);
  requestId += 1;
  world.lan.request(beaconRequest('load', 1, requestId));
  await world.advance(5);
}

/** Nothing passes for `ms`; requests come all the while. Both sides notice, and `a` runs on. */
async function cutFor(world: World, ms: number): Promise<void> {
  const { a } = { a: world.host('a') };
  world.cutLinks();
  for (let done = 0; done < ms; done += 10) {
    incr(world);
    await world.advance(10);
  }
  expect(a.state).toBe('solo');
  world.healLinks();
}

async function isProtected(world: World, a: SimHost): Promise<void> {
  await world.until('protected', () => a.state === 'protected', 10_000);
  await world.advance(40);
}

function expectEqualMemory(a: SimHost, b: SimHost): void {
  const { bytes } = a.machine.memory;
  expect(b.machine.memory.bytes.equals(bytes)).toBe(true);
}

const kindOf = (host: SimHost): string => host.node.primary?.stats.syncKind ?? '';

describe('a standby that comes back', () => {
  test('is sent what changed, and can take over', async () => {
    const world = new World(OPTIONS);
    const { a, b } = await world.protectedPair();
    await dirties(world, 6);
    const full = a.node.primary?.stats.syncWireBytes ?? 0;
    expect(kindOf(a)).toBe('full');
    await cutFor(world, 300);
    await isProtected(world, a);
    const stats = a.node.primary?.stats;
    expect(stats?.syncKind).toBe('catch-up');
    expect(stats?.syncPages).toBeGreaterThan(0);
    expect(stats?.syncPages).toBeLessThan(PAGES / 4);
    expect(full).toBeGreaterThan(0);
    expectEqualMemory(a, b);
    await incrs(world, 20);
    await world.advance(20);
    expectEqualMemory(a, b);
    expect(stats?.auditMismatches).toBe(0);
    const before = world.answers.length;
    world.kill(a);
    await world.until('solo', () => b.state === 'solo');
    await incrs(world, 3);
    expect(world.answers.length).toBeGreaterThan(before);
    expect(world.violations).toEqual([]);
  });

  test('again and again: each cut counts from the session before it', async () => {
    const world = new World(OPTIONS);
    const { a, b } = await world.protectedPair();
    for (let round = 0; round < 3; round += 1) {
      await cutFor(world, 300);
      await isProtected(world, a);
      expect(kindOf(a)).toBe('catch-up');
      expectEqualMemory(a, b);
      await incrs(world, 5);
    }
    expect(a.node.primary?.stats.auditMismatches).toBe(0);
    expect(world.violations).toEqual([]);
  });

  test('is sent all when too much has changed', async () => {
    const world = new World(OPTIONS);
    const { a, b } = await world.protectedPair();
    world.cutLinks();
    await world.until('solo', () => a.state === 'solo');
    await dirties(world, 40);
    world.healLinks();
    await isProtected(world, a);
    expect(kindOf(a)).toBe('full');
    expectEqualMemory(a, b);
    expect(world.violations).toEqual([]);
  });

  test('a fresh one in its place is sent all', async () => {
    const world = new World(OPTIONS);
    const { a, b } = await world.protectedPair();
    world.cutLinks();
    await world.until('solo', () => a.state === 'solo');
    world.kill(b);
    const fresh = world.add('b', 'a');
    fresh.node.startStandby();
    world.healLinks();
    await isProtected(world, a);
    expect(kindOf(a)).toBe('full');
    expectEqualMemory(a, fresh);
  });

  test('a catch-up that breaks off is followed by a full sync', async () => {
    const world = new World(OPTIONS);
    const { a, b } = await world.protectedPair();
    await dirties(world, 6);
    await cutFor(world, 300);
    await world.until('syncing', () => a.state === 'syncing', 5000);
    await world.advance(0.5);
    expect(kindOf(a)).toBe('catch-up');
    world.cutLinks();
    await world.until('solo again', () => a.state === 'solo' && b.state === 'joining', 5000);
    world.healLinks();
    await isProtected(world, a);
    expect(kindOf(a)).toBe('full');
    expectEqualMemory(a, b);
    expect(world.violations).toEqual([]);
  });

  test('a greeting that breaks off before the map leaves the image as it is', async () => {
    const world = new World(OPTIONS);
    const { a, b } = await world.protectedPair();
    let begun = 0;
    const beginCatchUp = b.machine.beginCatchUp.bind(b.machine);
    b.machine.beginCatchUp = (syncIds) => {
      begun += 1;
      if (begun === 1) world.clock.soon(() => world.cutLinks());
      return beginCatchUp(syncIds);
    };
    await cutFor(world, 300);
    await world.until('a first greeting', () => begun === 1, 5000);
    await world.advance(3000);
    world.healLinks();
    await isProtected(world, a);
    expect(begun).toBe(2);
    expect(kindOf(a)).toBe('catch-up');
    expectEqualMemory(a, b);
    expect(world.violations).toEqual([]);
  });
});

describe('what keeps it sound', () => {
  /** Cuts the link while epochs are under way; true when the standby's memory differs after it. */
  async function differs(seed: number, options: WorldOptions): Promise<boolean> {
    const random = new Random(seed);
    const world = new World({ ...OPTIONS, ...options });
    const { a, b } = await world.protectedPair();
    await incrs(world, 5);
    requestId += 1;
    world.lan.request(beaconRequest('load', 1, requestId, 4n, 64n, 6n));
    await world.advance(3 + random.below(10));
    world.cutLinks();
    await world.advance(random.below(8));
    requestId += 1;
    world.lan.request(beaconRequest('load', 1, requestId));
    await world.until('solo', () => a.state === 'solo');
    await world.advance(200);
    world.healLinks();
    await isProtected(world, a);
    expect(kindOf(a)).toBe('catch-up');
    return (
      world.violations.length > 0 ||
      (b.node.standby?.stats.auditMismatches ?? 0) > 0 ||
      !b.machine.memory.bytes.equals(a.machine.memory.bytes)
    );
  }

  test('epochs that were never acknowledged are a part of it', async () => {
    for (let seed = 1; seed <= 4; seed += 1) expect(await differs(seed, {})).toBe(false);
  }, 60_000);

  test('without them the image is wrong, and that is seen', async () => {
    let found = 0;
    for (let seed = 1; seed <= 20 && found === 0; seed += 1) {
      if (await differs(seed, { mutate: mutations['forget-what-was-never-acknowledged'].plant }))
        found += 1;
    }
    expect(found).toBe(1);
  }, 60_000);

  test('cuts at any moment, of any length, with kills between them', async () => {
    const kinds = { full: 0, catchUp: 0 };
    for (let seed = 1; seed <= 2; seed += 1) {
      const random = new Random(seed);
      const world = new World({ ...OPTIONS, inFlightMax: 1 + random.below(6) });
      const { a, b } = await world.protectedPair();
      for (let round = 0; round < 4 && a.state !== 'fenced'; round += 1) {
        if (random.chance(0.5)) await dirties(world, 1 + random.below(7));
        await incrs(world, random.below(5));
        world.cutLinks();
        await world.advance(random.below(150) / 2);
        incr(world);
        await world.advance(random.below(400));
        world.healLinks();
        await world.advance(random.chance(0.3) ? random.below(60) : 1000);
        if (a.state !== 'protected') continue;
        kinds[kindOf(a) === 'full' ? 'full' : 'catchUp'] += 1;
        await world.advance(30);
        if (a.state === 'protected' && b.state === 'ready') expectEqualMemory(a, b);
      }
      expect(a.node.primary?.stats.auditMismatches).toBe(0);
      if (a.state === 'protected') {
        world.kill(a);
        await world.until('solo', () => b.state === 'solo', 10_000);
        await incrs(world, 2);
      }
      expect(world.violations).toEqual([]);
    }
    expect(kinds.catchUp).toBeGreaterThan(2);
  }, 120_000);
});

test('a map where none belongs ends the session, and the image is not touched by it', async () => {
  const world = new World(OPTIONS);
  const { a, b } = await world.protectedPair();
  const machine = b.machine;
  let cleared = 0;
  machine.clearPages = () => {
    cleared += 1;
  };
  const body = Buffer.alloc(PAGES / 8, 0xff);
  const frame = { type: FrameType.catchUp, flags: 0, generation: 1, epoch: 0, rawBytes: 0, body };
  // As if the primary had sent it in the midst of a session.
  const applier = (b.node.standby as unknown as { applier: { take(f: object): unknown } }).applier;
  expect(applier.take(frame)).toMatchObject({ code: 'FT_ERR_EPOCH_ORDER' });
  expect(cleared).toBe(0);
  expect(a.state).toBe('protected');
});
