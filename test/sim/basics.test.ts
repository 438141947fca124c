/** The production roles in the simulated world: one story per test. */
import { FtError } from '../../src/common/errors';
import { beaconRequest } from './sim-lan';
import { type SimHost, World } from './world';

let requestId = 0;

function incr(world: World, client = 1): void {
  requestId += 1;
  world.lan.request(beaconRequest('incr', client, requestId));
}

async function incrs(world: World, count: number): Promise<void> {
  for (let i = 0; i < count; i += 1) {
    incr(world);
    await world.advance(3);
  }
}

beforeEach(() => {
  requestId = 0;
});

describe('a pair', () => {
  test('boots alone, syncs live, is protected', async () => {
    const world = new World();
    const a = world.add('a', 'b');
    await world.startPrimary(a);
    expect(a.state).toBe('solo');
    incr(world);
    await world.advance(5);
    expect(world.answers).toHaveLength(1);
    const b = world.add('b', 'a');
    b.node.startStandby();
    await world.until('protected', () => a.state === 'protected');
    expect(b.state).toBe('ready');
    incr(world);
    await world.advance(5);
    expect(world.answers).toHaveLength(2);
    await world.advance(20);
    expect(b.machine.memory.bytes.equals(a.machine.memory.bytes)).toBe(true);
    expect(a.states.map((event) => event.to)).toEqual(['solo', 'syncing', 'protected']);
    expect(b.states.map((event) => event.to)).toEqual(['syncing', 'ready']);
    expect(world.violations).toEqual([]);
  });

  test('the standby goes on after the kill, with identical memory', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    await incrs(world, 20);
    expect(world.answers).toHaveLength(20);
    await world.advance(20);
    const image = Buffer.from(a.machine.memory.bytes);
    world.kill(a);
    await world.until('solo', () => b.state === 'solo');
    expect(b.machine.memory.bytes.equals(image)).toBe(true);
    expect(b.generation).toBe(2);
    await incrs(world, 1);
    expect(world.answers.at(-1)?.counter).toBe(21);
    expect(world.violations).toEqual([]);
  });

  test('no answer leaves before its epoch is acknowledged', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    world.cutLinks();
    incr(world);
    await world.advance(30);
    expect(world.answers).toEqual([]);
    expect(a.machine.stats().outboxFrames).toBe(1);
    expect(b.state).toBe('ready');
    world.healLinks();
    await world.advance(5);
    expect(world.answers).toHaveLength(1);
    expect(a.state).toBe('protected');
  });

  test('large epochs travel in pieces and the heartbeat does not suffer', async () => {
    const world = new World({ memoryBytes: 8 * 1024 * 1024, dirtyBudgetPages: 2000 });
    const { a, b } = await world.protectedPair();
    world.lan.request(beaconRequest('load', 9, 1, 1500n, 4096n, 900n));
    await world.advance(60, 1);
    world.lan.request(beaconRequest('load', 9, 2));
    await world.advance(60, 1);
    expect(a.node.primary?.stats.chunks).toBeGreaterThan(a.node.primary?.stats.epochsCut ?? 0);
    expect(b.node.standby?.stats.heldBytesMax).toBeGreaterThan(1024 * 1024);
    expect(a.state).toBe('protected');
    expect(b.machine.memory.bytes.equals(a.machine.memory.bytes)).toBe(true);
  });

  test('a fresh standby joins after the failover and takes over in its turn', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    await incrs(world, 3);
    world.kill(a);
    await world.until('solo', () => b.state === 'solo');
    const c = world.add('a', 'b');
    c.node.startStandby();
    await world.until('protected again', () => b.state === 'protected');
    await incrs(world, 3);
    world.kill(b);
    await world.until('solo again', () => c.state === 'solo');
    await incrs(world, 1);
    expect(world.answers.at(-1)?.counter).toBe(7);
    expect(world.witness.owners).toEqual(['a', 'b', c.name]);
    expect(world.violations).toEqual([]);
  });
});

describe('losing the standby', () => {
  test('during the sync: the primary owns its output, no claim is needed', async () => {
    const world = new World({ memoryBytes: 16 * 1024 * 1024 });
    world.delayMs = 2;
    const a = world.add('a', 'b');
    await world.startPrimary(a);
    // Pages with something in them: the scan must wait for the link.
    a.machine.memory.bytes.fill(1, 8 * 1024 * 1024);
    const b = world.add('b', 'a');
    b.node.startStandby();
    await world.until('syncing', () => a.state === 'syncing');
    world.kill(b);
    await world.until('solo', () => a.state === 'solo');
    expect(a.generation).toBe(1);
    incr(world);
    await world.advance(1);
    expect(world.answers).toHaveLength(1);
    const c = world.add('b', 'a');
    c.node.startStandby();
    await world.until('protected', () => a.state === 'protected');
    expect(world.witness.owners).toEqual(['a']);
  });

  test('when protected: output stays held until the witness is won', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    world.witness.unreachableFor.add('a');
    world.kill(b);
    await world.until('suspended', () => a.state === 'suspended');
    incr(world);
    await world.advance(400, 2);
    expect(world.answers).toEqual([]);
    expect(a.state).toBe('suspended');
    world.witness.unreachableFor.clear();
    await world.until('solo', () => a.state === 'solo');
    expect(world.answers).toHaveLength(1);
    expect(a.generation).toBe(2);
    expect(world.violations).toEqual([]);
  });

  test('an orderly bye: alone again at once, in the same generation, without a claim', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    b.node.stop('SIGTERM');
    await world.until('solo', () => a.state === 'solo');
    expect(world.witness.owners).toEqual(['a']);
    await incrs(world, 1);
    expect(world.answers).toHaveLength(1);
  });

  test('the outbox bound pauses the guest while suspended, and nothing is lost', async () => {
    const world = new World({ outboxBytesMax: 1024 });
    const { a, b } = await world.protectedPair();
    world.witness.unreachableFor.add('a');
    world.kill(b);
    await world.until('suspended', () => a.state === 'suspended');
    await incrs(world, 20);
    expect(a.machine.stats().outboxFrames).toBe(8);
    world.witness.unreachableFor.clear();
    await world.until('solo', () => a.state === 'solo');
    await world.advance(5);
    expect(world.answers).toHaveLength(20);
  });
});

describe('partition', () => {
  async function partitioned(delayA: number): Promise<{ world: World; a: SimHost; b: SimHost }> {
    const world = new World();
    const { a, b } = await world.protectedPair();
    await incrs(world, 3);
    world.cutLinks();
    if (delayA > 0) {
      world.witness.unreachableFor.add('a');
      world.clock.after(delayA, () => world.witness.unreachableFor.clear());
    }
    await world.until(
      'a winner',
      () => a.end !== undefined || b.state === 'fenced' || b.states.length > 3,
    );
    await world.advance(2500, 5);
    return { world, a, b };
  }

  test('exactly one side wins, whoever reaches the witness first', async () => {
    for (const delayA of [0, 300]) {
      const { world, a, b } = await partitioned(delayA);
      const winners = [a, b].filter((host) => host.state === 'solo');
      expect(winners).toHaveLength(1);
      expect(world.witness.owners).toHaveLength(2);
      expect(world.witness.owners[1]).toBe(winners[0]?.name);
      if (winners[0] === b) expect(a.end?.kind).toBe('fenced');
      else expect(b.states.map((event) => event.to)).toContain('fenced');
      expect(world.violations).toEqual([]);
    }
  });

  test('a standby that lost the witness joins again and is synced', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    world.witness.unreachableFor.add('b');
    world.cutLinks();
    await world.until('solo', () => a.state === 'solo');
    world.witness.unreachableFor.clear();
    world.healLinks();
    await world.until('protected', () => a.state === 'protected' && b.state === 'ready');
    expect(a.generation).toBe(2);
    await incrs(world, 2);
    world.kill(a);
    await world.until('b runs', () => b.state === 'solo');
    expect(world.violations).toEqual([]);
  });

  test('a stopped primary that wakes up late is superseded and says nothing', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    await incrs(world, 2);
    a.gate.pause();
    await world.until('b runs', () => b.state === 'solo');
    await incrs(world, 2);
    a.gate.resume();
    await world.until('a is fenced', () => a.end?.kind === 'fenced');
    expect(world.violations).toEqual([]);
    expect(world.answers).toHaveLength(4);
  });
});

describe('suspicion', () => {
  test('without a witness the standby waits, acknowledges nothing, comes back', async () => {
    const world = new World();
    // A nervous standby: a silence of 40 ms alarms it and not its primary.
    const b = world.add('b', 'a', { suspectAfterMs: 25 });
    b.node.startStandby();
    const a = world.add('a', 'b');
    await world.startPrimary(a);
    await world.until('protected', () => a.state === 'protected');
    world.witness.unreachableFor.add('b');
    world.cutLinks();
    await world.until('suspecting', () => b.state === 'suspecting');
    const held = b.node.standby?.stats.epochHeld ?? 0;
    world.healLinks();
    incr(world);
    await world.advance(100);
    expect(a.state).toBe('protected');
    expect(b.state).toBe('suspecting');
    expect(b.node.standby?.stats.epochHeld).toBe(held);
    expect(world.answers).toEqual([]);
    world.witness.unreachableFor.clear();
    await world.until('ready', () => b.state === 'ready');
    await world.advance(10);
    expect(world.answers).toHaveLength(1);
    expect(world.witness.owners).toEqual(['a']);
    await incrs(world, 3);
    world.kill(a);
    await world.until('b runs', () => b.state === 'solo');
    expect(world.violations).toEqual([]);
  });

  test('a claim that succeeded while its answer was lost is found out and acted upon', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    await incrs(world, 2);
    world.witness.loseAnswerFor.add('b');
    world.kill(a);
    await world.until('b runs', () => b.state === 'solo');
    expect(world.witness.owners).toEqual(['a', 'b']);
    await incrs(world, 1);
    expect(world.answers.at(-1)?.counter).toBe(3);
    expect(world.violations).toEqual([]);
  });

  test('a standby that is not ready never claims', async () => {
    const world = new World({ memoryBytes: 8 * 1024 * 1024 });
    const a = world.add('a', 'b');
    await world.startPrimary(a);
    const b = world.add('b', 'a');
    b.node.startStandby();
    await world.until('syncing', () => b.state === 'syncing');
    world.kill(a);
    await world.until('joining', () => b.state === 'joining');
    await world.advance(500, 5);
    expect(world.witness.owners).toEqual(['a']);
  });
});

describe('orderly ends', () => {
  test('a primary that is ended says so, and the standby does not take over', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    a.node.stop('SIGTERM');
    await world.advance(500, 5);
    expect(b.state).toBe('joining');
    expect(world.witness.owners).toEqual(['a']);
  });

  test('a machine that breaks is taken over at once', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    await incrs(world, 2);
    world.lan.fail('a', new FtError('FT_ERR_TEST', 'the card burnt down'));
    await world.until('b runs', () => b.state === 'solo');
    expect(a.end?.kind).toBe('machine-error');
    await incrs(world, 1);
    expect(world.answers.at(-1)?.counter).toBe(3);
    expect(world.violations).toEqual([]);
  });
});

describe('a machine that cannot begin to be replicated', () => {
  test.each([
    ['FT_ERR_MACHINE', 'after a rest each time', 6, 7],
    ['FT_ERR_RING_LOST', 'never again', 1, 1],
  ])('%s: a standby is dialled %s, and it is said why', async (code, _how, least, most) => {
    const world = new World();
    const b = world.add('b', 'a');
    b.node.startStandby();
    const a = world.add('a', 'b');
    let tries = 0;
    a.machine.beginReplication = () => {
      tries += 1;
      throw new FtError(code, 'It cannot be.');
    };
    await world.startPrimary(a);
    await world.advance(60_000, 20);
    expect(tries).toBeGreaterThanOrEqual(least);
    expect(tries).toBeLessThanOrEqual(most);
    expect([a.state, a.refused?.code, a.node.refusal]).toEqual(['solo', code, 'It cannot be.']);
    await incrs(world, 1);
    expect(world.violations).toEqual([]);
  });
});

describe('audit', () => {
  test('a hidden page is found, counted and healed', async () => {
    const world = new World({ faults: ['hide-dirty-page'], auditPages: 32 });
    const { a, b } = await world.protectedPair();
    world.lan.request(beaconRequest('load', 9, 1, 3n, 64n, 4n));
    const found = (): number => a.node.primary?.stats.auditMismatches ?? 0;
    await world.until('a mismatch', () => found() > 0, 10_000);
    world.lan.request(beaconRequest('load', 9, 2));
    await world.advance(100);
    expect(a.machine.stats().auditPagesHealed).toBeGreaterThan(0);
    expect(a.said.join()).toMatch(/audit/);
    expect(b.said.join()).toMatch(/audit/);
    expect(a.state).toBe('protected');
  });
});
