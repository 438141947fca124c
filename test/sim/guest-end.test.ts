/**
 * The guest ends itself: what it said before leaves, nobody resumes it, and whoever dies at whatever
 * step of it leaves the other in a state that keeps both promises.
 */
import { beaconRequest } from './sim-lan';
import { type SimHost, World } from './world';

const POWER_OFF = 0n;
const RESET = 1n;
let requestId = 0;

function ask(world: World, op: 'incr' | 'end', a = 0n): void {
  requestId += 1;
  world.lan.request(beaconRequest(op, 1, requestId, a));
}

const states = (host: SimHost): string[] => host.states.map((event) => event.to);
const endKind = (host: SimHost): string | undefined =>
  host.end?.kind === 'guest-ended' ? host.end.end.kind : host.end?.kind;

beforeEach(() => {
  requestId = 0;
});

describe('a protected guest', () => {
  test.each([
    [POWER_OFF, 'power-off'],
    [RESET, 'reset'],
  ])('that ends itself (%d): its last answer leaves, and both sides end', async (how, kind) => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    ask(world, 'incr');
    ask(world, 'end', how);
    await world.until('both ends', () => a.end !== undefined && b.end !== undefined);
    expect(world.answers).toHaveLength(2);
    expect([endKind(a), endKind(b)]).toEqual([kind, kind]);
    expect(states(a).slice(-2)).toEqual(['protected', 'ended']);
    expect(states(b).slice(-2)).toEqual(['ready', 'ended']);
    expect(world.witness.owners).toEqual(['a']);
    expect(b.machine.memory.bytes.equals(a.machine.memory.bytes)).toBe(true);
    await world.advance(500);
    expect(states(b).at(-1)).toBe('ended');
    expect(world.violations).toEqual([]);
  });

  test('says nothing more, and hears nothing more', async () => {
    const world = new World();
    const { a } = await world.protectedPair();
    ask(world, 'end');
    ask(world, 'incr');
    await world.until('its end', () => a.end !== undefined);
    ask(world, 'incr');
    await world.advance(50);
    expect(world.answers).toHaveLength(1);
  });

  test('and its host dies once the last epoch is held: the standby resumes nothing', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    ask(world, 'end');
    await world.until('the word', () => b.state === 'ended');
    world.kill(a);
    await world.until('its end', () => b.end !== undefined);
    expect(endKind(b)).toBe('power-off');
    await world.advance(500);
    expect(states(b)).not.toContain('suspecting');
    expect(world.witness.owners).toEqual(['a']);
  });

  test('and its host falls silent then: the same', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    ask(world, 'end');
    await world.until('the word', () => b.state === 'ended');
    a.gate.pause();
    await world.until('its end', () => b.end !== undefined);
    expect(world.witness.owners).toEqual(['a']);
    // The old primary comes back to a guest that ended: it wins the witness alone, lets the last
    // answer go, and ends.
    a.gate.resume();
    await world.until('the other end', () => a.end !== undefined);
    expect(endKind(a)).toBe('power-off');
    expect(world.answers).toHaveLength(1);
    expect(world.violations).toEqual([]);
  });

  test('and its host dies before the last epoch is held: it goes on there, until it ends again', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    ask(world, 'incr');
    await world.until('an answer', () => world.answers.length === 1);
    world.cutLinks();
    ask(world, 'end');
    await world.advance(5);
    world.kill(a);
    world.healLinks();
    await world.until('a takeover', () => b.state === 'solo');
    expect(world.answers).toHaveLength(1);
    // The client repeats what was never answered.
    world.lan.request(beaconRequest('end', 1, requestId));
    await world.until('its end there', () => b.end !== undefined);
    expect(endKind(b)).toBe('power-off');
    expect(world.answers).toHaveLength(2);
    expect(world.violations).toEqual([]);
  });

  test('and the standby dies before it holds the last epoch: the witness, then the end', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    b.gate.pause();
    ask(world, 'end');
    await world.advance(5);
    expect([world.answers.length, a.end]).toEqual([0, undefined]);
    world.kill(b);
    await world.until('its end', () => a.end !== undefined);
    expect(states(a).slice(-3)).toEqual(['suspended', 'solo', 'ended']);
    expect(world.witness.owners).toEqual(['a', 'a']);
    expect(world.answers).toHaveLength(1);
    expect(world.violations).toEqual([]);
  });

  test('and a disk of the standby hangs: that end is waited for ten seconds, not for ever', async () => {
    const world = new World({ onGuestEnd: 'hold' });
    const { a, b } = await world.protectedPair();
    b.machine.diskBacklogBytes = () => 4096;
    ask(world, 'end');
    await world.until('the end there', () => a.end !== undefined);
    await world.advance(9_900, 5);
    expect([b.state, b.end]).toEqual(['ended', undefined]);
    await world.until('the end here', () => b.end !== undefined, 1000);
    expect(b.logged.map((facts) => facts['code'])).toContain('FT_ERR_DISK_STUCK');
    expect([endKind(b), b.state]).toEqual(['power-off', 'joining']);
    expect(b.node.standby?.stats.diskFailures).toBe(1);
  });

  test('and the link breaks: whoever wins decides whether it ended', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    world.cutLinks();
    ask(world, 'end');
    await world.until('a decision', () => a.end !== undefined || b.state === 'solo');
    await world.advance(500);
    if (b.state === 'solo') {
      // The end here is void: the guest goes on over there, from before.
      expect(a.end?.kind).toBe('fenced');
      expect(world.answers).toEqual([]);
    } else {
      expect(endKind(a)).toBe('power-off');
      expect(b.end).toBeUndefined();
      expect(world.answers).toHaveLength(1);
    }
    expect(world.violations).toEqual([]);
  });
});

describe('a guest that ends itself', () => {
  test('alone: its last answer leaves', async () => {
    const world = new World();
    const a = world.add('a', 'b');
    await world.startPrimary(a);
    ask(world, 'end', RESET);
    await world.until('its end', () => a.end !== undefined);
    expect(endKind(a)).toBe('reset');
    expect(world.answers).toHaveLength(1);
  });

  test('in the midst of the sync: the standby is told, and holds nothing', async () => {
    const world = new World({ memoryBytes: 8 * 1024 * 1024 });
    const a = world.add('a', 'b');
    await world.startPrimary(a);
    const b = world.add('b', 'a');
    b.node.startStandby();
    await world.until('the sync', () => a.state === 'syncing');
    ask(world, 'end');
    await world.until('both ends', () => a.end !== undefined && b.end !== undefined);
    expect([endKind(a), endKind(b)]).toEqual(['power-off', 'power-off']);
    expect(states(b)).not.toContain('ready');
    expect(world.answers).toHaveLength(1);
  });

  test('with --on-guest-end hold: the standby takes the next primary', async () => {
    const world = new World({ onGuestEnd: 'hold' });
    const { a, b } = await world.protectedPair();
    ask(world, 'end', RESET);
    await world.until('both ends', () => a.end !== undefined && b.state === 'joining');
    world.kill(a);
    const next = world.add('a', 'b');
    await world.startPrimary(next, true);
    await world.until('protected again', () => next.state === 'protected');
    ask(world, 'incr');
    await world.advance(20);
    world.kill(next);
    await world.until('a takeover', () => b.state === 'solo');
    expect(world.violations).toEqual([]);
  });
});

test('at every moment of it, either host may die', async () => {
  // From the request on, one kill per world, a little later each time.
  for (const victim of ['a', 'b'] as const) {
    for (let afterMs = 0; afterMs <= 4; afterMs += 0.25) {
      requestId = 0;
      const world = new World();
      const { a, b } = await world.protectedPair();
      ask(world, 'incr');
      ask(world, 'end');
      await world.advance(afterMs, 0.25);
      const [dead, other] = victim === 'a' ? [a, b] : [b, a];
      const endedBefore = dead.end !== undefined;
      world.kill(dead);
      await world.advance(300);
      const story = `${victim} killed after ${afterMs} ms: ${states(other).join(' ')}`;
      expect([story, world.violations]).toEqual([story, []]);
      // Either it ended with the word, or the guest went on from before it.
      const resumed = states(other).includes('solo') && other.end === undefined;
      expect([story, resumed || endKind(other) === 'power-off']).toEqual([story, true]);
      if (endedBefore) expect([story, resumed]).toEqual([story, false]);
      // The answer to the last request left only if nobody resumed the guest from before it.
      if (resumed) expect([story, world.answers.length <= 1]).toEqual([story, true]);
    }
  }
});
