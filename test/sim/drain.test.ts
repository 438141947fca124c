/** Drain in the simulator: the guest is at exactly one side afterwards, whatever is lost on the way. */
import { FtError } from '../../src/common/errors';
import { AskedEnd } from '../../src/node/asked-end';
import type { Drained } from '../../src/node/drain';
import { ask, codeOf, exchange, forgetRequests, halting, states } from './switchover-support';
import { type SimHost, settlePromises, World } from './world';

interface Asked {
  outcome: Drained | FtError | undefined;
}

function drain(host: SimHost, force = false): Asked {
  const seen: Asked = { outcome: undefined };
  host.node.drain(force).then(
    (outcome) => {
      seen.outcome = outcome;
      // What the command does when a node has come to its end.
      if (!(outcome instanceof FtError)) host.node.stop('the command ends');
    },
    (thrown: unknown) => {
      throw thrown;
    },
  );
  return seen;
}

beforeEach(forgetRequests);

describe('a drain', () => {
  test('of the primary moves the guest, and the node is no standby afterwards', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    ask(world);
    await world.until('an answer', () => world.answers.length === 1);
    const seen = drain(a);
    await world.until('the drain', () => seen.outcome !== undefined && b.state === 'solo');
    expect(seen.outcome).toMatchObject({ guest: 'handed-over', generation: 2 });
    expect(a.end).toMatchObject({ kind: 'drained' });
    expect(states(a)).not.toContain('joining');
    expect(world.witness.owners).toEqual(['a', 'b']);
    ask(world);
    await world.until('an answer there', () => world.answers.at(-1)?.node === 'b');
    expect(world.violations).toEqual([]);
  });

  test('whose word is lost ends when the witness has said where the guest is', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    // The standby has won and runs the guest; nobody hears it say so.
    b.onState = (event) => {
      if (event.to === 'promoting') world.cutLinks();
    };
    const seen = drain(a);
    await world.until('the drain', () => seen.outcome !== undefined && b.state === 'solo');
    expect(seen.outcome).toEqual({ drained: true, role: 'primary', guest: 'handed-over' });
    expect(a.end).toMatchObject({ kind: 'drained' });
    expect(states(a)).toContain('suspended');
    expect(world.witness.owners).toEqual(['a', 'b']);
    expect(world.violations).toEqual([]);
  });

  test('whose standby dies meanwhile goes on here, and says why', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    a.onState = (event) => {
      if (event.to === 'switching') world.crash(b, 'reset');
    };
    const seen = drain(a);
    await world.until('an answer', () => seen.outcome !== undefined && a.state === 'solo');
    expect(seen.outcome).toBeInstanceOf(FtError);
    expect(a.end).toBeUndefined();
    ask(world);
    await world.until('an answer here', () => world.answers.at(-1)?.node === 'a');
    expect(await a.node.drain(false)).toMatchObject({ code: 'FT_ERR_DRAIN_UNPROTECTED' });
    expect(world.violations).toEqual([]);
  });

  test('of the standby leaves its primary alone at once, without a claim', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    const seen = drain(b);
    await settlePromises();
    expect(seen.outcome).toMatchObject({ role: 'standby', guest: 'elsewhere' });
    expect(b.end).toMatchObject({ kind: 'drained' });
    await world.until('solo', () => a.state === 'solo');
    expect(states(a)).not.toContain('suspended');
    expect(a.node.primary?.why).toBe('the standby left: drained by its operator');
    expect(world.witness.owners).toEqual(['a']);
    expect(world.violations).toEqual([]);
  });

  test('of a standby that is taking over is refused: it runs the guest then', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    let seen: Asked | undefined;
    b.onState = (event) => {
      if (event.to === 'suspecting') seen = drain(b, true);
    };
    world.crash(a, 'reset');
    await world.until('the takeover', () => b.state === 'solo');
    expect(seen?.outcome).toMatchObject({ code: 'FT_ERR_DRAIN_BUSY' });
    expect(b.end).toBeUndefined();
    expect(world.violations).toEqual([]);
  });

  test('during a switchover waits for it, and ends the node', async () => {
    const world = new World({ onFenced: 'rejoin' });
    const { a, b } = await world.protectedPair();
    const first = await halting(world, a);
    const seen = drain(a);
    await world.until('the drain', () => seen.outcome !== undefined && b.state === 'solo');
    expect(codeOf(first.outcome)).toBe('done');
    expect(seen.outcome).toMatchObject({ guest: 'handed-over', generation: 2 });
    expect(a.end).toMatchObject({ kind: 'drained' });
    expect(states(a)).not.toContain('joining');
    expect(world.violations).toEqual([]);
  });
});

/** A signal, as the command takes it. "Soon" is after everything that waits for a promise, as an
 * event loop has it. */
function signal(host: SimHost): AskedEnd {
  const soon = (fn: () => void): void => void settlePromises().then(fn);
  const asked = new AskedEnd({ soon }, host.node, {
    onWaits: () => undefined,
    onStays: () => undefined,
    onEnd: (name, leave) => host.node.stop(name, leave),
  });
  host.onState = (event) => asked.stateChanged(event);
  asked.ask('SIGTERM');
  return asked;
}

/** Its disks take nothing for now, so it acknowledges nothing, and is well otherwise. */
function stall({ machine }: SimHost): void {
  const apply = machine.apply.bind(machine);
  const diskBacklogBytes = 32 * 1024 * 1024;
  machine.apply = (body) => ({ ...apply(body), diskBacklogBytes });
  machine.diskBacklogBytes = () => diskBacklogBytes;
}

describe('a node that is ended', () => {
  /** The guest runs at `b`, and answers. */
  async function survives(world: World, b: SimHost): Promise<void> {
    await world.until('the guest', () => b.state === 'solo');
    ask(world);
    await world.until('an answer', () => world.answers.at(-1)?.node === 'b');
    expect(world.judge.guestGone).toBe(false);
    expect(world.violations).toEqual([]);
  }

  test('after a drain that was refused leaves its guest to the standby', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    world.witness.unreachableFor.add('a').add('b');
    const seen = drain(a);
    await world.until('an answer', () => seen.outcome !== undefined);
    expect(seen.outcome).toMatchObject({ code: 'FT_ERR_SWITCHOVER_WITNESS' });
    a.node.stop('SIGTERM');
    await world.until('a suspicion', () => b.state === 'suspecting');
    world.witness.unreachableFor.clear();
    await survives(world, b);
  });

  test('long after such a drain ends its guest, as an operator means it', async () => {
    const slow = { intervalUs: 50_000, heartbeatIntervalMs: 100, suspectAfterMs: 1000 };
    const world = new World(slow);
    const { a, b } = await world.protectedPair();
    world.witness.unreachableFor.add('a');
    const seen = drain(a);
    await world.until('an answer', () => seen.outcome !== undefined);
    const dueUs = world.clock.nowUs() + 11_000_000;
    await world.until('eleven seconds', () => world.clock.nowUs() > dueUs, 12_000);
    a.node.stop('SIGTERM');
    await world.until('the word', () => b.state === 'joining');
    expect(states(b)).not.toContain('suspecting');
  });

  test('while a switchover is being asked for leaves its guest to the standby', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    const seen = exchange(a);
    expect(a.state).toBe('protected');
    a.node.stop('SIGTERM');
    await survives(world, b);
    expect(codeOf(seen.outcome)).toMatch(/^FT_ERR_SWITCHOVER_/);
  });

  test('while it hands its guest over leaves it to the standby', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    await halting(world, a);
    a.node.stop('SIGTERM');
    await survives(world, b);
  });

  test('when it has handed its guest over, too', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    await halting(world, a);
    b.onState = (event) => {
      if (event.to === 'suspecting') a.node.stop('SIGTERM');
    };
    await survives(world, b);
  });

  test('by a signal in a handover that comes to nothing leaves it to the standby', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    stall(b);
    const seen = await halting(world, a);
    const asked = signal(a);
    await world.advance(1900, 5);
    expect([asked.waits, a.state]).toEqual([true, 'switching']);
    await survives(world, b);
    expect(codeOf(seen.outcome)).toBe('FT_ERR_SWITCHOVER_SLOW');
    expect(states(a).slice(-2)).toEqual(['protected', 'stopped']);
  });

  test('by a signal in a handover whose link is lost claims nothing', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    stall(b);
    await halting(world, a);
    signal(a);
    world.cutLinks();
    await survives(world, b);
    expect(states(a).slice(-2)).toEqual(['suspended', 'stopped']);
    expect(world.witness.owners).toEqual(['a', 'b']);
  });

  test('by a signal while it takes over waits, and stays when the guest runs here', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    world.kill(a);
    await world.until('the claim', () => b.state === 'suspecting');
    const asked = signal(b);
    expect(asked.waits).toBe(true);
    await survives(world, b);
    expect(asked.waits).toBe(false);
    asked.ask('SIGTERM');
    expect(b.state).toBe('stopped');
  });
});
