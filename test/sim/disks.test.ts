/** The replicated disk in the simulated world: syncs that break, hosts that return, disks that fail. */
import { regionsOf } from '../../src/common/disk-regions';
import { SimulatedImage } from '../../src/machine/simulated-region-map';
import { copyFigures } from '../../src/node/figures';
import { StatusReporter } from '../../src/node/status';
import { newNodeFigures } from '../../src/observe/node-figures';
import { beaconRequest } from './sim-lan';
import { type SimHost, World, type WorldOptions } from './world';

/** Enough regions for a sync to take a while: 128. */
const LARGE = 8 * 1024 * 1024;
let requestId = 0;

beforeEach(() => {
  requestId = 0;
});

/** The guest writes to its disk with every request. */
async function writes(world: World, count: number): Promise<void> {
  for (let i = 0; i < count; i += 1) {
    requestId += 1;
    world.lan.request(beaconRequest('incr', 1, requestId));
    await world.advance(2);
  }
}

async function comes(world: World, slot: 'a' | 'b', changes: Partial<WorldOptions> = {}) {
  const host = world.add(slot, slot === 'a' ? 'b' : 'a', changes);
  host.node.startStandby();
  const syncs = (): boolean => [...world.hosts.values()].every((one) => one.state === 'syncing');
  await world.until('a session', syncs);
  return host;
}

async function isProtectedBy(world: World, primary: SimHost, standby: SimHost): Promise<void> {
  await world.until('protected', () => primary.state === 'protected', 10_000);
  await world.advance(60);
  expect(standby.state).toBe('ready');
  expect(primary.machine.diskSyncIds()).toEqual(standby.machine.diskSyncIds());
  expectEqualImages(world);
}

function expectEqualImages(world: World): void {
  expect(world.imageOf('a').bytes.equals(world.imageOf('b').bytes)).toBe(true);
}

/** The standby takes over; what its disk holds is judged by the world. */
async function takesOver(world: World, from: SimHost, to: SimHost): Promise<void> {
  world.kill(from);
  await world.until('the other runs', () => to.state === 'solo');
  await writes(world, 3);
}

/** Regions that the sync of this session sent. */
function regionsSent(host: SimHost): number {
  return (host.machine.stats().disks[0]?.syncBytes ?? 0) / (64 * 1024);
}

describe('the first sync', () => {
  test('a disk unlike the other becomes its copy while the guest writes; the base waits', async () => {
    const world = new World({ diskBytes: LARGE });
    const b = world.add('b', 'a');
    b.node.startStandby();
    const a = world.add('a', 'b');
    await world.startPrimary(a);
    expect(world.imageOf('a').bytes.equals(world.imageOf('b').bytes)).toBe(false);
    await world.until('the end of the scan', () => a.machine.scanProgress() === 1);
    await writes(world, 2);
    expect(a.machine.diskSyncProgress()).toBeLessThan(1);
    expect([a.state, b.state]).toEqual(['syncing', 'syncing']);
    const line = new StatusReporter(a.node, world.clock).next();
    expect(line['diskSyncBytesLeft']).toBe(LARGE - Number(line['diskSyncBytes']));
    expect(line['diskSyncProgress']).toBe(line['syncProgress']);
    const figures = newNodeFigures();
    copyFigures(a.node, figures);
    expect(figures.disks[0]?.syncBytesLeft).toBe(line['diskSyncBytesLeft']);
    expect(a.node.primary?.syncProgress).toBe(a.machine.diskSyncProgress());
    while (a.state === 'syncing') await writes(world, 1);
    await isProtectedBy(world, a, b);
    expect(world.syncs).toEqual({ inPart: 0, whole: 1 });
    const after = new StatusReporter(b.node, world.clock).next();
    expect(after).toMatchObject({ diskBacklogBytes: 0, diskErrors: 0, acksDeferred: 0 });
    await takesOver(world, a, b);
    expect(world.violations).toEqual([]);
  });

  test('the standby dies in its midst: the next one, on the same image, is sent all', async () => {
    const world = new World({ diskBytes: LARGE });
    const a = world.add('a', 'b');
    await world.startPrimary(a);
    const first = await comes(world, 'b');
    await writes(world, 4);
    expect(regionsSent(a)).toBeGreaterThan(0);
    world.kill(first);
    await world.until('solo', () => a.state === 'solo');
    await writes(world, 4);
    const second = await comes(world, 'b');
    await isProtectedBy(world, a, second);
    expect(world.syncs).toEqual({ inPart: 0, whole: 2 });
    await takesOver(world, a, second);
    expect(world.violations).toEqual([]);
  });

  test('the primary dies in its midst: nobody goes on from half a disk', async () => {
    const world = new World({ diskBytes: LARGE });
    const a = world.add('a', 'b');
    await world.startPrimary(a);
    const b = await comes(world, 'b');
    await writes(world, 4);
    world.kill(a);
    await world.advance(1000, 5);
    expect(b.state).toBe('joining');
    expect(world.witness.owners).toEqual(['a']);
    expect(b.machine.diskSyncIds()).toEqual(['']);
    const next = world.add('a', 'b');
    await world.startPrimary(next, true);
    await isProtectedBy(world, next, b);
    await takesOver(world, next, b);
    expect(world.violations).toEqual([]);
  });
});

/**
 * A failover whose old primary had written what nobody acknowledged, and comes back. Its disk must
 * become that of the guest, by regions that differ alone.
 */
async function oldPrimaryReturns(world: World): Promise<{ back: SimHost; other: SimHost }> {
  const { a, b } = await world.protectedPair();
  await writes(world, 5);
  world.cutLinks();
  await writes(world, 5);
  world.kill(a);
  world.healLinks();
  await world.until('b runs', () => b.state === 'solo');
  await world.advance(10);
  const back = await comes(world, 'a');
  await world.until('protected', () => b.state === 'protected', 10_000);
  await world.advance(60);
  return { back, other: b };
}

describe('a side that returns', () => {
  test('an old primary is sent what differs, and takes over with the right disk', async () => {
    const world = new World({ diskBytes: LARGE });
    const { back, other } = await oldPrimaryReturns(world);
    expect(world.syncs).toEqual({ inPart: 1, whole: 1 });
    expect(regionsSent(other)).toBeGreaterThan(0);
    expect(regionsSent(other)).toBeLessThan(regionsOf(LARGE) / 2);
    await isProtectedBy(world, other, back);
    await takesOver(world, other, back);
    expect(world.violations).toEqual([]);
  });

  test('the check can fail: with its marks ignored, the disk is found to be wrong', async () => {
    const world = new World({ diskBytes: LARGE, faults: ['forget-disk-marks'] });
    const { back, other } = await oldPrimaryReturns(world);
    expect(world.imageOf('a').bytes.equals(world.imageOf('b').bytes)).toBe(false);
    await takesOver(world, other, back);
    expect(world.violations.join()).toMatch(/^the disk of a\d+ is not the guest's/);
  });

  test('a standby that was away is sent what was written meanwhile', async () => {
    const world = new World({ diskBytes: LARGE });
    const { a, b } = await world.protectedPair();
    await writes(world, 3);
    world.kill(b);
    await world.until('solo', () => a.state === 'solo');
    await writes(world, 6);
    const back = await comes(world, 'b');
    await isProtectedBy(world, a, back);
    expect(world.syncs).toEqual({ inPart: 1, whole: 1 });
    expect(regionsSent(a)).toBeGreaterThanOrEqual(6);
    expect(regionsSent(a)).toBeLessThan(20);
    await takesOver(world, a, back);
    expect(world.violations).toEqual([]);
  });

  test.each(['the standby', 'the primary'])(
    '%s dies in the midst of such a resync',
    async (who) => {
      // A slow link stretches the few regions over many cuts.
      const world = new World({ diskBytes: LARGE, memoryBytes: 4 * 1024 * 1024, inFlightMax: 1 });
      const { a, b } = await world.protectedPair();
      world.kill(b);
      await world.until('solo', () => a.state === 'solo');
      await writes(world, 30);
      world.delayMs = 4;
      const back = await comes(world, 'b');
      await world.until('a part', () => regionsSent(a) > 4);
      await writes(world, 2);
      expect(a.state).toBe('syncing');
      if (who === 'the standby') {
        world.kill(back);
        await world.until('solo', () => a.state === 'solo');
        await writes(world, 4);
        const again = await comes(world, 'b');
        await isProtectedBy(world, a, again);
        await takesOver(world, a, again);
      } else {
        world.kill(a);
        await world.until('joining', () => back.state === 'joining');
        const again = world.add('a', 'b');
        await world.startPrimary(again, true);
        await isProtectedBy(world, again, back);
        await takesOver(world, again, back);
      }
      expect(world.syncs).toEqual({ inPart: 2, whole: 1 });
      expect(world.violations).toEqual([]);
    },
  );

  test('after a loss of power its map is not believed', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    await writes(world, 3);
    world.losePower(b);
    await world.until('solo', () => a.state === 'solo');
    const back = await comes(world, 'b');
    await isProtectedBy(world, a, back);
    expect(world.syncs).toEqual({ inPart: 0, whole: 2 });
    await takesOver(world, a, back);
    expect(world.violations).toEqual([]);
  });

  test('what another image acknowledged in a sync that broke is not forgotten', async () => {
    const world = new World({ diskBytes: LARGE });
    const { a, b } = await world.protectedPair();
    world.kill(b);
    await world.until('solo', () => a.state === 'solo');
    const image = world.imageOf('b');
    world.images.set('b', new SimulatedImage(LARGE));
    const stranger = await comes(world, 'b');
    await writes(world, 8);
    expect(a.state).toBe('syncing');
    world.kill(stranger);
    await world.until('solo', () => a.state === 'solo');
    world.images.set('b', image);
    const back = await comes(world, 'b');
    await isProtectedBy(world, a, back);
    expect(world.syncs).toEqual({ inPart: 1, whole: 2 });
    await takesOver(world, a, back);
    expect(world.violations).toEqual([]);
  });
});

describe('a disk that is slow', () => {
  test('is promoted with all that it has not written yet', async () => {
    const world = new World({ diskLatencyMs: 15 });
    const { a, b } = await world.protectedPair();
    await world.advance(100);
    await writes(world, 20);
    expect(b.machine.diskBacklogBytes()).toBeGreaterThan(0);
    await takesOver(world, a, b);
    expect(b.machine.diskBacklogBytes()).toBeGreaterThan(0);
    await world.advance(200);
    expect(b.machine.diskBacklogBytes()).toBe(0);
    expect(b.disk.view.equals(world.imageOf('b').bytes)).toBe(true);
    expect(world.violations).toEqual([]);
  });
});

describe('a disk that fails', () => {
  test('on the standby: the primary goes on alone and says why; later it is synced anew', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    world.imageOf('b').failing = true;
    await writes(world, 3);
    expect(a.state).toBe('solo');
    expect(a.said.join()).toContain('The standby gave up: FT_ERR_DISK_IO');
    expect(b.state).toBe('joining');
    await world.advance(500, 2);
    expect(a.refused?.code).toBe('FT_ERR_DISK_IO');
    expect(a.refused?.message).toMatch(/disk of node b failed.*cannot be written/);
    expect(world.answers).toHaveLength(3);
    expect(world.witness.owners).toEqual(['a']);
    world.imageOf('b').failing = false;
    await world.advance(4000, 5);
    expect(a.state).toBe('solo');
    await isProtectedBy(world, a, b);
    expect(world.syncs).toEqual({ inPart: 1, whole: 1 });
    await takesOver(world, a, b);
    expect(world.violations).toEqual([]);
  });

  test('again and again: longer and longer rests, and the guest does not notice', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    world.imageOf('b').failing = true;
    for (let i = 0; i < 300; i += 1) {
      if (i % 10 === 0) await writes(world, 1);
      await world.advance(100, 5);
    }
    expect(b.node.standby?.stats.diskFailures).toBe(3);
    expect(world.answers).toHaveLength(30);
    expect(a.generation).toBe(1);
    expect(world.violations).toEqual([]);
  }, 30_000);

  test('by hanging, on the standby: the guest waits ten seconds, not for ever', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    const { apply, diskBacklogBytes } = b.machine;
    const backlogBytes = 32 * 1024 * 1024;
    b.machine.apply = (body) => ({
      ...apply.call(b.machine, body),
      diskBacklogBytes: backlogBytes,
    });
    b.machine.diskBacklogBytes = () => backlogBytes;
    await writes(world, 2);
    await world.advance(9_000, 5);
    expect([a.state, b.state]).toEqual(['protected', 'ready']);
    const answers = world.answers.length;
    await world.until('solo', () => a.state === 'solo', 2000);
    expect(a.said.join()).toContain('runs on unprotected. The standby gave up: FT_ERR_DISK_STUCK');
    await writes(world, 2);
    expect(world.answers.length).toBeGreaterThan(answers);
    // The rest is long over, and what hangs would stall the guest in a sync as well.
    await world.advance(70_000, 20);
    expect(a.state).toBe('solo');
    expect(a.refused?.code).toBe('FT_ERR_DISK_STUCK');
    expect(b.node.standby?.stats.diskFailures).toBe(1);
    b.machine.apply = apply;
    b.machine.diskBacklogBytes = diskBacklogBytes;
    await isProtectedBy(world, a, b);
    expect(world.witness.owners).toEqual(['a']);
    await takesOver(world, a, b);
    expect(world.violations).toEqual([]);
  }, 60_000);

  test('during the first sync: never ready, and nobody is harmed', async () => {
    const world = new World();
    const a = world.add('a', 'b');
    await world.startPrimary(a);
    world.imageOf('b').failing = true;
    const b = await comes(world, 'b');
    await world.until('solo', () => a.state === 'solo');
    expect(b.states.map((event) => event.to)).not.toContain('promoting');
    world.imageOf('b').failing = false;
    await isProtectedBy(world, a, b);
    await takesOver(world, a, b);
    expect(world.violations).toEqual([]);
  });

  test('on the standby while it claims: it does not run the guest', async () => {
    const world = new World({ diskLatencyMs: 20 });
    const { a, b } = await world.protectedPair();
    await world.advance(200);
    world.witness.delayMs = 60;
    await writes(world, 4);
    world.imageOf('b').failing = true;
    world.kill(a);
    await world.until('suspecting', () => b.state === 'suspecting');
    await world.until('the end', () => b.end !== undefined);
    expect(b.end).toMatchObject({ kind: 'promotion-failed', error: { code: 'FT_ERR_DISK_IO' } });
    expect(b.states.map((event) => event.to)).not.toContain('active');
  });

  test('on the standby while it suspects for nothing: it resigns then', async () => {
    const world = new World({ diskLatencyMs: 80 });
    const b = world.add('b', 'a', { suspectAfterMs: 25 });
    b.node.startStandby();
    const a = world.add('a', 'b');
    await world.startPrimary(a);
    await world.until('protected', () => a.state === 'protected');
    await world.advance(900, 2);
    await writes(world, 4);
    world.witness.unreachableFor.add('b');
    world.imageOf('b').failing = true;
    world.cutLinks();
    await world.until('suspecting', () => b.state === 'suspecting');
    world.healLinks();
    await world.advance(120);
    expect(b.node.standby?.stats.diskFailures).toBe(1);
    expect(b.state).toBe('suspecting');
    world.witness.unreachableFor.clear();
    await world.until('solo', () => a.state === 'solo');
    expect(b.state).toBe('joining');
    expect(world.witness.owners).toEqual(['a']);
  });

  test('on the standby while its claim is open: it makes no other, and the primary goes on', async () => {
    const world = new World({ diskLatencyMs: 80 });
    const { a, b } = await world.protectedPair();
    await world.advance(900, 2);
    await writes(world, 4);
    world.witness.unreachableFor.add('a').add('b');
    world.imageOf('b').failing = true;
    world.cutLinks();
    await world.until('the failure', () => b.node.standby?.stats.diskFailures === 1);
    expect([a.state, b.state]).toEqual(['suspended', 'suspecting']);
    world.witness.unreachableFor.delete('b');
    await world.advance(600);
    expect(b.state).toBe('joining');
    expect(b.end).toBeUndefined();
    world.witness.unreachableFor.clear();
    await world.until('solo', () => a.state === 'solo');
    expect(world.witness.owners).toEqual(['a', 'a']);
    expect(world.violations).toEqual([]);
  });

  test('on the primary, in the sync: said, tried again after a rest, and the guest runs on', async () => {
    const world = new World();
    const a = world.add('a', 'b');
    await world.startPrimary(a);
    world.imageOf('a').unreadable = true;
    const b = await comes(world, 'b');
    await world.until('solo', () => a.state === 'solo');
    expect(a.said.join()).toMatch(/cannot be read; mend it. The guest runs on unprotected/);
    await world.advance(5000, 10);
    expect(world.syncs.whole).toBe(1);
    await writes(world, 2);
    expect(world.answers).toHaveLength(2);
    world.imageOf('a').unreadable = false;
    await isProtectedBy(world, a, b);
    await takesOver(world, a, b);
    expect(world.violations).toEqual([]);
  });

  test('right after a promotion: the guest does not go on without what it holds for written', async () => {
    const world = new World({ diskLatencyMs: 20 });
    const { a, b } = await world.protectedPair();
    await world.advance(200);
    await writes(world, 4);
    world.kill(a);
    await world.until('b runs', () => b.state === 'solo');
    world.imageOf('b').failing = true;
    await world.until('the end', () => b.end !== undefined);
    expect(b.end).toMatchObject({ kind: 'machine-error', error: { code: 'FT_ERR_DISK_IO' } });
  });
});

describe('a standby whose maps make no sense', () => {
  test.each<[string, (map: Uint8Array) => (Uint8Array | undefined)[], RegExp]>([
    ['too short', (map) => [map.subarray(1)], /has 15 bytes, not 16/],
    ['too long', (map) => [Uint8Array.of(...map, 0)], /has 17 bytes, not 16/],
    ['one too many', (map) => [map, map], /tells of 2 disks/],
    ['none', () => [], /tells of 0 disks/],
  ])('%s: refused and said; the guest runs on', async (_name, spoil, words) => {
    const world = new World({ diskBytes: LARGE });
    const { a, b } = await world.protectedPair();
    world.kill(b);
    await world.until('solo', () => a.state === 'solo');
    const liar = world.add('b', 'a');
    const beginSync = liar.machine.beginSync.bind(liar.machine);
    liar.machine.beginSync = (ids) => spoil(beginSync(ids)[0] ?? new Uint8Array(16));
    liar.node.startStandby();
    await world.until('a word', () => a.refused !== undefined);
    expect(a.refused?.code).toBe('FT_ERR_DISK_MAPS');
    expect(a.refused?.message).toMatch(words);
    expect(a.state).toBe('solo');
  });

  test('a map for a disk that was never in step', async () => {
    const world = new World();
    const a = world.add('a', 'b');
    await world.startPrimary(a);
    const liar = world.add('b', 'a');
    liar.machine.beginSync = () => [new Uint8Array(1)];
    liar.node.startStandby();
    await world.until('a word', () => a.refused !== undefined);
    expect(a.refused?.message).toMatch(/never in step/);
  });
});

test('nodes whose disks differ in length are no pair, and the field is named', async () => {
  const world = new World();
  const a = world.add('a', 'b');
  await world.startPrimary(a);
  const b = world.add('b', 'a', { diskBytes: 256 * 1024 });
  b.node.startStandby();
  await world.until('the refusal', () => a.refused !== undefined);
  expect(a.refused?.code).toBe('FT_ERR_MACHINE_DIFFERS');
  expect(a.refused?.facts).toMatchObject({ field: 'machine.disks[0].bytes', standby: '262144' });
});
