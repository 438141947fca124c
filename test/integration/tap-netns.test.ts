/**
 * --netns: the guest's network in a namespace of its own, while the nodes themselves talk to each
 * other on the loopback of the host.
 *
 *   ┌ namespace ──────────────────────────────┐   ┌ where the test runs ─────────┐
 *   │ br0 ── client    tap0 ┐          tap1 ┐ │   │ node a ══ 127.0.0.1 ══ node b │
 *   └───────────────────────┼───────────────┼─┘   └───┬───────────────────────┬──┘
 *                           └── its guest's card ─────┘   … after a failover ─┘
 */
import { mkdtempSync, readlinkSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { GUEST_ADDRESS, NetworkNamespace } from '../../src/drill/lan/netns';
import { BEACON_PORT } from '../../src/drill/oracle/oracle-layout';
import { NodeProcess } from '../../src/drill/pair/node-process';
import { beaconPath } from '../../src/drill/pair/pair';
import { projectRoot, WatchedProcess } from '../../src/drill/process/process';
import { until } from '../../src/drill/process/time';
import { askIncrement } from '../support/beacon-ask';
import { kvmDescribe } from '../support/kvm';
import { type CommandFlags, expectRefusal, runCommand } from './command';

const GUEST = { host: GUEST_ADDRESS, port: BEACON_PORT };
/** Beside the ports of other tests on the host's loopback. */
const PORT = 20_000 + (process.pid % 20_000);

kvmDescribe('a TAP in a network namespace', () => {
  let netns: NetworkNamespace;
  let folder = '';
  const nodes: NodeProcess[] = [];

  beforeEach(() => {
    netns = NetworkNamespace.make(2);
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-netns-'));
  });

  afterEach(async () => {
    for (const node of nodes.splice(0)) await node.process.stop();
    netns.close();
    rmSync(folder, { recursive: true });
  });

  /** Both run the same command, as two equal hosts do. */
  const start = (name: 'a' | 'b'): NodeProcess => {
    const [own, other] = name === 'a' ? [PORT, PORT + 1] : [PORT + 1, PORT];
    const child = new WatchedProcess({
      name: `netns-${name}`,
      command: process.execPath,
      args: [
        path.join(projectRoot, 'dist/src/cli/ft-primary.js'),
        ...['--kernel', beaconPath, '--cmdline', `ip=${GUEST_ADDRESS}`, '--node', name],
        ...['--tap', name === 'a' ? 'tap0' : 'tap1', '--netns', netns.name],
        ...['--listen', `127.0.0.1:${own}`, '--standby', `127.0.0.1:${other}`],
        ...['--witness', `file:${folder}`, '--suspect-after-ms', '300'],
        ...['--status-interval-ms', '200'],
      ],
    });
    const node = new NodeProcess(child, name);
    nodes.push(node);
    return node;
  };

  const sequence = async (): Promise<bigint> => {
    let seen: bigint | undefined;
    const answers = (): boolean => {
      seen = askIncrement(netns.name, GUEST)?.sequence;
      return seen !== undefined;
    };
    await until('an answer of the guest', answers, 8000);
    return seen ?? 0n;
  };

  test('the guest is reached there alone, before and after a failover and in the next life', async () => {
    const a = start('a');
    await a.waitState(['solo'], 8000);
    const b = start('b');
    await a.waitState(['protected'], 15_000);
    const before = await sequence();
    expect(before).toBeGreaterThan(0n);
    expect(askIncrement(undefined, GUEST)).toBeUndefined();
    // Only a thread went there: the node's own sockets are where the test is.
    const home = readlinkSync('/proc/self/ns/net');
    for (const { process } of [a, b]) {
      expect(readlinkSync(`/proc/${process.pid}/ns/net`)).toBe(home);
    }
    a.process.kill('SIGKILL');
    await b.waitState(['solo'], 8000);
    expect(await sequence()).toBeGreaterThan(before);

    // The killed one comes back as standby, with its TAP, and takes the guest back.
    await a.process.waitExit(5000);
    start('a');
    const from = b.process.lines.length;
    await b.waitState(['protected'], 15_000, from);
    const between = await sequence();
    b.process.kill('SIGKILL');
    expect(await sequence()).toBeGreaterThan(between);
  });

  test('what is no namespace, and one without that TAP, are refused by name', async () => {
    const flags: CommandFlags = { kernel: beaconPath, witness: `file:${folder}`, tap: 'tap0' };
    const missing = await runCommand('ft-primary', { ...flags, netns: 'ft-no-such' });
    expectRefusal(missing, 3, /no network namespace ft-no-such.*ip netns add ft-no-such/);
    const empty = await runCommand('ft-primary', { ...flags, tap: 'tap9', netns: netns.name });
    expectRefusal(empty, 3, new RegExp(`no TAP tap9 in namespace ${netns.name}.*ip -n `));
    const nothing = await runCommand('ft-primary', { ...flags, netns: '../x' });
    expectRefusal(nothing, 2, /--netns.*"\.\.\/x"/);
    const simulated = { machine: 'simulated', 'sim-port': '1', witness: 'none', netns: 'x' };
    expectRefusal(await runCommand('ft-primary', simulated), 2, /--netns.*--machine kvm/);
  });
});
