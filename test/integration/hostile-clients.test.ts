/**
 * Fifty hostile clients at each listening port of a pair on KVM: nobody is let in, the session and its
 * epochs go on, memory stays bounded, and a failover afterwards loses nothing. What it costs in
 * epochs a second is measured by bench/hostile.ts.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { processMemory } from '../../bench/process-memory';
import { BRIDGE_ADDRESS } from '../../src/drill/lan/netns';
import { OracleProcess } from '../../src/drill/oracle/oracle-process';
import { Pair, type PairNode } from '../../src/drill/pair/pair';
import { sleep } from '../../src/drill/process/time';
import { TestAuthority } from '../support/certificates';
import type { HostileOrder } from '../support/hostile-clients';
import { attack } from '../support/hostile-process';
import { kvmDescribe } from '../support/kvm';

const CLIENTS = 50;
const ATTACK_MS = 4000;
/** What the attacks may leave behind in a process: buffers, caches, the heap's slack. */
const GROWTH_BYTES_MAX = 48 * 1024 * 1024;

kvmDescribe('fifty hostile clients at every port', () => {
  let folder: string;
  let pair: Pair | undefined;
  let oracle: OracleProcess | undefined;

  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-hostile-'));
  });

  afterEach(async () => {
    await oracle?.close();
    await pair?.close();
    oracle = undefined;
    pair = undefined;
    rmSync(folder, { recursive: true, force: true });
  });

  const portOf = (slot: { readonly name: 'a' | 'b' }): number => (slot.name === 'a' ? 9101 : 9102);
  const controlOf = (slot: { readonly name: 'a' | 'b' }): string =>
    path.join(folder, `${slot.name}.sock`);

  async function start(): Promise<{ active: PairNode; standby: PairNode; orders: HostileOrder[] }> {
    const ours = new TestAuthority(folder, 'ours');
    const node = ours.issue('node', ['URI:romulus:pair:drill', `IP:${BRIDGE_ADDRESS}`]);
    const certificates = {
      stranger: new TestAuthority(folder, 'theirs').issueNode('x', 'drill'),
      expired: ours.issueNodeAt('old', 'drill', 2020),
      otherPair: ours.issueNode('y', 'other'),
    };
    const made = new Pair({
      machine: 'kvm',
      name: 'hostile-clients',
      // Fifty clients take both cores: the nodes may have to wait for their turn.
      suspectAfterMs: () => 2000,
      flags: ['--tls-ca', ours.ca, '--tls-cert', node.cert, '--tls-key', node.key],
      slotFlags: (slot) => [
        ...['--http', `${BRIDGE_ADDRESS}:${portOf(slot)}`, '--control', controlOf(slot)],
      ],
    });
    pair = made;
    await made.start();
    const { active, standby } = made;
    if (active === undefined || standby === undefined) throw new Error('The pair is not complete.');
    const common = { clients: CLIENTS, ms: ATTACK_MS, certificates };
    // From the address that the peer comes from, and from others.
    const addresses = ['127.0.0.1', '127.0.0.2', '127.0.0.3', '127.0.0.4', '127.0.0.5'];
    const replication = {
      kind: 'replication',
      host: '127.0.0.1',
      port: standby.slot.port,
    } as const;
    const http = { kind: 'http', host: BRIDGE_ADDRESS, port: portOf(active.slot) } as const;
    const control = { kind: 'control', path: controlOf(active.slot) } as const;
    const orders: HostileOrder[] = [
      { ...common, ...replication, tls: true, addresses },
      { ...common, ...http, tls: true },
      { ...common, ...control, tls: false },
    ];
    return { active, standby, orders };
  }

  test('the pair goes on, and nobody is let in', async () => {
    const { active, standby, orders } = await start();
    oracle = await OracleProcess.start(
      { ...(pair as Pair).guest, clients: 8, ratePerSecond: 400 },
      pair?.netns?.name,
    );
    await oracle.start();
    await sleep(1000);
    const from = active.process.lines.length;
    const memory = (node: PairNode): number => processMemory(node.process.pid).ownBytes;
    const before = [active, standby].map(memory);
    for (const order of orders) {
      const result = await attack(order, { netns: pair?.netns?.name });
      expect({ kind: order.kind, letIn: result.letIn }).toEqual({ kind: order.kind, letIn: {} });
      expect(result.attempts).toBeGreaterThan(CLIENTS);
      expect(Object.keys(result.counts).length).toBeGreaterThan(4);
    }
    await sleep(500);
    [active, standby].forEach((node, n) => {
      expect(memory(node) - (before[n] ?? 0)).toBeLessThan(GROWTH_BYTES_MAX);
      expect(node.process.exit).toBeUndefined();
    });
    const lines = active.process.lines.slice(from);
    expect(lines.filter((line) => line.fields['event'] === 'state')).toEqual([]);
    const committed = lines.map((line) => Number(line.fields['epochCommitted'] ?? Number.NaN));
    const told = committed.filter((epoch) => !Number.isNaN(epoch));
    expect(told.length).toBeGreaterThan(20);
    for (let n = 1; n < told.length; n += 1) {
      expect(told[n]).toBeGreaterThan(told[n - 1] ?? 0);
    }
    await pair?.killActive();
    await pair?.rejoin();
    const verdict = await oracle.finish();
    expect(verdict.violations.map((violation) => violation.story)).toEqual([]);
  });
});
