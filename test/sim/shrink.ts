/**
 * Makes a failing plan smaller: leaves out steps, in ever smaller pieces, then the requests and the
 * conditions of the steps that remain, as long as a violation stays. What is left is short enough to
 * be read.
 */
import type { Plan, Step } from './plan';

export type Fails = (plan: Plan) => Promise<boolean>;

/** `plan` fails; the result does, too. At most `triesMax` plans are run. */
export async function shrink(plan: Plan, fails: Fails, triesMax = 400): Promise<Plan> {
  let best = plan;
  let tries = 0;
  const keep = async (steps: readonly Step[]): Promise<boolean> => {
    if (tries >= triesMax) return false;
    tries += 1;
    const candidate = { ...best, steps };
    if (!(await fails(candidate))) return false;
    best = candidate;
    return true;
  };
  for (let size = Math.ceil(best.steps.length / 2); size >= 1; size = Math.floor(size / 2)) {
    for (let at = 0; at < best.steps.length; ) {
      const rest = best.steps.filter((_step, index) => index < at || index >= at + size);
      if (!(await keep(rest))) at += size;
    }
  }
  for (const easier of [withoutAsks, withoutWhen, withoutAct]) {
    for (let at = 0; at < best.steps.length; at += 1) {
      const steps = best.steps.map((step, index) => (index === at ? easier(step) : step));
      await keep(steps);
    }
  }
  return best;
}

function withoutAsks(step: Step): Step {
  return { ...step, asks: 0 };
}

function withoutWhen(step: Step): Step {
  return { ...step, when: undefined };
}

function withoutAct(step: Step): Step {
  return { ...step, act: { kind: 'none' } };
}
