/** `ft-drill run` on a pair of its own. */
import { checkEnvironment, defaultWitness } from './environment';
import type { DrillExitCode } from './help';
import { Matrix, type MatrixOptions, matrixDefaults } from './matrix';
import type { SandboxRunOrder } from './orders';
import type { Scenario } from './scenarios/scenario';
import { DrillSession, runsOf, say } from './session';

/** Throws FT_ERR_DRILL_… when the host lacks something or the pair does not start. */
export async function runOnSandbox(order: SandboxRunOrder): Promise<DrillExitCode> {
  const witness = order.witness ?? defaultWitness();
  checkEnvironment(['ip', 'tc', 'sysctl', 'tcpdump', ...(witness === 'etcd' ? ['etcd'] : [])]);
  const { seed, memory, suspectAfterMs, clients, ratePerSecond, nodeFlags } = order;
  const parameters = {
    ...{ ...matrixDefaults, seed, witness, memory, suspectAfterMs, clients, ratePerSecond },
    ...(nodeFlags.length === 0 ? {} : { flags: nodeFlags }),
  };
  let matrix: Matrix | undefined;
  const session = new DrillSession(order, { pair: 'sandbox', parameters }, () => matrix?.stop());
  const options: MatrixOptions = {
    ...parameters,
    timelines: order.html !== undefined,
    onRun: (run) => session.tell(run),
  };
  try {
    matrix = await Matrix.make(options);
    session.present = () => matrix?.presentResult();
    const chosen = possible(order, witness === 'etcd');
    for (const [n, scenario] of chosen.entries()) {
      const runs = runsOf(order.count, n, chosen.length);
      if (runs === 0 || session.isStopped) continue;
      session.begin(runs);
      session.add(await matrix.run(scenario, runs));
    }
  } finally {
    await matrix?.close();
  }
  return session.end();
}

/** Of all scenarios those are left out that need a witness which can be stopped. */
function possible(order: SandboxRunOrder, hasEtcd: boolean): readonly Scenario[] {
  if (!order.all || hasEtcd) return order.scenarios;
  const left = order.scenarios.filter(({ needsEtcd }) => needsEtcd === true);
  say(`Left out, since they need --witness etcd: ${left.map(({ name }) => name).join(', ')}.`);
  return order.scenarios.filter(({ needsEtcd }) => needsEtcd !== true);
}
