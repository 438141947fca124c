/**
 * What the health endpoints answer: pure functions of a node's state, for load balancers and
 * orchestrators. Each is a yes (200) or a no (503) and tells nothing else.
 *
 *   path       yes while
 *   /livez     the process works: it need not be started anew
 *   /readyz    this node does what it is there for: it runs the guest and lets it speak, or it
 *              holds a copy that could take over at once
 *   /primary   the guest runs here and may speak: where its console, or its operator, belongs
 *   /standby   a copy is held here that could take over at once
 *
 *              starting solo syncing protected switching suspended fenced ended stopped
 *   /livez        +      +     +        +         +         +        +      +      -
 *   /readyz, /primary    +     +        +
 *
 *              joining syncing ready suspecting promoting active ended fenced stopped
 *   /livez        +       +      +       +          +        +     +     +       -
 *   /readyz, /standby            +
 *
 * /primary says yes at one node of a pair at most, but for a node that stood still and does not
 * know yet that it was followed: what it says then cannot be relied on for longer than its lease, so
 * a balancer must look again and again. A solo primary is ready: it serves, unprotected; whether it
 * is protected is an alert's business, not a balancer's.
 */

export interface HealthFacts {
  readonly role: 'primary' | 'standby';
  readonly state: string;
}

export const HEALTH_PATHS = ['/livez', '/readyz', '/primary', '/standby'] as const;
export type HealthPath = (typeof HEALTH_PATHS)[number];

/** States of a primary in which its guest runs and may speak. One that is being handed over stands
 * still, and may run at the other node before this one has heard of it. */
const SPEAKS: ReadonlySet<string> = new Set(['solo', 'syncing', 'protected']);

/** The answer to a health path: true for 200, false for 503. */
export function isHealthy(path: HealthPath, { role, state }: HealthFacts): boolean {
  switch (path) {
    case '/livez':
      return state !== 'stopped';
    case '/readyz':
      return isPrimary(role, state) || isStandby(role, state);
    case '/primary':
      return isPrimary(role, state);
    case '/standby':
      return isStandby(role, state);
  }
}

/** The health path that a request names, or undefined. */
export function healthPathOf(path: string): HealthPath | undefined {
  return HEALTH_PATHS.find((known) => known === path);
}

function isPrimary(role: string, state: string): boolean {
  return role === 'primary' && SPEAKS.has(state);
}

function isStandby(role: string, state: string): boolean {
  return role === 'standby' && state === 'ready';
}
