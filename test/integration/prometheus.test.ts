/**
 * Debian's own Prometheus looks at a real pair, across a failover: it holds the figures of both
 * nodes, and the alert for an unprotected guest fires and clears. And its tools judge the rules.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type Holder, issue, makeAuthority } from '../../src/cli/pki/authority';
import { BRIDGE_ADDRESS } from '../../src/drill/lan/netns';
import { Pair, type PairNode, type Slot } from '../../src/drill/pair/pair';
import { until } from '../../src/drill/process/time';
import { queriesIn } from '../support/dashboard-queries';
import { kvmDescribe } from '../support/kvm';
import { PrometheusServer, promtool } from '../support/prometheus';

const portOf = (slot: Pick<Slot, 'name'>): number => (slot.name === 'a' ? 9101 : 9102);
const targetOf = (slot: Pick<Slot, 'name'>): string => `127.0.0.1:${portOf(slot)}`;

/** Prometheus and its tool share two cores with the pair, and with whatever else is done here. */
const PATIENCE_MS = 40_000;
const TEST_MS = 180_000;

/** Where a node serves other machines, and who it and Prometheus are. */
const TARGET = `${BRIDGE_ADDRESS}:9100`;
const NODE: Holder = { kind: 'node', name: 'a0', hosts: [BRIDGE_ADDRESS] };
const READER: Holder = { kind: 'reader', name: 'prometheus' };

describe("promtool's judgement", () => {
  test('of the rules, and of the example of a configuration', () => {
    expect(promtool(['check', 'rules', 'dashboards/romulus.rules.yml'])).toMatchObject({ code: 0 });
    const config = promtool(['check', 'config', 'dashboards/prometheus.example.yml']);
    expect([config.code, config.text]).toEqual([0, expect.stringContaining('SUCCESS')]);
  });

  test('of every expression on the dashboard', () => {
    const expressions = queriesIn(['expr']);
    expect(expressions.length).toBeGreaterThan(60);
    const rules = expressions.map(({ text }, index) => {
      const expr = text.replace(/\$__rate_interval/g, '1m').replace(/\$(job|pair|node)\b/g, '.*');
      return { record: `panel:number_${index}:sum`, expr };
    });
    const folder = mkdtempSync(path.join(os.tmpdir(), 'ft-panels-'));
    try {
      const file = path.join(folder, 'panels.yml');
      writeFileSync(file, JSON.stringify({ groups: [{ name: 'panels', rules }] }));
      const { code, text } = promtool(['check', 'rules', file]);
      expect([code, text]).toEqual([0, expect.stringContaining('SUCCESS')]);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test(
    'of each alert: it fires when it should, and not else',
    () => {
      const { code, text } = promtool(['test', 'rules', 'dashboards/romulus.rules.test.yml']);
      expect([code, text]).toEqual([0, expect.stringContaining('SUCCESS')]);
    },
    TEST_MS,
  );
});

kvmDescribe('Prometheus', () => {
  let pair: Pair;
  let prometheus: PrometheusServer | undefined;

  beforeEach(() => {
    pair = new Pair({
      machine: 'kvm',
      name: 'prometheus',
      flags: ['--log-format', 'json'],
      slotFlags: (slot) => ['--http', targetOf(slot)],
    });
  });

  afterEach(async () => {
    await prometheus?.close();
    prometheus = undefined;
    await pair.close();
  });

  const begin = async (forSeconds: number): Promise<PrometheusServer> => {
    if (pair.netns === undefined) throw new Error('The pair has no namespace.');
    await pair.start();
    // As in dashboards/prometheus.example.yml.
    const targets = { targets: pair.slots.map(targetOf), labels: { pair: 'drill' } };
    const job = { job_name: 'romulus', honor_labels: true, static_configs: [targets] };
    prometheus = await PrometheusServer.start(pair.netns, [job], forSeconds);
    return prometheus;
  };

  const nodes = (server: PrometheusServer, expr: string): string =>
    server
      .query(expr)
      .map(({ labels, value }) => `${labels['pair']}/${labels['node']} ${value}`)
      .sort()
      .join(', ');

  /** Waits until it shows just that: a scrape that comes too late is missing for a moment. */
  const shows = async (server: PrometheusServer, expr: string, wanted: string): Promise<void> => {
    let seen = '';
    const isThere = (): boolean => {
      seen = nodes(server, expr);
      return seen === wanted;
    };
    await until(`${expr} to be ${wanted}`, isThere, PATIENCE_MS).catch((thrown: unknown) => {
      throw new Error(`${thrown instanceof Error ? thrown.message : ''} It was: ${seen}`);
    });
  };

  const fires = (server: PrometheusServer, alert: string): Promise<void> =>
    until(`${alert}`, () => server.firing().includes(alert), PATIENCE_MS);

  /** Neither of them fires. Others may, such as late heartbeats, where the host has much to do. */
  const rests = (server: PrometheusServer): Promise<void> => {
    const ours = ['RomulusUnprotected', 'RomulusNodeDown', 'RomulusGuestDown', 'RomulusPairDown'];
    const none = (): boolean => !server.firing().some((alert) => ours.includes(alert));
    return until('the alerts to clear', none, PATIENCE_MS);
  };

  test(
    'holds a pair across a failover; "unprotected" fires and clears',
    async () => {
      const server = await begin(1);
      await shows(server, 'ft_protected == 1', 'drill/a1 1, drill/b0 1');
      await shows(server, 'ft_role{role="primary"} == 1', 'drill/a1 1');
      await shows(server, 'ft_state{state="ready"} == 1', 'drill/b0 1');
      await shows(server, 'ft_generation', 'drill/a1 1, drill/b0 1');
      await shows(server, '(instance:ft_epochs_committed:rate1m > bool 10) == 1', 'drill/a1 1');
      await rests(server);

      await pair.killActive();
      await fires(server, 'RomulusUnprotected');
      await fires(server, 'RomulusNodeDown');
      await shows(server, 'ft_failovers_total{cause="closed"} == 1', 'drill/b0 1');
      await shows(server, 'ft_role{role="primary"} == 1', 'drill/b0 1');

      await pair.rejoin();
      await rests(server);
      await shows(server, 'ft_protected == 1', 'drill/a2 1, drill/b0 1');
      await shows(server, 'ft_generation', 'drill/a2 2, drill/b0 2');

      // What the dead node counted is still there, and what the other one did since.
      const committed = server.query('max_over_time(ft_epochs_committed_total[10m])');
      const held = committed.map(({ labels }) => labels['node']).sort();
      expect(held).toEqual(['a1', 'a2', 'b0']);
      for (const node of ['a1', 'b0']) {
        expect(committed.find(({ labels }) => labels['node'] === node)?.value).toBeGreaterThan(500);
      }
      const story = 'max_over_time(ft_state{node="b0",state=~"ready|solo|protected"}[10m])';
      expect(server.query(story).map(({ value }) => value)).toEqual([1, 1, 1]);

      // With both of them gone, who is left to say so are the targets.
      await pair.stopInOrder();
      await fires(server, 'RomulusPairDown');
      const down = server.query('ALERTS{alertname="RomulusPairDown"}').map(({ labels }) => labels);
      expect(down).toMatchObject([{ pair: 'drill', alertstate: 'firing' }]);
      expect(server.query('{exported_pair!=""}')).toEqual([]);
    },
    TEST_MS,
  );

  test('finds the page of a running node without fault, on either side', async () => {
    const server = await begin(60);
    for (const slot of pair.slots) {
      const page = server.page(targetOf(slot));
      expect(promtool(['check', 'metrics'], page)).toEqual({ code: 0, text: '' });
    }
    const exits = server
      .page(targetOf(pair.slots[0]))
      .match(/^ft_guest_exits_total\{.*\} [1-9]\d*$/gm);
    expect(exits?.length).toBeGreaterThan(1);
  });

  test('JSON logs: a line for each change of state, with generation and epoch', async () => {
    await pair.start();
    const [a, b] = [pair.active, pair.standby];
    // A kill leaves no time for a line that is just being written.
    await a?.waitStatus('a line of its own', () => true, 5000);
    await pair.killActive();
    await until('alone', () => b?.state === 'solo', PATIENCE_MS);
    for (const node of [a, b]) {
      const told = statesTold(node);
      expect(told.length).toBeGreaterThan(2);
      // Lines and log are two streams, and come each in their own time.
      await until('the log', () => statesLogged(node).length >= told.length, PATIENCE_MS);
      expect(statesLogged(node)).toEqual(told);
    }
  });

  const fieldsOf = (source: Readonly<Record<string, unknown>>): unknown[] =>
    ['role', 'from', 'to', 'generation', 'epoch'].map((name) => source[name]);

  /** From the status lines. */
  const statesTold = (node: PairNode | undefined): unknown[][] =>
    (node?.process.lines ?? [])
      .filter(({ fields }) => fields['event'] === 'state')
      .map(({ fields }) => fieldsOf(fields));

  /** From the log, of which every line must be JSON. */
  const statesLogged = (node: PairNode | undefined): unknown[][] =>
    (node?.process.stderrTail ?? '')
      .trimEnd()
      .split('\n')
      .map((line): Record<string, unknown> => JSON.parse(line) as Record<string, unknown>)
      .filter((line) => {
        expect(line).toMatchObject({ pair: 'drill', node: node?.nodeId });
        expect(String(line['time'])).toMatch(/^\d{4}-\d\d-\d\dT/);
        return line['event'] === 'state';
      })
      .map(fieldsOf);
});

kvmDescribe('Prometheus off loopback', () => {
  let folder: string;
  let pair: Pair | undefined;
  let prometheus: PrometheusServer | undefined;

  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-prometheus-tls-'));
  });

  afterEach(async () => {
    await prometheus?.close();
    await pair?.close();
    prometheus = undefined;
    pair = undefined;
    rmSync(folder, { recursive: true, force: true });
  });

  test(
    'reads with a certificate of the pair, or with the token, and not with neither',
    async () => {
      makeAuthority(folder, 'drill', 30);
      const node = issue(folder, path.join(folder, 'node'), NODE, 30);
      const reader = issue(folder, path.join(folder, 'reader'), READER, 30);
      const token = path.join(folder, 'token');
      writeFileSync(token, `${randomBytes(24).toString('hex')}\n`, { mode: 0o600 });
      pair = new Pair({
        machine: 'kvm',
        name: 'prometheus-tls',
        flags: [
          ...['--tls-ca', node.ca, '--tls-cert', node.cert, '--tls-key', node.key],
          ...['--http', TARGET, '--http-token-file', token],
        ],
      });
      if (pair.netns === undefined) throw new Error('The pair has no namespace.');
      await pair.startAlone().waitState(['solo'], 20_000);
      const common = { scheme: 'https', static_configs: [{ targets: [TARGET] }] };
      const tls = { ca_file: node.ca, min_version: 'TLS13' };
      prometheus = await PrometheusServer.start(
        pair.netns,
        [
          {
            ...{ ...common, job_name: 'certificate' },
            tls_config: { ...tls, cert_file: reader.cert, key_file: reader.key },
          },
          {
            ...{ ...common, job_name: 'token', tls_config: tls },
            authorization: { credentials_file: token },
          },
          { ...common, job_name: 'stranger', tls_config: tls },
        ],
        60,
      );
      const server = prometheus;
      const ups = (): string[] =>
        server
          .query('up')
          .map(({ labels, value }) => `${labels['job']} ${value}`)
          .sort();
      const wanted = ['certificate 1', 'stranger 0', 'token 1'];
      await until('three verdicts', () => ups().join() === wanted.join(), PATIENCE_MS);
      const ends = server.query('ft_tls_certificate_expiry_seconds - time()');
      expect(ends.map(({ labels }) => labels['job']).sort()).toEqual(['certificate', 'token']);
      for (const { value } of ends) expect(Math.round(value / 86_400)).toBe(30);
    },
    TEST_MS,
  );
});
