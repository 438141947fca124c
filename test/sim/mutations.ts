/**
 * Planted bugs: each takes one safeguard out of the production code, as a careless change would. They
 * prove that the simulator can find what it looks for: a run in which a planted bug stays unseen says
 * that a run without violations means nothing.
 *
 * They are planted from outside, into objects as they are made, so the production code has no
 * branches for them. A private member that is renamed makes its bug impossible to plant, which the
 * test notices: `member` asserts that it is there.
 */
import { assert } from '../../src/common/assert';
import type { SimulatedMachine } from '../../src/machine/simulated-machine';
import type { StandbyRole } from '../../src/standby/standby-role';
import type { ClaimResult, Witness } from '../../src/witness/witness';
import type { Mutation, SimHost } from './sim-host';

export interface PlantedBug {
  /** What the code does not do any more. */
  readonly what: string;
  readonly plant: Mutation;
}

/** A private member of a production object, by name. */
function member<T>(of: object, name: string): T {
  assert(name in of, `${of.constructor.name} has a member ${name} to plant a bug into`);
  return (of as Record<string, T>)[name] as T;
}

/** Puts `act` in the place of a method, and hands it the original. */
function replace<A extends unknown[], R>(
  of: object,
  name: string,
  act: (original: (...given: A) => R, ...given: A) => R,
): void {
  const original = member<(...given: A) => R>(of, name).bind(of);
  (of as Record<string, unknown>)[name] = (...given: A) => act(original, ...given);
}

/** A witness whose claims, but for the first of a pair, are answered by `act`. */
function claiming(
  witness: Witness,
  act: (pair: string, from: number, nodeId: string) => Promise<ClaimResult>,
): Witness {
  return {
    description: witness.description,
    current: (pair) => witness.current(pair),
    claim: (pair, from, nodeId) =>
      from === 0 ? witness.claim(pair, from, nodeId) : act(pair, from, nodeId),
    close: () => witness.close(),
  };
}

function ackBeforeApply(role: StandbyRole, host: SimHost): void {
  const applier = member<object>(role, 'applier');
  const clock = host.gate.clock();
  // Acknowledged at once; applied a little later, unless this side is promoted before.
  replace(applier, 'applyReady', (apply: (endUs: number) => void, endUs: number) => {
    clock.after(2, () => apply(endUs));
  });
  replace(applier, 'drain', () => {
    const inside = applier as Record<string, unknown>;
    inside['openEpoch'] = 0;
    member<() => void>(applier, 'clearLine').call(applier);
  });
}

/** Record kinds and heads: src/machine/simulated-epoch.ts. */
const RAW = 1;
const RAW_BYTES = 8 + 4096;

/** Leaves out the first page of an epoch that begins with two of them. */
function dropPage(machine: SimulatedMachine): void {
  replace(machine, 'apply', (apply: (body: Uint8Array) => unknown, body: Uint8Array) => {
    const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
    const twoPages =
      bytes.length > 2 * RAW_BYTES &&
      bytes.readUInt32LE(0) === RAW &&
      bytes.readUInt32LE(RAW_BYTES) === RAW;
    return apply(twoPages ? bytes.subarray(RAW_BYTES) : body);
  });
}

export const mutations = {
  'skip-the-claim': {
    what: 'whoever suspects takes the next generation without asking the witness',
    plant: {
      witness: (witness) =>
        claiming(witness, (_pair, from) =>
          Promise.resolve({ outcome: 'won', generation: from + 1 }),
        ),
    },
  },
  'accept-an-old-generation': {
    what: 'a claim that was lost is made again on top of the generation that won',
    plant: {
      witness: (witness) =>
        claiming(witness, async (pair, from, nodeId) => {
          const result = await witness.claim(pair, from, nodeId);
          if (result.outcome === 'won') return result;
          return witness.claim(pair, result.current.generation, nodeId);
        }),
    },
  },
  'release-before-ack': {
    what: 'the output of an epoch leaves when the epoch is sent',
    plant: {
      machine: (machine) => {
        const nextCut = machine.nextCut.bind(machine);
        machine.nextCut = (into) => {
          const cut = nextCut(into);
          if (cut !== undefined && !cut.base) machine.commit(cut.epoch);
          return cut;
        };
      },
    },
  },
  'commit-all-that-was-sent': {
    what: 'an ack releases the output of epochs that are still under way',
    plant: {
      machine: (machine) => {
        const commit = machine.commit.bind(machine);
        machine.commit = () => commit(member<number>(machine, 'lastCut'));
      },
    },
  },
  'ignore-the-lease': {
    what: 'acknowledged output leaves however old the standby’s last sign is',
    plant: {
      machine: (machine) =>
        replace(
          member<object>(machine, 'outbox'),
          'setLease',
          (setLease: (leaseUs: number) => void) => setLease(0),
        ),
    },
  },
  'lease-on-a-clock-that-stops': {
    what: 'the lease is measured by a clock that stands still while the host is suspended',
    plant: {
      machine: (machine, host) => {
        const clock = host.gate.clock();
        machine.leaseNowUs = () => clock.nowUs();
      },
    },
  },
  'keep-taking-epochs': {
    what: 'a standby that suspects its primary goes on taking and acknowledging epochs',
    plant: {
      standby: (role) => replace(member<object>(role, 'applier'), 'freeze', () => undefined),
    },
  },
  'ack-before-apply': {
    what: 'an epoch is acknowledged, and a promotion does not wait until it is applied',
    plant: { standby: ackBeforeApply },
  },
  'forget-the-vmms-writes': {
    what: 'pages that a device writes to are not noted as changed',
    plant: {
      machine: (machine) => {
        const { memory } = machine;
        memory.put = (offset, source) => memory.bytes.set(source, offset);
      },
    },
  },
  'lose-part-of-an-epoch': {
    what: 'a standby applies an epoch without its first page',
    plant: { machine: dropPage },
  },
  'promote-without-the-base': {
    what: 'a standby holds the first epoch that it sees for one that can be resumed',
    plant: {
      standby: (role) => {
        const applier = member<object>(role, 'applier');
        replace(applier, 'complete', (complete: (epoch: number) => void, epoch: number) => {
          (applier as Record<string, unknown>)['openIsBase'] =
            member<number>(applier, 'baseEpoch') === 0;
          complete(epoch);
        });
      },
    },
  },
  'never-hold-output': {
    what: 'the base epoch is cut, and output is not held from then on',
    plant: {
      machine: (machine) => replace(member<object>(machine, 'outbox'), 'hold', () => undefined),
    },
  },
  'open-while-suspended': {
    what: 'a primary that lost its standby lets its output go before the witness has answered',
    plant: {
      primary: (role, host) =>
        replace(
          role,
          'become',
          (become: (...all: unknown[]) => void, to: unknown, why: unknown) => {
            become(to, why);
            if (to === 'suspended') host.machine.openOutput();
          },
        ),
    },
  },
  'release-when-fenced': {
    what: 'a primary that lost its claim lets out what it held, instead of dropping it',
    plant: {
      machine: (machine) => {
        const fence = machine.fence.bind(machine);
        machine.fence = () => {
          machine.openOutput();
          fence();
        };
      },
    },
  },
  'swallow-the-last-words': {
    what: 'a guest that ended itself is over when its end is acknowledged, whatever is still held',
    plant: {
      primary: (role) =>
        replace(
          member<object>(role, 'lastWords'),
          'allLeft',
          (allLeft: (acked: number) => boolean, acked: number) => {
            const final = member<number>(member<object>(role, 'lastWords'), 'epoch');
            return allLeft(acked) || (final !== 0 && acked >= final);
          },
        ),
    },
  },
  'promote-on-a-timeout': {
    what: 'a standby that cannot reach the witness promotes itself',
    plant: {
      standby: (role) =>
        replace(role, 'claimUnknown', () => {
          const { generation } = role;
          member<{ stop(): void } | undefined>(role, 'promotion')?.stop();
          member<(generation: number) => void>(role, 'claimWon').call(role, generation + 1);
        }),
    },
  },
  'take-unknown-for-lost': {
    what: 'a claim whose answer was lost is forgotten, and not read back',
    plant: {
      standby: (role) =>
        replace(role, 'claimUnknown', () => {
          member<{ stop(): void } | undefined>(role, 'promotion')?.stop();
          member<() => void>(role, 'notClaimed').call(role);
        }),
    },
  },
  'forget-what-the-disk-lacks': {
    what: 'a standby says that no region of its disk differs',
    plant: {
      machine: (machine) => {
        const beginSync = machine.beginSync.bind(machine);
        machine.beginSync = (syncIds) => beginSync(syncIds).map((map) => map?.fill(0));
      },
    },
  },
  'trust-heartbeats-alone': {
    what: 'a replication connection that brings nothing counts as well while heartbeats pass',
    plant: {
      primary: (role) => {
        const beats = member<object>(member<object>(role, 'link'), 'beats');
        replace(member<object>(beats, 'watch'), 'look', () => undefined);
      },
    },
  },
  'forget-what-was-never-acknowledged': {
    what: 'after a lost link only what changes from then on is noted, not the epochs under way',
    plant: {
      machine: (machine) => {
        const changes = member<object>(machine, 'changes');
        replace(changes, 'startNoting', (start: () => void) => {
          for (const name of ['newer', 'older']) member<Uint8Array>(changes, name).fill(0);
          start();
        });
      },
    },
  },
} as const satisfies Record<string, PlantedBug>;

export type MutationName = keyof typeof mutations;

export const mutationNames = Object.keys(mutations) as MutationName[];
