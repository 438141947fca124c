/** The steps of a switchover on the side that gives the guest away, and the reasons to stand still. */
import { FtError } from '../../src/common/errors';
import type { Logger } from '../../src/common/logger';
import { GuestHalt, type StandbyLossPolicy } from '../../src/primary/guest-halt';
import type { PrimaryState } from '../../src/primary/primary-types';
import { Switchover, type SwitchoverDone } from '../../src/primary/switchover';
import { WitnessLoss, type WitnessLossPolicy } from '../../src/primary/witness-loss';
import { HostGate } from '../sim/host-gate';
import { settlePromises } from '../sim/world';
import { ManualClock } from '../support/manual-clock';

class Steps {
  readonly clock = new ManualClock();
  readonly said: string[] = [];
  isOut = true;
  outcome: SwitchoverDone | FtError | undefined;
  readonly switchover = new Switchover(this.clock, {
    handOver: (epoch) => this.said.push(`hand over ${epoch}`),
    outputIsOut: () => this.isOut,
    cancel: (error) => this.said.push(`cancel ${error.code}`),
    lose: (error) => this.said.push(`lose ${error.code}`),
  });

  constructor() {
    this.switchover.outcome.then(
      (outcome) => {
        this.outcome = outcome;
      },
      (thrown: unknown) => {
        throw thrown;
      },
    );
  }
}

describe('a switchover', () => {
  test('hands over once, when its last epoch is acknowledged, whichever comes first', () => {
    const steps = new Steps();
    steps.switchover.settled(7);
    steps.switchover.lastSent(9);
    steps.switchover.settled(8);
    expect([steps.said, steps.switchover.handedOver]).toEqual([[], false]);
    steps.switchover.settled(9);
    steps.switchover.settled(9);
    expect([steps.said, steps.switchover.handedOver]).toEqual([['hand over 9'], true]);
    const fast = new Steps();
    fast.switchover.settled(4);
    fast.switchover.lastSent(4);
    expect(fast.said).toEqual(['hand over 4']);
  });

  test('hands over only when the output of the last epoch has left', () => {
    const steps = new Steps();
    steps.isOut = false;
    steps.switchover.lastSent(3);
    steps.switchover.settled(3);
    steps.clock.advance(20);
    expect(steps.said).toEqual([]);
    steps.isOut = true;
    steps.clock.advance(2);
    expect(steps.said).toEqual(['hand over 3']);
  });

  test('is cancelled before, and lost after the guest was given up, when time is over', () => {
    const before = new Steps();
    before.switchover.lastSent(3);
    before.clock.advance(1999);
    expect(before.said).toEqual([]);
    before.clock.advance(2);
    expect(before.said).toEqual(['cancel FT_ERR_SWITCHOVER_SLOW']);
    const after = new Steps();
    after.switchover.lastSent(3);
    after.clock.advance(1500);
    after.switchover.settled(3);
    after.clock.advance(1999);
    expect(after.said).toEqual(['hand over 3']);
    after.clock.advance(2);
    expect(after.said).toEqual(['hand over 3', 'lose FT_ERR_SWITCHOVER_SILENT']);
  });

  test('says how long the guest stood still', async () => {
    const steps = new Steps();
    steps.clock.advance(2);
    steps.switchover.lastSent(3);
    steps.switchover.settled(3);
    steps.clock.advance(5);
    steps.switchover.done({ generation: 2, takeoverUs: 4500 });
    await settlePromises();
    const figures = { blackoutUs: 7000, drainUs: 2000, takeoverUs: 4500 };
    expect(steps.outcome).toEqual({ generation: 2, ...figures });
    steps.clock.advance(10_000);
    expect(steps.said).toEqual(['hand over 3']);
  });

  test('that failed waits for nothing any more', async () => {
    const steps = new Steps();
    steps.isOut = false;
    steps.switchover.lastSent(3);
    steps.switchover.settled(3);
    const error = new FtError('FT_ERR_TEST', 'It failed.');
    expect(steps.switchover.fail(error)).toBeUndefined();
    steps.isOut = true;
    steps.clock.advance(10_000);
    await settlePromises();
    expect([steps.said, steps.outcome]).toEqual([[], error]);
  });
});

class Guest {
  runs = true;
  haltGuest(): void {
    this.runs = false;
  }
  resumeGuest(): void {
    this.runs = true;
  }
}

function halts(policy: StandbyLossPolicy = 'continue'): { guest: Guest; halt: GuestHalt } {
  const guest = new Guest();
  return { guest, halt: new GuestHalt(guest, policy) };
}

describe('a guest', () => {
  test('stands still for as long as there is a reason', () => {
    const { guest, halt } = halts();
    halt.resume('switchover');
    halt.halt('switchover');
    halt.halt('witness-loss');
    expect([guest.runs, halt.why]).toEqual([false, 'switchover witness-loss']);
    halt.resume('switchover');
    expect([guest.runs, halt.why]).toEqual([false, 'witness-loss']);
    halt.resume('switchover', 'witness-loss');
    expect([guest.runs, halt.why]).toEqual([true, '']);
  });

  test('waits for its standby from the first on, with that policy alone', () => {
    for (const policy of ['continue', 'pause'] as const) {
      const { guest, halt } = halts(policy);
      const seen: boolean[] = [];
      for (const state of ['solo', 'syncing', 'protected', 'suspended', 'solo'] as const) {
        halt.stateIs(state);
        seen.push(guest.runs);
      }
      const waits = policy === 'pause';
      expect(seen).toEqual([true, true, true, !waits, !waits]);
      halt.stateIs('syncing');
      expect([guest.runs, halt.waitsForStandby]).toEqual([!waits, waits]);
      halt.stateIs('protected');
      expect(guest.runs).toBe(true);
    }
  });
});

describe('another policy, while the guest is there', () => {
  const at = (policy: StandbyLossPolicy, ...states: readonly PrimaryState[]) => {
    const both = halts(policy);
    for (const state of ['protected', ...states] as const) both.halt.stateIs(state);
    return both;
  };

  test.each(['solo', 'suspended'] as const)('counts at once in %s', (state) => {
    const { guest, halt } = at('pause', state);
    expect(guest.runs).toBe(false);
    halt.setOnStandbyLoss('continue');
    expect([guest.runs, halt.waitsForStandby]).toEqual([true, false]);
    halt.setOnStandbyLoss('pause');
    expect([guest.runs, halt.waitsForStandby]).toEqual([false, true]);
  });

  test('changes nothing while a standby is made, and counts when that ends', () => {
    const { guest, halt } = at('pause', 'solo', 'syncing');
    halt.setOnStandbyLoss('continue');
    expect(guest.runs).toBe(false);
    halt.stateIs('solo');
    expect(guest.runs).toBe(true);
    const other = at('continue', 'solo', 'syncing');
    other.halt.setOnStandbyLoss('pause');
    expect(other.guest.runs).toBe(true);
    other.halt.stateIs('solo');
    expect(other.guest.runs).toBe(false);
  });

  test('is none of a guest that was never protected, and lets no other reason go', () => {
    const { guest, halt } = halts();
    halt.stateIs('solo');
    halt.setOnStandbyLoss('pause');
    expect(guest.runs).toBe(true);
    const other = at('pause', 'suspended');
    other.halt.halt('witness-loss');
    other.halt.setOnStandbyLoss('continue');
    expect([other.guest.runs, other.halt.why]).toEqual([false, 'witness-loss']);
  });
});

describe('a witness that is out of reach', () => {
  const lose = (policy: WitnessLossPolicy) => {
    const clock = new ManualClock();
    const process = new HostGate(clock);
    const { guest, halt } = halts();
    const said: string[] = [];
    const logger: Logger = {
      info: () => undefined,
      warn: (message) => said.push(message),
      error: () => undefined,
    };
    const stops: string[] = [];
    const loss = new WitnessLoss(process.clock(), logger, policy, halt, (error) =>
      stops.push(error.code),
    );
    return { clock, process, guest, halt, said, stops, loss };
  };
  const error = new FtError('FT_ERR_WITNESS_TEST', 'It is away.');

  test.each([
    ['hold', true, []],
    ['pause', false, []],
    ['stop', true, ['FT_ERR_WITNESS_TEST']],
  ] as const)('%s', (policy, runs, stopped) => {
    const { guest, stops, said, loss } = lose(policy);
    loss.begin();
    for (let tries = 1; tries <= 9; tries += 1) loss.unknown(error, tries);
    expect([guest.runs, stops]).toEqual([runs, stopped]);
    // Said at the first, second, fourth and eighth try.
    expect(said).toHaveLength(4);
  });

  test('another policy counts at once, and only while it is out of reach', () => {
    const { guest, stops, loss } = lose('hold');
    loss.setPolicy('pause');
    expect(guest.runs).toBe(true);
    loss.begin();
    loss.unknown(error, 1);
    expect(guest.runs).toBe(false);
    loss.setPolicy('hold');
    expect(guest.runs).toBe(true);
    loss.setPolicy('pause');
    loss.setPolicy('pause');
    expect([guest.runs, stops]).toEqual([false, []]);
    loss.setPolicy('stop');
    expect(stops).toEqual(['FT_ERR_WITNESS_TEST']);
    loss.end();
    loss.setPolicy('hold');
    loss.setPolicy('stop');
    expect(stops).toHaveLength(1);
  });

  test('is one that does not answer within a second, too', () => {
    const { clock, guest, loss } = lose('pause');
    loss.begin();
    clock.advance(999);
    expect(guest.runs).toBe(true);
    clock.advance(2);
    expect(guest.runs).toBe(false);
  });

  test('is none that has decided by then', () => {
    const { clock, guest, stops, loss } = lose('stop');
    loss.begin();
    clock.advance(900);
    loss.end();
    clock.advance(5000);
    expect([guest.runs, stops]).toEqual([true, []]);
  });

  test('is none that this process did not hear, since it stood still itself', () => {
    const { clock, process, stops, loss } = lose('stop');
    loss.begin();
    process.pause();
    clock.advance(2500);
    process.resume();
    clock.settle();
    // What was under way came to nothing by that; the next try finds out.
    loss.unknown(error, 1);
    clock.advance(900);
    expect(stops).toEqual([]);
    loss.unknown(error, 2);
    expect(stops).toEqual(['FT_ERR_WITNESS_TEST']);
  });

  test('is one that stays silent for another second after that', () => {
    const { clock, process, stops, loss } = lose('stop');
    loss.begin();
    process.pause();
    clock.advance(1101);
    // An alarm of the witness's own came first.
    loss.unknown(error, 1);
    process.resume();
    clock.advance(999);
    expect(stops).toEqual([]);
    clock.advance(2);
    expect(stops).toEqual(['FT_ERR_WITNESS_SLOW']);
  });

  test('lets a guest go on that stood still to be handed over, with hold', () => {
    const { guest, halt, loss } = lose('hold');
    halt.halt('switchover');
    loss.begin();
    loss.unknown(error, 1);
    expect(guest.runs).toBe(true);
  });
});
