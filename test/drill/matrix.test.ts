/**
 * Every scenario of the drill matrix on real guests, FT_DRILL_RUNS times each (once if absent): no
 * answer is lost, repeated or contradicted, the switch never sees two active sides, and the pair is
 * protected again each time. `make drills` does the same many times over.
 */

import { Matrix, type MatrixOptions, matrixDefaults } from '../../src/drill/matrix';
import { reportOf, reportText } from '../../src/drill/report/drill-report';
import { writeReport } from '../../src/drill/report/report';
import type { ScenarioResult } from '../../src/drill/results';
import { scenarios } from '../../src/drill/scenarios/scenarios';
import { kvmDescribe, kvmTest } from '../support/kvm';

const IGNORED_LEASES_MAX = 8;
const runs = Number(process.env['FT_DRILL_RUNS'] ?? 1);

kvmDescribe('drill matrix', () => {
  // A machine that builds and tests beside it stalls for longer than a host of its own would.
  const options: MatrixOptions = { ...matrixDefaults, suspectAfterMs: 100 };
  const subject = { pair: 'sandbox', parameters: { ...options }, endedEarly: undefined } as const;
  const results: ScenarioResult[] = [];
  let matrix: Matrix;

  beforeAll(async () => {
    matrix = await Matrix.make(options);
  });

  afterAll(async () => {
    await matrix?.close();
    const report = reportOf(subject, results);
    writeReport('drills-short.json', report);
    process.stdout.write(`${reportText(report)}\n`);
  });

  test.each(scenarios.map((scenario) => [scenario.name, scenario] as const))(
    '%s',
    async (name, scenario) => {
      const result = await matrix.run(scenario, runs);
      results.push(result);
      const figures = reportOf(subject, [result]).scenarios[name];
      expect(figures?.stories).toEqual([]);
      expect(figures).toMatchObject({ runs, violations: 0, dualActive: 0, failures: 0 });
      expect(figures?.requests).toBeGreaterThan(50);
      expect(figures?.framesSeen).toBeGreaterThan(50);
    },
  );
});

kvmTest(
  'the switch can see two active sides: a stopped primary that ignores its lease',
  async () => {
    const flags = ['--test-fault', 'ignore-lease'];
    const matrix = await Matrix.make({ ...matrixDefaults, flags });
    const scenario = scenarios.find(({ name }) => name === 'primary-freeze');
    if (scenario === undefined) throw new Error('There is no such scenario.');
    try {
      let moments = 0;
      for (let drills = 0; moments === 0; drills++) {
        expect(drills).toBeLessThan(IGNORED_LEASES_MAX);
        moments = (await matrix.run(scenario, 2)).dualActive?.length ?? 0;
      }
    } finally {
      await matrix.close();
    }
  },
);
