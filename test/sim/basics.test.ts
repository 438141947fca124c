/** The production roles in the simulated world: one story per test. */
import { beaconRequest } from './sim-lan';
import { World } from './world';

let requestId = 0;

function incr(world: World, client = 1): void {
  requestId += 1;
  world.lan.request(beaconRequest('incr', client, requestId));
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
    expect(world.violations).toEqual([]);
  });

  test('the standby goes on after the kill, with identical memory', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    for (let i = 0; i < 20; i += 1) {
      incr(world);
      await world.advance(2);
    }
    expect(world.answers).toHaveLength(20);
    await world.advance(20);
    const image = Buffer.from(a.machine.memory.bytes);
    world.kill(a);
    await world.until('solo', () => b.state === 'solo');
    expect(b.machine.memory.bytes.equals(image)).toBe(true);
    expect(b.generation).toBe(2);
    incr(world);
    await world.advance(5);
    expect(world.answers.at(-1)?.counter).toBe(21);
    expect(world.violations).toEqual([]);
  });
});
