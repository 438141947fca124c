/**
 * The benchmark of epochs runs and says what it should: one small cell of it, for real. What the
 * figures are is not judged: a test must not fail because the machine is busy.
 */
import { readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { RowFigures } from '../../bench/rows';
import { projectRoot, WatchedProcess } from '../../src/drill/process/process';
import { kvmTest } from '../support/kvm';

const OUTPUT = 'bench/smoke.json';

interface Report {
  readonly [name: string]: unknown;
  readonly parameters: Record<string, unknown>;
  readonly bars: { what: string; figures: string; reached?: boolean }[];
  readonly rows: (RowFigures & Record<string, unknown>)[];
  readonly skipped: unknown[];
}

kvmTest('one cell: the table, the bars and every field of the file', async () => {
  const file = path.join(projectRoot, 'build', OUTPUT);
  rmSync(file, { force: true });
  const flags = ['--pages', '16', '--rates', '2500', '--no-highest', '--no-light'];
  const short = ['--seconds', '3', '--reference-seconds', '0.5', '--warm-up-ms', '200'];
  const program = path.join(projectRoot, 'dist/bench/epochs.js');
  const bench = new WatchedProcess({
    name: 'bench-smoke',
    command: process.execPath,
    args: [program, ...flags, ...short, '--output', OUTPUT],
  });
  try {
    const { code } = await bench.waitExit(50_000);
    if (code !== 0) throw bench.failure('an end with code 0');
  } finally {
    await bench.stop();
  }
  const said = bench.stderrTail;
  expect(said).toMatch(/^16 x 8 B, 2,500\/s +[\d,]+ \([\d,]+\) /m);
  expect(said).toMatch(/^not measured +at least 10,000 committed epochs\/s with 16/m);
  expect(said).toMatch(/^(NOT )?reached +wire bytes never more than 101 %/m);

  const report = JSON.parse(readFileSync(file, 'utf8')) as Report;
  for (const name of ['machine', 'kernel', 'commit', 'date']) {
    expect(report[name]).toEqual(expect.stringMatching(/./));
  }
  expect(report.parameters).toMatchObject({ seconds: 3, runs: 1, incrPerSecond: 200 });
  expect([report.rows.length, report.skipped.length]).toEqual([1, 0]);
  const row = report.rows[0];
  if (row === undefined) throw new Error('there is no row');
  expect(row).toMatchObject({
    dirtyPages: 16,
    changedBytes: 8,
    targetEpochsPerSecond: 2500,
    intervalUs: 400,
    runs: 1,
    violations: 0,
    auditMismatches: 0,
  });
  const { samples, stages, ...figures } = row;
  for (const [name, value] of Object.entries(figures)) {
    expect([name, Number.isFinite(value)]).toEqual([name, true]);
  }
  const positive: readonly (keyof RowFigures)[] = [
    'committedEpochsPerSecond',
    'dirtyPagesPerEpoch',
    'pauseUsP50',
    'pauseUsP99',
    'guestGapUsP50',
    'guestGapUsMax',
    'floorEpochsPerSecond',
    'floorDirtyPagesPerEpoch',
    'guestProgressVsFloor',
    'guestProgressVsUnprotected',
    'latencyUsP50',
    'latencyUsMax',
    'wireBytesPerDirtyByte',
    'primaryMemoryMiB',
    'standbyMemoryMiB',
  ];
  for (const name of positive) {
    expect([name, row[name] > 0]).toEqual([name, true]);
  }
  expect(samples).toHaveLength(1);
  expect(stages).toEqual(expect.arrayContaining([expect.objectContaining({ stage: 'wire' })]));
});
