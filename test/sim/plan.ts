/**
 * A plan: everything that a schedule does to the world, drawn from one seed before it begins. It is
 * plain data, so that it can be printed, run again, and made smaller step by step while it still
 * shows what it showed (shrink.ts). A step that finds nothing to act upon does nothing.
 */
import type { FaultPoint } from './host-gate';
import { Random } from './random';
import type { Death } from './sim-net';

/** Whom a step means: by slot, or whoever runs the guest, or the one beside it. */
export type Target = 'active' | 'other' | 'a' | 'b';
export type Way = 'both' | 'a>b' | 'b>a';

/** When within its host's doings a fault strikes: at once, or after `left` more events or effects. */
export interface Strike {
  readonly who: Target;
  readonly at: 'now' | FaultPoint;
  readonly left: number;
}

export type Act =
  | { readonly kind: 'none' | 'endStandby' | 'breakAll' | 'endGuest' | 'switchover' }
  /** By ft-standby, or by ft-primary, which finds that the guest is another node's. */
  | { readonly kind: 'addStandby'; readonly by: 'standby' | 'primary' }
  | ({ readonly kind: 'kill'; readonly how: Death; readonly damage: boolean } & Strike)
  | ({ readonly kind: 'pause' | 'suspend'; readonly forMs: number } & Strike)
  | { readonly kind: 'partition'; readonly way: Way; readonly forMs: number }
  | { readonly kind: 'breakOne'; readonly newest: number; readonly how: 'reset' | 'void' }
  | { readonly kind: 'slowLink'; readonly delayMs: number; readonly forMs: number }
  | { readonly kind: 'slowWitness'; readonly delayMs: number; readonly forMs: number }
  | { readonly kind: 'noWitness'; readonly who: Target | 'both'; readonly forMs: number }
  | { readonly kind: 'loseAnswer' | 'lateClaim'; readonly who: Target }
  | { readonly kind: 'failDisk'; readonly forMs: number }
  /** A reload: other policies, and another time between cuts. */
  | {
      readonly kind: 'change';
      readonly who: Target;
      readonly onStandbyLoss: 'continue' | 'pause';
      readonly onWitnessLoss: 'hold' | 'pause';
      readonly intervalUs: number;
    };

export interface Step {
  /** Bit i: client i + 1 asks (again). */
  readonly asks: number;
  /** Waits, but not for long, until some host is in this state. */
  readonly when: string | undefined;
  readonly act: Act;
  readonly waitMs: number;
}

export interface Settings {
  /** Little memory is fast, and changes in too many places for a catch-up. */
  readonly memoryBytes: number;
  readonly intervalUs: number;
  readonly inFlightMax: number;
  readonly auditPages: number;
  readonly diskBytes: number;
  readonly diskLatencyMs: number;
  readonly heartbeatIntervalMs: number;
  readonly suspectAfterMs: number;
  readonly linkMs: number;
  readonly jitterMs: number;
  readonly witnessMs: number;
  /** The schedule begins with a protected guest, and not in the midst of the first sync. */
  readonly protectedFirst: boolean;
  /** What a host does whose guest goes on elsewhere. */
  readonly onFenced: 'rejoin' | 'exit';
  readonly onStandbyLoss: 'continue' | 'pause';
  readonly onWitnessLoss: 'hold' | 'pause' | 'stop';
  /** Where hosts may stand; each dials all others in turn. */
  readonly slots: readonly string[];
}

export interface Plan {
  readonly seed: number;
  readonly settings: Settings;
  readonly steps: readonly Step[];
}

export const CLIENTS = 3;
const DURATIONS_MS = [1, 3, 8, 20, 45, 80, 160] as const;
const STATES = [
  'syncing',
  'protected',
  'switching',
  'ready',
  'suspecting',
  'suspended',
  'promoting',
  'solo',
] as const;

export function drawPlan(seed: number): Plan {
  const random = new Random(seed);
  const settings = drawSettings(random);
  const count = 8 + random.below(13);
  const steps = Array.from({ length: count }, () => drawStep(random));
  return { seed, settings, steps };
}

function drawSettings(random: Random): Settings {
  const slow = random.chance(0.3);
  return {
    memoryBytes: random.chance(0.6) ? 64 * 1024 : 256 * 1024,
    intervalUs: Math.round(random.between(800, 8000)),
    inFlightMax: 1 + random.below(6),
    auditPages: random.below(2),
    // More than goes into one cut: epochs come before the base.
    diskBytes: random.chance(0.15) ? 640 * 1024 : 64 * 1024,
    diskLatencyMs: random.between(0.1, 4),
    heartbeatIntervalMs: slow ? 10 : 5,
    suspectAfterMs: slow ? 50 : 25,
    linkMs: random.between(0.05, 2),
    jitterMs: random.chance(0.5) ? random.between(0, 3) : 0,
    witnessMs: random.between(0.1, 8),
    protectedFirst: random.chance(0.8),
    onFenced: random.chance(0.7) ? 'rejoin' : 'exit',
    onStandbyLoss: random.chance(0.9) ? 'continue' : 'pause',
    onWitnessLoss: random.chance(0.8)
      ? 'hold'
      : (random.pick(['pause', 'stop'] as const) ?? 'hold'),
    slots: random.chance(0.25) ? ['a', 'b', 'c'] : ['a', 'b'],
  };
}

function drawStep(random: Random): Step {
  const dice = random.next();
  const waitMs = dice < 0.6 ? random.between(0, 3) : random.between(3, dice < 0.95 ? 20 : 80);
  const asks = random.below(1 << CLIENTS);
  const when = random.chance(0.25) ? random.pick(STATES) : undefined;
  return { asks, when, act: drawAct(random), waitMs };
}

function drawAct(random: Random): Act {
  const dice = random.below(100);
  const forMs = (): number => random.pick(DURATIONS_MS) ?? 1;
  if (dice < 1) return { kind: 'none' };
  if (dice < 4) return drawChange(random);
  if (dice < 8) return { kind: 'switchover' };
  if (dice < 22) return drawKill(random);
  if (dice < 34) {
    const kind = random.chance(0.75) ? 'pause' : 'suspend';
    return { kind, forMs: forMs(), ...drawStrike(random, ['event']) };
  }
  if (dice < 44) {
    const way = random.pick(['both', 'both', 'a>b', 'b>a'] as const) ?? 'both';
    return { kind: 'partition', way, forMs: forMs() };
  }
  if (dice < 50) {
    const how = random.chance(0.6) ? 'reset' : 'void';
    return { kind: 'breakOne', newest: random.below(2), how };
  }
  if (dice < 52) return { kind: 'breakAll' };
  if (dice < 55) return { kind: 'slowLink', delayMs: random.between(5, 60), forMs: forMs() };
  if (dice < 62) {
    const who = random.pick(['active', 'other', 'both'] as const) ?? 'both';
    return { kind: 'noWitness', who, forMs: forMs() };
  }
  if (dice < 65) return { kind: 'slowWitness', delayMs: random.between(20, 90), forMs: forMs() };
  if (dice < 69) return { kind: 'loseAnswer', who: drawTarget(random) };
  if (dice < 73) return { kind: 'lateClaim', who: drawTarget(random) };
  if (dice < 76) return { kind: 'endStandby' };
  if (dice < 78) return { kind: 'failDisk', forMs: forMs() };
  if (dice < 79) return { kind: 'endGuest' };
  return { kind: 'addStandby', by: random.chance(0.8) ? 'standby' : 'primary' };
}

/** Never to "stop", which would end more guests than it changes. */
function drawChange(random: Random): Act {
  return {
    kind: 'change',
    who: drawTarget(random),
    onStandbyLoss: random.chance(0.6) ? 'continue' : 'pause',
    onWitnessLoss: random.chance(0.6) ? 'hold' : 'pause',
    intervalUs: Math.round(random.between(800, 8000)),
  };
}

function drawTarget(random: Random): Target {
  return random.pick(['active', 'active', 'other', 'a', 'b'] as const) ?? 'active';
}

function drawKill(random: Random): Act {
  const how = random.pick(['fin', 'fin', 'reset', 'silent'] as const) ?? 'fin';
  const damage = how === 'silent' && random.chance(0.5);
  return { kind: 'kill', how, damage, ...drawStrike(random, ['event', 'effect', 'effect']) };
}

function drawStrike(random: Random, points: readonly FaultPoint[]): Strike {
  const at = random.chance(0.3) ? 'now' : (random.pick(points) ?? 'now');
  return { who: drawTarget(random), at, left: random.below(random.chance(0.7) ? 8 : 60) };
}

/** One line for people. */
export function tellStep(step: Step): string {
  const { kind, ...how } = step.act;
  const parts = Object.entries(how).map(([name, value]) =>
    typeof value === 'number' ? `${name} ${Math.round(value * 10) / 10}` : `${name} ${value}`,
  );
  const when = step.when === undefined ? '' : `once somebody is ${step.when}: `;
  const asks = step.asks === 0 ? '' : `, clients ${step.asks.toString(2)} ask`;
  return `${when}${kind} ${parts.join(', ')}${asks}, then ${step.waitMs.toFixed(1)} ms pass`;
}
