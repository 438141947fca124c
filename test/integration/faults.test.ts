/**
 * The watchers can see: a page hidden from the dirty set is found by the audit, answers that leave
 * before their epoch is acknowledged are found by the oracle. Without the faults neither says a word.
 */

import { OracleProcess } from '../../src/drill/oracle/oracle-process';
import { Pair } from '../../src/drill/pair/pair';
import { until } from '../../src/drill/process/time';
import { drillDefaults, runDrill } from '../drill/drill';
import { kvmDescribe } from '../support/kvm';

const DRILLS_MAX = 12;
const AUDIT = ['--audit-pages', '64'] as const;
/** A long epoch, so that hardly a kill falls into a moment at which the standby knows everything. */
const EARLY = ['--test-fault', 'release-early', '--interval-us', '5000'] as const;

kvmDescribe('test faults', () => {
  let pair: Pair | undefined;
  let oracle: OracleProcess | undefined;

  afterEach(async () => {
    await oracle?.close();
    await pair?.close();
    oracle = undefined;
    pair = undefined;
  });

  const startLoaded = async (flags: readonly string[]): Promise<Pair> => {
    const started = new Pair({ machine: 'kvm', name: 'faults', flags: [...AUDIT, ...flags] });
    pair = started;
    await started.start();
    const settings = { ...started.guest, clients: 4, ratePerSecond: 200 };
    oracle = await OracleProcess.start(settings, started.netns?.name);
    await oracle.load({ pagesPerMs: 4, bytesPerPage: 64, workingSetPages: 500, spin: false });
    await oracle.start();
    return started;
  };

  test('hide-dirty-page: the audit finds it and says so', async () => {
    const { active } = await startLoaded(['--test-fault', 'hide-dirty-page']);
    await active?.waitStatus('an audit mismatch', (f) => Number(f['auditMismatches']) > 0, 30_000);
    expect(active?.process.stderrTail).toMatch(/audit/);
  });

  test('without a fault the audit is silent over 2,000 epochs', async () => {
    const { active } = await startLoaded([]);
    const first = active?.figure('epochCommitted') ?? 0;
    const isFar = (): boolean => (active?.figure('epochCommitted') ?? 0) > first + 2000;
    await until('2,000 epochs', isFar, 30_000);
    expect(active?.figure('auditMismatches')).toBe(0);
    expect(active?.process.stderrTail).not.toMatch(/audit: pages differ/);
  });

  test('release-early: the oracle finds what the clients were told too soon', async () => {
    let drills = 0;
    for (let violations = 0; violations === 0; drills++) {
      expect(drills).toBeLessThan(DRILLS_MAX);
      const report = await runDrill({
        ...drillDefaults,
        runs: 1,
        ratePerSecond: 2000,
        seed: 7 + drills,
        pair: { machine: 'kvm', name: 'early', flags: [...EARLY] },
      });
      violations = report.verdict.lost + report.verdict.regressed;
    }
    process.stdout.write(`release-early was found in drill ${drills} of at most ${DRILLS_MAX}\n`);
  }, 120_000);
});
