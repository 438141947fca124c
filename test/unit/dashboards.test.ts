/**
 * Metrics, their document, the dashboard and the rules say the same: nothing is named that is not
 * there, and nothing is there that is not explained. Prometheus' own tools judge the rules in
 * test/integration/prometheus.test.ts.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import { COUNTERS, GAUGES, HISTOGRAMS } from '../../src/observe/metric-table';
import { NodeMetrics } from '../../src/observe/metrics';
import { LABELS } from '../../src/observe/node-figures';
import { dashboard, type Query, queriesIn } from '../support/dashboard-queries';

const root = path.join(__dirname, '..', '..');
const read = (file: string): string => readFileSync(path.join(root, file), 'utf8');

interface Metric {
  readonly name: string;
  readonly kind: 'counter' | 'gauge' | 'histogram';
  readonly label: string;
  readonly help: string;
}

const of =
  (kind: Metric['kind']) =>
  ({ name, help, label = '' }: { name: string; help: string; label?: string }): Metric => ({
    ...{ name, kind, label, help },
  });
const METRICS: readonly Metric[] = [
  ...COUNTERS.map(of('counter')),
  ...GAUGES.map(of('gauge')),
  ...HISTOGRAMS.map(of('histogram')),
];

describe('docs/metrics.md', () => {
  const rows = [
    ...read('docs/metrics.md').matchAll(/^\| `(\w+)` \| (\w+) \| (?:`(\w+)`)? ?\| (.*) \|$/gm),
  ];
  const documented = rows.map(([, name = '', kind = '', label = '', help = '']) => ({
    ...{ name, kind, label, help },
  }));
  const sorted = <T extends { name: string }>(list: readonly T[]): T[] =>
    [...list].sort((a, b) => a.name.localeCompare(b.name));

  test('explains every metric, in the words of the page, and no other', () => {
    expect(sorted(documented)).toEqual(sorted(METRICS));
  });

  test('the registry holds what the table says', async () => {
    const types = [...(await new NodeMetrics().text()).matchAll(/^# TYPE (\w+) (\w+)$/gm)];
    const shown = types.map(([, name = '', kind = '']) => ({ name, kind }));
    expect(sorted(shown)).toEqual(sorted(METRICS.map(({ name, kind }) => ({ name, kind }))));
  });

  test('names follow the rules: a unit or _total at their end, base units', () => {
    for (const { name, kind } of METRICS) {
      expect(name).toMatch(/^(ft|process)_[a-z]+(_[a-z]+)*$/);
      expect([name, name.endsWith('_total')]).toEqual([name, kind === 'counter']);
      expect(name).not.toMatch(/_(us|ms|milliseconds|microseconds|kb|mib|percent)(_|$)/);
    }
  });
});

interface Rule {
  readonly record?: string;
  readonly alert?: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

const rules = (
  parse(read('dashboards/romulus.rules.yml')) as { groups: { rules: Rule[] }[] }
).groups.flatMap((group) => group.rules);
const alerts = rules.filter((rule) => rule.alert !== undefined);
const recorded = new Set(rules.flatMap((rule) => rule.record ?? []));
const queries: readonly Query[] = [
  ...rules.map(({ alert, record, expr }) => ({ where: alert ?? record ?? '', text: expr })),
  ...queriesIn(['expr', 'definition']),
];

/** The metric that a name in a query stands for; undefined when there is none. */
function metricOf(name: string): Metric | undefined {
  const exact = METRICS.find((metric) => metric.name === name);
  if (exact !== undefined) return exact.kind === 'histogram' ? undefined : exact;
  const base = /^(\w+)_(bucket|sum|count)$/.exec(name)?.[1];
  return METRICS.find((metric) => metric.name === base && metric.kind === 'histogram');
}

const COMMON_LABELS = ['job', 'instance', 'pair', 'node'];
const KNOWN_VALUES: Readonly<Record<string, readonly string[]>> = {
  ft_role: LABELS.role,
  ft_state: LABELS.state,
  ft_state_entered_total: LABELS.state,
  ft_failovers_total: LABELS.failovers,
  ft_fenced_total: LABELS.fenced,
  ft_switchovers_total: LABELS.switchovers,
  ft_guest_halted: LABELS.halts,
};

/** What is wrong with one query. */
function faultsOf({ where, text }: Query): string[] {
  const faults: string[] = [];
  const bare = text.replace(/"[^"]*"/g, '""');
  for (const [name] of bare.matchAll(/\b(?:ft|process)_\w+|\b\w+:\w+:\w+/g)) {
    const isKnown = name.includes(':') ? recorded.has(name) : metricOf(name) !== undefined;
    if (!isKnown && !bare.includes(`:${name}`)) faults.push(`${where}: ${name}`);
  }
  for (const [, name = '', selector = ''] of text.matchAll(/\b((?:ft|process)_\w+)\{([^}]*)\}/g)) {
    const metric = metricOf(name);
    const known = [
      ...COMMON_LABELS,
      metric?.label,
      ...(metric?.kind === 'histogram' ? ['le'] : []),
    ];
    for (const [, label = '', values = ''] of selector.matchAll(
      /(\w+)\s*(?:=~|!=|!~|=)\s*"([^"]*)"/g,
    )) {
      if (!known.includes(label)) faults.push(`${where}: ${name} has no label ${label}`);
      if (label !== metric?.label || KNOWN_VALUES[name] === undefined) continue;
      const strange = values.split('|').filter((value) => !KNOWN_VALUES[name]?.includes(value));
      for (const value of strange) faults.push(`${where}: ${name} knows no ${label} "${value}"`);
    }
  }
  return faults;
}

describe('dashboards/', () => {
  test('there is something to look at', () => {
    expect(alerts.length).toBeGreaterThan(15);
    expect(queries.length).toBeGreaterThan(100);
  });

  test('rules and panels name only metrics, labels and values that exist', () => {
    expect(queries.flatMap(faultsOf)).toEqual([]);
  });

  test('a wrong name is seen', () => {
    const fault = (text: string): string[] => faultsOf({ where: 'x', text });
    expect(fault('rate(ft_epochs_cut[1m])')).toEqual(['x: ft_epochs_cut']);
    expect(fault('ft_epoch_pause_seconds > 1')).toEqual(['x: ft_epoch_pause_seconds']);
    expect(fault('ft_epoch_pause_seconds_count > 1')).toEqual([]);
    expect(fault('pair:ft_protected:min')).toEqual(['x: pair:ft_protected:min']);
    expect(fault('ft_generation{state="solo"}')).toEqual(['x: ft_generation has no label state']);
    expect(fault('ft_state{state=~"solo|alone"}')).toEqual(['x: ft_state knows no state "alone"']);
  });

  test('every metric has a place on the dashboard or in a rule', () => {
    const named = queries.map(({ text }) => text).join('\n');
    const unseen = METRICS.filter(
      ({ name }) => !new RegExp(`\\b${name}(_bucket|_sum|_count)?\\b`).test(named),
    );
    // How much the newest sync took, once: for whoever asks, not for a graph. Ratios since the start
    // say less than the rule that stands for them.
    expect(unseen.map(({ name }) => name)).toEqual([
      'ft_syncs_total',
      'ft_replication_compression_ratio',
      'ft_sync_pages',
      'ft_sync_last_bytes',
      'ft_sync_last_seconds',
    ]);
  });

  test('the example of a configuration names the pair of each target, and somebody to tell', () => {
    const text = read('dashboards/prometheus.example.yml');
    const whole = parse(text.replace(/^ {2}# (?=- job_name| {2})/gm, '  ')) as {
      alerting: { alertmanagers: unknown[] };
      scrape_configs: {
        honor_labels?: boolean;
        static_configs: { labels?: { pair?: string } }[];
      }[];
    };
    expect(whole.alerting.alertmanagers).toHaveLength(1);
    expect(whole.scrape_configs).toHaveLength(2);
    for (const { honor_labels, static_configs } of whole.scrape_configs) {
      expect(honor_labels).toBe(true);
      for (const { labels } of static_configs) expect(labels?.pair).toBe('web');
    }
  });

  test('panels have titles, descriptions and places of their own', () => {
    const { panels } = dashboard as {
      panels: {
        id: number;
        type: string;
        title: string;
        description?: string;
        gridPos: { x: number; y: number; w: number; h: number };
      }[];
    };
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    for (const panel of panels) {
      expect(panel.title).not.toBe('');
      if (panel.type !== 'row') expect([panel.title, panel.description ?? '']).not.toContain('');
    }
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, i) => `${x + (i % w)},${y + Math.floor(i / w)}`),
    );
    expect(new Set(cells).size).toBe(cells.length);
  });

  test.each(alerts.map((rule) => [rule.alert ?? '', rule] as const))(
    '%s has all that an alert needs',
    (name, rule) => {
      expect(rule.for).toMatch(/^\d+[smh]$/);
      expect(['critical', 'warning']).toContain(rule.labels?.['severity']);
      for (const part of ['summary', 'description'])
        expect(rule.annotations?.[part]).toMatch(/^\S.{10,}\S$/);
      expect(rule.annotations?.['runbook_url']).toBe(`docs/runbook.md#${name.toLowerCase()}`);
      expect(read('dashboards/romulus.rules.test.yml')).toContain(`alertname="${name}"`);
    },
  );
});
