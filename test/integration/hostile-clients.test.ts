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
const ATTACK_MS = 2000;
const TEST_MS = 180_000;
const GROWTH_BYTES_MAX = 128 * 1024 * 1024;
const GROWTH_AGAIN_BYTES_MAX = 32 * 1024 * 1024;
/** Of an attack, on a machine that has other things to do as well. */
const EPOCHS_MIN = 10;

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
      suspectAfterMs: () => 10_000,
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

  /** Each port in turn: nobody is let in, and epochs go on all the while. */
  async function attackAll(active: PairNode, orders: readonly HostileOrder[]): Promise<void> {
    const committed = (): number => {
      const last = active.process.lines.findLast((line) => 'epochCommitted' in line.fields);
      return Number(last?.fields['epochCommitted']);
    };
    for (const order of orders) {
      const before = committed();
      const { kind } = order;
      const result = await attack(order, { netns: pair?.netns?.name });
      expect({ kind, letIn: result.letIn }).toEqual({ kind, letIn: {} });
      expect(result.attempts).toBeGreaterThan(CLIENTS);
      expect(Object.keys(result.counts).length).toBeGreaterThan(4);
      expect(committed() - before).toBeGreaterThan(EPOCHS_MIN);
    }
  }

  test(
    'the pair goes on, and nobody is let in',
    async () => {
      const { active, standby, orders } = await start();
      oracle = await OracleProcess.start(
        { ...(pair as Pair).guest, clients: 8, ratePerSecond: 400 },
        pair?.netns?.name,
      );
      await oracle.start();
      await sleep(1000);
      const from = active.process.lines.length;
      const memory = (node: PairNode): number => processMemory(node.process.pid).ownBytes;
      const nodes = [active, standby];
      const begin = nodes.map(memory);
      await attackAll(active, orders);
      const warm = nodes.map(memory);
      await attackAll(active, orders);
      await sleep(500);
      nodes.forEach((node, n) => {
        const now = memory(node);
        // Buffers, caches, a heap that has grown: once. What grows with each attack would be a leak.
        expect(now - (begin[n] ?? 0)).toBeLessThan(GROWTH_BYTES_MAX);
        expect(now - (warm[n] ?? 0)).toBeLessThan(GROWTH_AGAIN_BYTES_MAX);
        expect(node.process.exit).toBeUndefined();
      });
      const lines = active.process.lines.slice(from);
      expect(lines.filter((line) => line.fields['event'] === 'state')).toEqual([]);
      await pair?.killActive();
      await pair?.rejoin();
      const verdict = await oracle.finish();
      expect(verdict.violations.map((violation) => violation.story)).toEqual([]);
    },
    TEST_MS,
  );
});
