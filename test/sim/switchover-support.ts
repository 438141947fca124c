/** What stories of a switchover are told with: requests, the exchange itself, and what became of it. */
import { FtError } from '../../src/common/errors';
import type { SwitchoverDone } from '../../src/primary/switchover';
import { beaconRequest } from './sim-lan';
import type { SimHost, World } from './world';

let requestId = 0;

/** Before each story. */
export function forgetRequests(): void {
  requestId = 0;
}

export function ask(world: World): void {
  requestId += 1;
  askAgain(world);
}

/** The same request once more, as a client does that heard no answer. */
export function askAgain(world: World): void {
  world.lan.request(beaconRequest('incr', 1, requestId, 0n));
}

export const states = (host: SimHost): string[] => host.states.map((event) => event.to);

export interface Exchange {
  /** undefined until it is known. */
  outcome: SwitchoverDone | FtError | undefined;
}

/** Asks for a switchover. */
export function exchange(host: SimHost): Exchange {
  const seen: Exchange = { outcome: undefined };
  host.node.switchover().then(
    (outcome) => {
      seen.outcome = outcome;
    },
    (thrown: unknown) => {
      throw thrown;
    },
  );
  return seen;
}

/** The same, up to the turn in which the guest is halted. */
export async function halting(world: World, host: SimHost): Promise<Exchange> {
  const seen = exchange(host);
  await world.until('a halt', () => host.state === 'switching');
  return seen;
}

export const codeOf = (outcome: SwitchoverDone | FtError | undefined): string =>
  outcome instanceof FtError ? outcome.code : outcome === undefined ? 'open' : 'done';
