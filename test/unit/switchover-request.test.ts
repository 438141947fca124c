/** Whether a switchover may begin, and what the end of a link means for the side that began one. */
import { FtError } from '../../src/common/errors';
import { endOfLink } from '../../src/primary/link-end';
import type { LinkDown } from '../../src/primary/link-types';
import type { SwitchoverDone } from '../../src/primary/switchover';
import { SwitchoverRequest } from '../../src/primary/switchover-request';
import { NoneWitness } from '../../src/witness/none';
import type { NewestGeneration, Witness } from '../../src/witness/witness';
import { settlePromises } from '../sim/world';
import { ManualClock } from '../support/manual-clock';

const DONE: SwitchoverDone = { generation: 4, blackoutUs: 3, drainUs: 2, takeoverUs: 1 };

type Answer = (record: NewestGeneration | undefined) => void;

/** A node that runs the guest in generation 3, and a witness that answers when it is told to. */
class Asking {
  readonly clock = new ManualClock();
  readonly outcomes: string[] = [];
  begun = 0;
  looks = 0;
  generation = 3;
  unable: FtError | undefined;
  answer: Answer = () => undefined;
  fail: (error: Error) => void = () => undefined;
  private readonly request: SwitchoverRequest;

  constructor(witness?: Witness) {
    const slow: Pick<Witness, 'current'> = {
      current: () => {
        this.looks += 1;
        return new Promise((resolve, reject) => {
          this.answer = resolve;
          this.fail = reject;
        });
      },
    };
    this.request = new SwitchoverRequest({
      clock: this.clock,
      witness: witness ?? (slow as Witness),
      pair: 'web',
      nodeId: 'a',
      unable: () => this.unable,
      generation: () => this.generation,
      begin: () => {
        this.begun += 1;
        return Promise.resolve(DONE);
      },
    });
  }

  async ask(): Promise<void> {
    this.request.make().then(
      (outcome) => this.outcomes.push(outcome instanceof FtError ? outcome.code : 'done'),
      (thrown: unknown) => this.outcomes.push(`thrown ${String(thrown)}`),
    );
    await settlePromises();
  }

  async hear(generation: number, owner: string): Promise<void> {
    this.answer({ generation, owner, claimant: 'self', origin: '' });
    await settlePromises();
  }
}

describe('a switchover that was asked for', () => {
  test('begins when the witness knows this node in this generation, and once', async () => {
    const asking = new Asking();
    await asking.ask();
    await asking.ask();
    expect([asking.begun, asking.looks, asking.outcomes]).toEqual([
      0,
      1,
      ['FT_ERR_SWITCHOVER_STATE'],
    ]);
    await asking.hear(3, 'a');
    expect([asking.begun, asking.outcomes.at(-1)]).toEqual([1, 'done']);
    await asking.ask();
    expect(asking.looks).toBe(2);
  });

  test('is refused without a witness, before anything is asked or halted', async () => {
    const witness = new NoneWitness();
    await witness.claim('web', 0, 'a');
    const asking = new Asking(witness);
    asking.generation = 1;
    await asking.ask();
    expect([asking.begun, asking.outcomes]).toEqual([0, ['FT_ERR_SWITCHOVER_WITNESS']]);
  });

  test.each([
    [4, 'b'],
    [2, 'a'],
    [3, 'b'],
  ])('is refused when the witness knows generation %d of %s', async (generation, owner) => {
    const asking = new Asking();
    await asking.ask();
    await asking.hear(generation, owner);
    expect([asking.begun, asking.outcomes]).toEqual([0, ['FT_ERR_SWITCHOVER_WITNESS']]);
  });

  test('is refused when the witness cannot be asked, knows nothing, or is silent', async () => {
    const asking = new Asking();
    await asking.ask();
    asking.fail(new FtError('FT_ERR_WITNESS_UNREACHABLE', 'It is away.'));
    await settlePromises();
    await asking.ask();
    asking.answer(undefined);
    await settlePromises();
    await asking.ask();
    asking.clock.advance(1999);
    await settlePromises();
    expect(asking.outcomes).toHaveLength(2);
    asking.clock.advance(2);
    await settlePromises();
    // What it says after that changes nothing.
    await asking.hear(3, 'a');
    expect([asking.begun, new Set(asking.outcomes), asking.outcomes.length]).toEqual([
      0,
      new Set(['FT_ERR_SWITCHOVER_WITNESS']),
      3,
    ]);
    await asking.ask();
    await asking.hear(3, 'a');
    expect(asking.begun).toBe(1);
  });

  test('is refused when the guest cannot be handed over, before the look or after it', async () => {
    const asking = new Asking();
    await asking.ask();
    asking.unable = new FtError('FT_ERR_TEST', 'The standby is lost.');
    await asking.hear(3, 'a');
    await asking.ask();
    expect([asking.begun, asking.looks, asking.outcomes]).toEqual([
      0,
      1,
      ['FT_ERR_TEST', 'FT_ERR_TEST'],
    ]);
  });

  test('belongs to the generation that runs when the witness has answered', async () => {
    const asking = new Asking();
    await asking.ask();
    asking.generation = 4;
    await asking.hear(3, 'a');
    expect([asking.begun, asking.outcomes]).toEqual([0, ['FT_ERR_SWITCHOVER_WITNESS']]);
  });
});

test('a witness that throws refuses one switchover, not the next', async () => {
  let calls = 0;
  const throws: Pick<Witness, 'current'> = {
    current: () => {
      calls += 1;
      if (calls === 1) throw new Error('a defect');
      return Promise.resolve({ generation: 3, owner: 'a', claimant: 'self', origin: '' });
    },
  };
  const asking = new Asking(throws as Witness);
  await asking.ask();
  await asking.ask();
  expect([asking.begun, asking.outcomes]).toEqual([1, ['FT_ERR_UNEXPECTED', 'done']]);
});

describe('the end of a link', () => {
  const error = new FtError('FT_ERR_TEST', 'Over.');
  const tookOver = { generation: 4, takeoverUs: 9 };
  const handed = { generation: 3, holding: true, handedOver: true };
  const kept = { ...handed, handedOver: false };
  const gaveUp = (generation: number): LinkDown => ({ kind: 'gave-up', generation, error });

  test.each([
    [
      'a takeover of what was handed over',
      { kind: 'took-over', tookOver, error },
      handed,
      'handed-over',
      0,
    ],
    ['a takeover that nobody asked for', { kind: 'took-over', tookOver, error }, kept, 'claim', 3],
    ['the next generation given up', gaveUp(4), handed, 'given-up', 4],
    ['what was never handed over given up', gaveUp(4), kept, 'claim', 3],
    ['our own generation given up', gaveUp(3), handed, 'claim', 3],
    ['a generation far ahead given up', gaveUp(1000), handed, 'claim', 3],
    ['a lost link', { kind: 'lost', error }, handed, 'claim', 3],
    [
      'a lost link before the base',
      { kind: 'lost', error },
      { ...kept, holding: false },
      'alone',
      0,
    ],
    ['a standby that resigns', { kind: 'bye', reason: 'SIGTERM' }, handed, 'alone', 0],
  ] as const)('%s', (_what, down: LinkDown, standing, kind, from) => {
    const end = endOfLink(down, standing);
    expect([end.kind, 'from' in end ? end.from : 0]).toEqual([kind, from]);
  });
});
