/**
 * Debian's Prometheus under test: a server with a data directory and a port of its own, in a network
 * namespace, that scrapes nodes and judges rules; asked by its own tool.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { NetworkNamespace } from '../../src/drill/lan/netns';
import { projectRoot, WatchedProcess } from '../../src/drill/process/process';
import { atExit } from '../../src/drill/process/process-exit';
import { until } from '../../src/drill/process/time';

const PORT = 9090;
export const RULES = path.join(projectRoot, 'dashboards', 'romulus.rules.yml');

/** One series and its value at a moment. */
export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Runs promtool; `input` goes to its stdin. Returns what it printed, on either stream. */
export function promtool(
  args: readonly string[],
  input = '',
): { readonly code: number | null; readonly text: string } {
  const run = spawnSync('promtool', [...args], { cwd: projectRoot, encoding: 'utf8', input });
  return { code: run.status, text: `${run.stdout}${run.stderr}` };
}

export class PrometheusServer {
  private constructor(
    private readonly netns: NetworkNamespace,
    private readonly folder: string,
    private readonly process: WatchedProcess,
  ) {}

  /**
   * Scrapes what `jobs` say (entries of scrape_configs) every second, and judges the project's
   * rules twice as often; with the same expressions, and `forSeconds` in place of every time to wait.
   */
  static async start(
    netns: NetworkNamespace,
    jobs: readonly object[],
    forSeconds: number,
  ): Promise<PrometheusServer> {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'ft-prometheus-'));
    atExit(folder, () => rmSync(folder, { recursive: true, force: true }));
    const rules = readFileSync(RULES, 'utf8').replace(/^( +for:) \w+$/gm, `$1 ${forSeconds}s`);
    writeFileSync(path.join(folder, 'rules.yml'), rules);
    const config = path.join(folder, 'prometheus.yml');
    const words = JSON.stringify({
      global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '500ms' },
      rule_files: ['rules.yml'],
      scrape_configs: jobs,
    });
    writeFileSync(config, words);
    const child = new WatchedProcess({
      name: 'prometheus',
      command: 'prometheus',
      args: [
        `--config.file=${config}`,
        `--storage.tsdb.path=${path.join(folder, 'data')}`,
        `--web.listen-address=127.0.0.1:${PORT}`,
        '--log.level=warn',
      ],
      netns: netns.name,
    });
    const server = new PrometheusServer(netns, folder, child);
    await until('Prometheus', () => child.exit !== undefined || server.answers(), 20_000);
    if (child.exit !== undefined) throw child.failure('Prometheus to stay');
    return server;
  }

  /** The samples of an expression at this moment. */
  query(expr: string): Sample[] {
    const found = JSON.parse(this.ask('instant', expr)) as {
      metric: Record<string, string>;
      value: [number, string];
    }[];
    return found.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
  }

  /** Names of the alerts that fire at this moment. */
  firing(): string[] {
    const names = this.query('ALERTS{alertstate="firing"}').map(
      ({ labels }) => labels['alertname'],
    );
    return [...new Set(names.map(String))].sort();
  }

  /** The page that a target serves, as Prometheus would get it. */
  page(target: string): string {
    const script = `fetch('http://${target}/metrics').then((r) => r.text()).then((t) => process.stdout.write(t))`;
    return this.netns.run(process.execPath, '-e', script);
  }

  async close(): Promise<void> {
    await this.process.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  private ask(kind: 'instant', expr: string): string {
    const words = ['query', '-o', 'json', kind, `http://127.0.0.1:${PORT}`, expr];
    return this.netns.run('promtool', ...words);
  }

  private answers(): boolean {
    try {
      return this.query('vector(1)').length === 1;
    } catch {
      return false;
    }
  }
}
