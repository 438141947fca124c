/**
 * Lives of a node in the simulated world: who lost its guest joins as standby in the same process,
 * who finds its guest elsewhere boots nothing, and one of several candidates is always the standby.
 */
import { FtError } from '../../src/common/errors';
import type { Machine } from '../../src/machine/machine';
import { copyFigures } from '../../src/node/figures';
import { StatusReporter } from '../../src/node/status';
import type { StatusLine } from '../../src/node/status-now';
import { newNodeFigures } from '../../src/observe/node-figures';
import { Random } from './random';
import { beaconRequest } from './sim-lan';
import { type SimHost, World } from './world';

let requestId = 0;

async function incrs(world: World, count: number): Promise<void> {
  for (let i = 0; i < count; i += 1) {
    requestId += 1;
    world.lan.request(beaconRequest('incr', 1, requestId));
    await world.advance(3);
  }
}

/** Both hosts may be the other's standby. */
async function equals(): Promise<{ world: World; a: SimHost; b: SimHost }> {
  const world = new World({ onFenced: 'rejoin' });
  const { a, b } = await world.protectedPair();
  await incrs(world, 5);
  return { world, a, b };
}

/** SIGSTOP to the active side until the other one runs the guest, then SIGCONT. */
async function stall(world: World, active: SimHost, other: SimHost): Promise<void> {
  active.gate.pause();
  await world.until('a takeover', () => other.state === 'solo');
  active.gate.resume();
}

beforeEach(() => {
  requestId = 0;
});

describe('a primary that lost its claim', () => {
  test('lets go of its machine and joins in the same process; the pair is protected', async () => {
    const { world, a, b } = await equals();
    const machine = a.machine;
    let closedBefore = false;
    const close = machine.close.bind(machine);
    machine.close = () => {
      closedBefore = a.machine === machine;
      close();
    };
    await stall(world, a, b);
    await world.until('protected again', () => b.state === 'protected');
    expect(closedBefore).toBe(true);
    expect(a.machine).not.toBe(machine);
    expect(a.state).toBe('ready');
    expect(a.end).toBeUndefined();
    expect(a.node.life).toBe(2);
    const path = a.states.map((event) => `${event.life} ${event.role} ${event.to}`);
    expect(path.slice(-4)).toEqual([
      '1 primary fenced',
      '2 standby joining',
      '2 standby syncing',
      '2 standby ready',
    ]);
    await incrs(world, 5);
    await world.advance(20);
    expect(a.machine.memory.bytes.equals(b.machine.memory.bytes)).toBe(true);
    expect(world.answers.at(-1)?.counter).toBe(10);
    expect(world.violations).toEqual([]);
  });

  test('takes over again, and again: ten reigns, two processes', async () => {
    const { world, a, b } = await equals();
    let [active, other] = [a, b];
    for (let reign = 2; reign <= 10; reign += 1) {
      await stall(world, active, other);
      [active, other] = [other, active];
      const now = active;
      await world.until('protected again', () => now.state === 'protected');
      await incrs(world, 2);
      expect(active.generation).toBe(reign);
    }
    expect(world.witness.owners).toHaveLength(10);
    expect(a.node.life + b.node.life).toBe(2 + 9);
    expect(world.answers.at(-1)?.counter).toBe(5 + 9 * 2);
    expect(world.violations).toEqual([]);
  });

  test('is shown by lines and metrics as before, life by life', async () => {
    const { world, a, b } = await equals();
    const reporter = new StatusReporter(a.node, world.clock);
    const figures = newNodeFigures();
    const look = (): { line: StatusLine; epochsCut: number } => {
      copyFigures(a.node, figures);
      return { line: reporter.next(), epochsCut: figures.epochsCut };
    };
    await incrs(world, 5);
    const first = look();
    expect(first.line).toMatchObject({ role: 'primary', life: 1, state: 'protected' });
    expect(first.line['epochsPerSecond']).toBeGreaterThan(0);
    expect(first.epochsCut).toBeGreaterThan(10);
    await stall(world, a, b);
    await world.until('protected again', () => b.state === 'protected');
    await world.advance(5);
    const second = look();
    expect(second.line).toMatchObject({ role: 'standby', life: 2, state: 'ready', generation: 2 });
    expect(second.line['epochsPerSecond']).toBeGreaterThan(0);
    expect(second.epochsCut).toBe(0);
    expect(figures).toMatchObject({ role: 'standby', life: 2, generation: 2, protected: true });
    await stall(world, b, a);
    await world.until('protected again', () => a.state === 'protected');
    await stall(world, a, b);
    await world.until('protected again', () => b.state === 'protected');
    await stall(world, b, a);
    await world.until('protected again', () => a.state === 'protected');
    const third = look();
    expect(third.line).toMatchObject({ role: 'primary', life: 3, generation: 5 });
    expect(third.line['epochsPerSecond']).toBeGreaterThan(0);
    // One takeover in its second life, one in its third.
    expect([...figures.failovers.values()].reduce((sum, count) => sum + count, 0)).toBe(2);
    expect(world.violations).toEqual([]);
  });

  test('its disk is a copy again, with what its old guest wrote alone undone', async () => {
    const { world, a, b } = await equals();
    world.cutLinks();
    await incrs(world, 3);
    await world.until('a takeover', () => b.state === 'solo' || a.state === 'solo');
    world.healLinks();
    await world.until('protected again', () => [a.state, b.state].includes('protected'));
    await incrs(world, 3);
    await world.advance(50);
    expect(a.disk.view.equals(b.disk.view)).toBe(true);
    expect(world.diskFault(a)).toBeUndefined();
    expect(world.violations).toEqual([]);
  });

  test('ends with the old word when it shall not rejoin', async () => {
    const world = new World();
    const { a, b } = await world.protectedPair();
    await stall(world, a, b);
    await world.until('its end', () => a.end !== undefined);
    expect(a.end).toMatchObject({ kind: 'fenced', current: { generation: 2, owner: 'b' } });
    expect(a.node.life).toBe(1);
  });

  test('says so when no new machine can be made', async () => {
    const { world, a, b } = await equals();
    a.machineFault = new FtError('FT_ERR_TAP_BUSY', 'tap0 is taken.');
    await stall(world, a, b);
    await world.until('its end', () => a.end !== undefined);
    expect(a.end).toMatchObject({
      kind: 'rejoin-failed',
      error: { code: 'FT_ERR_TAP_BUSY' },
      current: { generation: 2, owner: 'b' },
    });
    await incrs(world, 2);
    expect(world.answers.at(-1)?.counter).toBe(7);
    expect(world.violations).toEqual([]);
  });

  test('says so when its disks cannot be let go of', async () => {
    const { world, a, b } = await equals();
    const machine: Machine = a.machine;
    const close = machine.close.bind(machine);
    machine.close = () => close() ?? new FtError('FT_ERR_DISK_STUCK', 'Nothing is written.');
    await stall(world, a, b);
    await world.until('its end', () => a.end !== undefined);
    expect(a.end).toMatchObject({ kind: 'rejoin-failed', error: { code: 'FT_ERR_DISK_STUCK' } });
    expect(a.node.life).toBe(1);
    expect(world.violations).toEqual([]);
  });

  test('says at its end that what it wrote may be lost', async () => {
    const { a } = await equals();
    const machine: Machine = a.machine;
    const close = machine.close.bind(machine);
    machine.close = () => close() ?? new FtError('FT_ERR_DISK_STUCK', 'Nothing is written.');
    expect(a.node.stop('test')?.code).toBe('FT_ERR_DISK_STUCK');
    expect(a.said).toContain('the disks could not be closed: Nothing is written.');
    expect(a.node.stop('again')).toBeUndefined();
  });

  test('may be stopped in the very moment between two lives', async () => {
    const { world, a, b } = await equals();
    a.onState = (event) => {
      // Its turn comes before the one in which the next life would begin.
      if (event.to === 'fenced') world.clock.soon(() => a.node.stop('test'));
    };
    await stall(world, a, b);
    await world.advance(200);
    expect(a.node.life).toBe(1);
    expect(a.end).toBeUndefined();
    expect(b.state).toBe('solo');
    expect(world.violations).toEqual([]);
  });
});

describe('a primary that is started while its guest lives elsewhere', () => {
  test('boots nothing, joins as standby and takes over in its turn', async () => {
    const { world, a, b } = await equals();
    world.kill(a);
    await world.until('a takeover', () => b.state === 'solo');
    const again = world.addNamed('a', 'b', 'a');
    await world.startPrimary(again);
    expect(again.state).toBe('joining');
    expect(again.said.join('\n')).toMatch(/nothing is booted here.*--force-claim/);
    await world.until('protected again', () => b.state === 'protected');
    await incrs(world, 2);
    world.kill(b);
    await world.until('the next takeover', () => again.state === 'solo');
    await incrs(world, 1);
    expect(world.answers.at(-1)?.counter).toBe(8);
    expect(world.witness.owners).toEqual(['a', 'b', 'a']);
    expect(world.violations).toEqual([]);
  });

  test('is refused as ever when it cannot be a standby', async () => {
    const { world, a, b } = await equals();
    world.kill(a);
    await world.until('a takeover', () => b.state === 'solo');
    const again = world.addNamed('a', 'b', 'a', { onFenced: 'exit' });
    await expect(world.startPrimary(again)).rejects.toMatchObject({
      code: 'FT_ERR_GENERATION_OWNED',
    });
  });

  test('loses the race of two first boots and joins the winner', async () => {
    const world = new World({ onFenced: 'rejoin' });
    const a = world.add('a', 'b');
    const b = world.add('b', 'a');
    const starts = [a, b].map((host) => host.node.startPrimary(false));
    await world.until('a protected guest', () => [a, b].some((one) => one.state === 'protected'));
    await Promise.all(starts);
    expect([a.state, b.state].sort()).toEqual(['protected', 'ready']);
    expect(world.witness.owners).toHaveLength(1);
  });

  test.each([
    ['the last owner first', ['b', 'a']],
    ['the last owner last', ['a', 'b']],
  ])('both died, %s: only the last owner boots the guest anew', async (_name, order) => {
    const { world, a, b } = await equals();
    world.kill(a);
    await world.until('a takeover', () => b.state === 'solo');
    await incrs(world, 2);
    world.kill(b);
    await world.advance(500, 2);
    const hosts = new Map<string, SimHost>();
    for (const slot of order) {
      const host = world.addNamed(slot, slot === 'a' ? 'b' : 'a', slot);
      hosts.set(slot, host);
      await world.startPrimary(host);
      await world.advance(300, 2);
    }
    await world.until('protected', () => hosts.get('b')?.state === 'protected');
    expect(hosts.get('a')?.state).toBe('ready');
    expect(world.witness.owners).toEqual(['a', 'b', 'b']);
    await incrs(world, 1);
    expect(world.answers.at(-1)?.counter).toBe(1);
    expect(world.violations).toEqual([]);
  });
});

describe('a node that runs the guest and is dialled', () => {
  test('says that it runs the guest, and until when it does not know better', async () => {
    const world = new World({ onFenced: 'rejoin' });
    const a = world.add('a', 'b');
    await world.startPrimary(a);
    const b = world.add('b', 'a');
    await world.startPrimary(b, true);
    await world.until('both refusals', () => a.refused !== undefined && b.refused !== undefined);
    expect(a.refused).toMatchObject({
      code: 'FT_ERR_ACTIVE',
      facts: { standby: '2', here: '1' },
    });
    expect(a.refused?.message).toMatch(/Node b runs the guest itself .*generation 2/);
    expect(b.refused).toMatchObject({ code: 'FT_ERR_BUSY' });
    expect(b.refused?.message).toMatch(/has not heard yet of generation 2/);
    await world.advance(3000, 5);
    expect([a.state, b.state]).toEqual(['solo', 'solo']);
  });

  test('is patient with who dials it while it starts', async () => {
    const world = new World({ onFenced: 'rejoin' });
    const a = world.add('a', 'b');
    await world.startPrimary(a);
    world.witness.unreachableFor.add('b');
    world.witness.delayMs = 400;
    const b = world.add('b', 'a');
    const start = b.node.startPrimary(false).catch((thrown: unknown) => thrown);
    await world.until('a refusal', () => a.refused !== undefined);
    expect(a.refused).toMatchObject({ code: 'FT_ERR_BUSY' });
    expect(a.refused?.message).toMatch(/Node b is starting/);
    await world.advance(1000);
    expect(await start).toMatchObject({ code: 'FT_ERR_WITNESS_UNREACHABLE' });
  });
});

describe('several candidates', () => {
  async function three(): Promise<{ world: World; a: SimHost; b: SimHost; c: SimHost }> {
    const world = new World({ onFenced: 'rejoin' });
    const b = world.add('b', 'a c');
    b.node.startStandby();
    const c = world.add('c', 'a b');
    c.node.startStandby();
    const a = world.add('a', 'b c');
    await world.startPrimary(a);
    await world.until('protected', () => a.state === 'protected');
    return { world, a, b, c };
  }

  test('others are named while the node runs: whoever is asked next is one of them', async () => {
    const { world, a, b, c } = await three();
    const to = (...slots: readonly string[]) => slots.map((slot) => world.net.dialler(a, slot));
    // A standby that holds the guest stays, whatever the list says now.
    a.node.setDials(to('c'));
    await world.advance(100);
    expect([a.state, b.state, c.state]).toEqual(['protected', 'ready', 'joining']);
    world.kill(b);
    await world.until('unprotected', () => a.state !== 'protected');
    await world.until('protected by c', () => a.state === 'protected', 500);
    // Nobody is left to dial; then somebody is again.
    a.node.setDials([]);
    world.kill(c);
    await world.until('unprotected', () => a.state === 'solo');
    const d = world.add('d', 'a');
    d.node.startStandby();
    await world.advance(600);
    expect([a.state, d.state]).toEqual(['solo', 'joining']);
    a.node.setDials(to('b'));
    await world.advance(50);
    a.node.setDials([]);
    await world.advance(300);
    a.node.setDials(to('b', 'd'));
    await world.until('protected by d', () => a.state === 'protected', 1000);
    await incrs(world, 2);
    expect([d.state, world.violations]).toEqual(['ready', []]);
  });

  test('one at a time: the standby is killed, the other candidate is synced', async () => {
    const { world, a, b, c } = await three();
    expect([b.state, c.state]).toEqual(['ready', 'joining']);
    await incrs(world, 3);
    world.kill(b);
    await world.until('unprotected', () => a.state !== 'protected');
    await world.until('protected by c', () => a.state === 'protected', 500);
    expect(c.state).toBe('ready');
    await incrs(world, 3);
    world.kill(a);
    await world.until('a takeover', () => c.state === 'solo');
    await incrs(world, 1);
    expect(world.answers.at(-1)?.counter).toBe(7);
    expect(world.violations).toEqual([]);
  });

  test('the primary is killed: the heir takes the third node for its standby', async () => {
    const { world, a, b, c } = await three();
    await incrs(world, 3);
    world.kill(a);
    await world.until('a takeover', () => b.state === 'solo');
    await world.until('protected by c', () => b.state === 'protected', 500);
    expect(c.state).toBe('ready');
    const again = world.addNamed('a', 'b c', 'a');
    await world.startPrimary(again);
    expect(again.state).toBe('joining');
    await incrs(world, 3);
    world.kill(c);
    await world.until('unprotected', () => b.state !== 'protected');
    await world.until('protected by a', () => b.state === 'protected', 500);
    expect(again.state).toBe('ready');
    expect(world.violations).toEqual([]);
  });

  test('a candidate that refuses does not keep the others waiting', async () => {
    const world = new World({ onFenced: 'rejoin' });
    const misfit = world.add('b', 'a', { memoryBytes: 64 * 1024 });
    misfit.node.startStandby();
    const c = world.add('c', 'a');
    c.node.startStandby();
    const a = world.add('a', 'b c');
    await world.startPrimary(a);
    await world.until('protected', () => a.state === 'protected', 100);
    expect(c.state).toBe('ready');
    expect(a.refused?.message).toContain('memoryBytes');
  });
});

describe('equals through a random history', () => {
  /** One thing that happens; every host is then alive, and nothing is cut. */
  async function happen(world: World, random: Random, names: readonly string[]): Promise<void> {
    const name = random.pick(names) ?? 'a';
    const host = world.host(name);
    const others = names.filter((one) => one !== name).join(' ');
    const what = random.pick(['stall', 'kill', 'kill', 'cut', 'blind'] as const);
    if (what === 'stall') {
      host.gate.pause();
      await world.advance(random.between(5, 300));
      host.gate.resume();
    } else if (what === 'kill') {
      world.kill(host);
      await world.advance(random.between(60, 300));
      await world.startPrimary(world.addNamed(name, others, name));
    } else if (what === 'cut') {
      world.cutLinks();
      await world.advance(random.between(5, 300));
      world.healLinks();
    } else {
      world.witness.unreachableFor.add(name);
      await world.advance(random.between(5, 200));
      world.witness.unreachableFor.clear();
    }
    await incrs(world, 2);
  }

  test.each([
    [2, 10],
    [3, 8],
  ])(
    '%i of them, %i seeds: two promises kept, and the pair is protected in the end',
    async (hosts, seeds) => {
      const names = ['a', 'b', 'c'].slice(0, hosts);
      let lives = 0;
      for (let seed = 1; seed <= seeds; seed += 1) {
        const random = new Random(seed * 100 + hosts);
        const world = new World({ onFenced: 'rejoin', memoryBytes: 64 * 1024, diskBytes: 65_536 });
        for (const name of names) {
          await world.startPrimary(world.add(name, names.filter((one) => one !== name).join(' ')));
        }
        for (let step = 0; step < 6; step += 1) await happen(world, random, names);
        const story = `seed ${seed}`;
        const all = (): SimHost[] => names.map((name) => world.host(name));
        await world.until(story, () => all().some((host) => host.state === 'protected'), 5000);
        await incrs(world, 2);
        expect({ story, violations: world.violations }).toEqual({ story, violations: [] });
        expect(all().filter((host) => host.node.primary !== undefined)).toHaveLength(1);
        lives += all().reduce((sum, host) => sum + host.node.life, 0) - hosts;
      }
      expect(lives).toBeGreaterThan(seeds / 4);
    },
  );
});
