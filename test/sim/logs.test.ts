/**
 * What the log of a node says, with the production roles in the simulated world: every change of
 * state, with its generation and epoch, and nothing of the epochs themselves.
 */
import type { SimHost } from './sim-host';
import { World } from './world';

/** The changes that a node logged, in the words of its state events. */
const changes = (host: SimHost): object[] =>
  host.logged
    .filter((facts) => facts['event'] === 'state')
    .map(({ role, from, to, generation, epoch }) => ({ role, from, to, generation, epoch }));

/** The state events themselves. */
const events = (host: SimHost): object[] =>
  host.states.map(({ role, from, to, generation, epoch }) => ({
    ...{ role, from, to, generation, epoch },
  }));

test('every change of state is a line that knows its generation and epoch', async () => {
  const world = new World({ onFenced: 'rejoin' });
  const { a, b } = await world.protectedPair();
  await world.advance(20);
  // The primary stands still for longer than its standby waits: a failover, and a new life.
  a.gate.pause();
  await world.until('the takeover', () => b.state === 'solo');
  a.gate.resume();
  await world.until('protected anew', () => b.state === 'protected');
  const done = b.node.switchover();
  await world.until('protected once more', () => a.state === 'protected');
  expect(await done).toMatchObject({ generation: 3 });
  world.kill(b);
  await world.until('alone', () => a.state === 'solo');
  for (const host of [a, b]) {
    expect(host.states.length).toBeGreaterThan(10);
    expect(changes(host)).toEqual(events(host));
    for (const line of host.logged.filter((facts) => facts['event'] === 'state')) {
      expect([line, typeof line['generation'], typeof line['epoch']]).toEqual([
        line,
        'number',
        'number',
      ]);
    }
  }
});

test('a minute of epochs adds no line', async () => {
  const world = new World({
    ...{ intervalUs: 10_000, heartbeatIntervalMs: 100, suspectAfterMs: 500, auditPages: 0 },
  });
  const { a, b } = await world.protectedPair();
  await world.advance(100);
  const lines = (): number => a.said.length + b.said.length;
  const before = { lines: lines(), epochs: a.node.primary?.stats.epochsCommitted ?? 0 };
  await world.advance(60_000);
  const epochs = (a.node.primary?.stats.epochsCommitted ?? 0) - before.epochs;
  expect(epochs).toBeGreaterThan(5000);
  expect(lines()).toBe(before.lines);
  expect([a.state, b.state]).toEqual(['protected', 'ready']);
});
