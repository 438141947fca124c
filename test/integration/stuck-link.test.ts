/**
 * Something between two hosts swallows the replication connection while heartbeats pass: real
 * processes, real sockets, a proxy in the way.
 */
import { Pair } from '../../src/drill/pair/pair';
import { stuckMsOf } from '../../src/primary/link-watch';
import { FaultProxy } from '../support/fault-proxy';

/** Test, proxy and both nodes share the host with whatever else runs. */
const SUSPECT_AFTER_MS = 400;

let pair: Pair;
let proxy: FaultProxy;

beforeEach(async () => {
  pair = new Pair({
    machine: 'simulated',
    withoutNamespace: true,
    name: 'stuck-link',
    memory: '4M',
    suspectAfterMs: () => SUSPECT_AFTER_MS,
  });
  const standby = pair.startStandby();
  await standby.waitState(['joining'], 10_000);
  proxy = await FaultProxy.start(pair.slots[1].port);
});

afterEach(async () => {
  await pair.close();
  await proxy.close();
});

test('the link is given up, the primary keeps its guest, and is protected anew', async () => {
  const primary = pair.startPrimary(pair.slots[0], proxy.port);
  await primary.waitState(['protected'], 10_000);
  const generation = primary.figure('generation');
  const from = primary.process.lines.length;
  // What a primary says first on a connection names its channel.
  proxy.onlyBegunWith = 'replication';
  proxy.fault = 'blackhole';
  const swallowedMs = performance.now();
  await primary.waitState(['suspended'], 20_000, from);
  const waitedMs = performance.now() - swallowedMs;
  proxy.fault = 'pass';
  // Status lines before that say "protected", too.
  await primary.waitState(['protected'], 10_000, primary.process.lines.length);
  const boundMs = stuckMsOf(SUSPECT_AFTER_MS);
  process.stdout.write(`given up after ${waitedMs.toFixed(0)} ms, bound ${boundMs} ms\n`);
  expect(waitedMs).toBeGreaterThan(boundMs * 0.8);
  expect(waitedMs).toBeLessThan(boundMs * 3);
  expect(pair.story()).toContain('FT_ERR_LINK_STUCK');
  expect(primary.process.exit).toBeUndefined();
  await primary.waitStatus(
    'the next generation',
    (f) => Number(f['generation']) > generation,
    2000,
  );
}, 60_000);

test('a standby that stands still is silent, and not stuck', async () => {
  const primary = pair.startPrimary(pair.slots[0], proxy.port);
  await primary.waitState(['protected'], 10_000);
  const from = primary.process.lines.length;
  pair.standby?.process.kill('SIGSTOP');
  const stoppedMs = performance.now();
  await primary.waitState(['suspended', 'solo'], 10_000, from);
  expect(performance.now() - stoppedMs).toBeLessThan(stuckMsOf(SUSPECT_AFTER_MS));
  pair.standby?.process.kill('SIGCONT');
  await primary.waitState(['protected'], 10_000, primary.process.lines.length);
  expect(pair.story()).not.toContain('FT_ERR_LINK_STUCK');
}, 60_000);
