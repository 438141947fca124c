/** The checkpoint applier: whole epochs, in order, acked when held, applied without stalls. */
import { FtError } from '../../src/common/errors';
import type { ApplyResult, GuestEnd, Machine } from '../../src/machine/machine';
import { type BodyDecompressor, CheckpointApplier } from '../../src/standby/checkpoint-applier';
import { StandbyStats } from '../../src/standby/standby-stats';
import { allocFrameBuffer } from '../../src/wire/buffer-pool';
import { type Frame, FrameFlag, FrameType } from '../../src/wire/frame';
import { packMessage } from '../../src/wire/messages';
import { ManualClock } from '../support/manual-clock';

const { last, base, lz4 } = FrameFlag;

/** A machine that notes what is applied; a body is text, "bad" does not verify. */
class NotingMachine {
  readonly applied: string[] = [];
  applyCostMs = 0;
  mismatches: readonly number[] = [];
  backlogBytes = 0;
  looks = 0;
  description = { memoryBytes: 4096 };

  constructor(private readonly clock: ManualClock) {}

  beginSync(): readonly undefined[] {
    this.applied.length = 0;
    return [];
  }
  verify(body: Uint8Array): FtError | undefined {
    const bad = Buffer.from(body).toString().includes('bad');
    return bad ? new FtError('FT_ERR_EPOCH_BODY', 'damaged') : undefined;
  }
  apply(body: Uint8Array): ApplyResult {
    this.applied.push(Buffer.from(body).toString());
    if (this.applyCostMs > 0) this.clock.advance(this.applyCostMs);
    return { pages: 1, auditMismatches: this.mismatches, diskBacklogBytes: this.backlogBytes };
  }
  diskBacklogBytes(): number {
    this.looks += 1;
    return this.backlogBytes;
  }
}

class Bench {
  readonly clock = new ManualClock();
  readonly machine = new NotingMachine(this.clock);
  readonly stats = new StandbyStats();
  readonly acks: number[] = [];
  readonly mismatches: number[] = [];
  restorable = 0;
  readonly ends: GuestEnd[] = [];
  readonly stuck: FtError[] = [];
  readonly applier: CheckpointApplier;
  private readonly bodies: Buffer[] = [];
  private reading = false;

  constructor(decompressor: BodyDecompressor = { decompress: (body) => body }) {
    this.applier = new CheckpointApplier(
      this.clock,
      this.machine as unknown as Machine,
      decompressor,
      this.stats,
      {
        onHeld: (epoch) => this.acks.push(epoch),
        onRestorable: (epoch) => {
          this.restorable = epoch;
        },
        onMismatch: (epoch) => this.mismatches.push(epoch),
        onGuestEnd: (end) => this.ends.push(end),
        onDisksStuck: (error) => this.stuck.push(error),
      },
    );
    this.applier.begin([]);
  }

  scan(text: string, flags = 0): FtError | undefined {
    return this.take(FrameType.syncPages, 0, text, flags);
  }

  epoch(epoch: number, text: string, flags: number = last): FtError | undefined {
    return this.take(FrameType.epoch, epoch, text, flags);
  }

  /** Frames that are read together: `more` is called in the same turn, before its end. */
  together(more: () => FtError | undefined): FtError | undefined {
    this.reading = true;
    const error = more();
    this.reading = false;
    return error ?? this.endTurn();
  }

  private take(type: FrameType, epoch: number, text: string, flags: number): FtError | undefined {
    const body = Buffer.from(text);
    const frame: Frame = { type, flags, generation: 1, epoch, rawBytes: body.length, body };
    this.bodies.push(body);
    const error = this.applier.take(frame);
    return error ?? (this.reading ? undefined : this.endTurn());
  }

  /** After it the bodies are overwritten, as a receive buffer is. */
  private endTurn(): FtError | undefined {
    const error = this.applier.endTurn();
    for (const body of this.bodies.splice(0)) body.fill('#');
    return error;
  }

  guestEnd(epoch: number, message: object = { kind: 'reset', cause: 'x' }): FtError | undefined {
    const buffer = allocFrameBuffer(4096);
    const bytes = packMessage(message as GuestEnd, buffer);
    const body = buffer.body.subarray(0, bytes);
    const type = FrameType.guestEnd;
    return this.applier.take({ type, flags: 0, generation: 1, epoch, rawBytes: bytes, body });
  }

  /** Up to a restorable image of epoch 1. */
  ready(): this {
    this.scan('scan', last);
    this.epoch(1, 'base', last | base);
    return this;
  }
}

test('a small epoch is acknowledged and applied at once', () => {
  const bench = new Bench().ready();
  expect(bench.restorable).toBe(1);
  expect(bench.epoch(2, 'two')).toBeUndefined();
  expect(bench.acks).toEqual([1, 2]);
  expect(bench.machine.applied).toEqual(['scan', 'base', 'two']);
});

test('an epoch in pieces is acknowledged by its last piece, and none is applied before', () => {
  const bench = new Bench().ready();
  bench.epoch(2, 'a', 0);
  bench.epoch(2, 'b', 0);
  expect(bench.machine.applied).toEqual(['scan', 'base']);
  expect(bench.acks).toEqual([1]);
  bench.epoch(2, 'c', last);
  expect(bench.acks).toEqual([1, 2]);
  bench.clock.advance(1);
  expect(bench.machine.applied).toEqual(['scan', 'base', 'a', 'b', 'c']);
});

test('epochs that are read together: one ack, before any of them is applied', () => {
  const bench = new Bench().ready();
  const applied: number[] = [];
  bench.machine.apply = () => {
    applied.push(bench.acks.length);
    return { pages: 1, auditMismatches: [], diskBacklogBytes: 0 };
  };
  const error = bench.together(
    () => bench.epoch(2, 'two') ?? bench.epoch(3, 'three') ?? bench.epoch(4, 'half', 0),
  );
  expect(error).toBeUndefined();
  expect(bench.acks).toEqual([1, 3]);
  expect(applied).toEqual([2, 2]);
  expect(bench.applier.held).toBe(3);
  expect(bench.stats.epochsHeld).toBe(3);
});

test('a damaged frame takes the acks of its turn with it', () => {
  const bench = new Bench().ready();
  expect(bench.together(() => bench.epoch(2, 'two') ?? bench.epoch(3, 'bad'))?.code).toBe(
    'FT_ERR_EPOCH_BODY',
  );
  bench.applier.stop();
  expect(bench.acks).toEqual([1]);
});

test('a piece of the scan within an epoch is applied after the epoch, as it was written', () => {
  const bench = new Bench();
  bench.epoch(1, 'a', 0);
  bench.scan('scan');
  bench.epoch(1, 'b', 0);
  bench.clock.advance(10);
  expect(bench.machine.applied).toEqual([]);
  bench.epoch(1, 'c', last);
  expect(bench.machine.applied).toEqual(['a', 'scan', 'b', 'c']);
});

test('a large epoch is applied in slices; what comes meanwhile queues behind it', () => {
  const bench = new Bench().ready();
  for (let i = 0; i < 9; i += 1) bench.epoch(2, `p${i}`, 0);
  const turns: number[] = [];
  bench.machine.applyCostMs = 0;
  const apply = bench.machine.apply.bind(bench.machine);
  bench.machine.apply = (body) => {
    turns.push(1);
    // Each piece takes a millisecond of this turn.
    (bench.clock as unknown as { now: number }).now += 1000;
    return apply(body);
  };
  bench.epoch(2, 'p9', last);
  expect(turns).toHaveLength(2);
  bench.clock.soon(() => {
    bench.epoch(3, 'three');
    expect(bench.acks).toEqual([1, 2, 3]);
    expect(turns.length).toBeLessThanOrEqual(6);
  });
  bench.clock.advance(100);
  expect(bench.machine.applied.slice(2)).toEqual(
    [...'0123456789'].map((i) => `p${i}`).concat('three'),
  );
  expect(bench.stats.epochApplied).toBe(3);
});

test('drain applies whole epochs at once and drops an unfinished one', () => {
  const bench = new Bench().ready();
  bench.epoch(2, 'a', 0);
  bench.epoch(2, 'b', last);
  bench.epoch(3, 'c', 0);
  bench.applier.drain();
  expect(bench.machine.applied).toEqual(['scan', 'base', 'a', 'b']);
  expect(bench.applier.held).toBe(2);
});

test.each([
  ['an epoch again', (b: Bench) => b.epoch(1, 'x')],
  ['a gap', (b: Bench) => b.epoch(3, 'x')],
  ['epoch 0', (b: Bench) => b.epoch(0, 'x')],
  ['a second base', (b: Bench) => b.epoch(2, 'x', last | base)],
  ['a sync piece after the scan', (b: Bench) => b.scan('x')],
  ['another epoch inside one', (b: Bench) => b.epoch(2, 'x', 0) ?? b.epoch(3, 'y')],
  [
    'a piece that is suddenly base',
    (b: Bench) => b.epoch(2, 'x', 0) ?? b.epoch(2, 'y', last | base),
  ],
])('%s is refused, and neither acknowledged nor applied', (_name, act) => {
  const bench = new Bench().ready();
  expect(act(bench)?.code).toBe('FT_ERR_EPOCH_ORDER');
  expect(bench.acks).toEqual([1]);
  expect(bench.machine.applied).toEqual(['scan', 'base']);
});

test('a base before the end of the scan is refused', () => {
  const bench = new Bench();
  bench.scan('scan');
  expect(bench.epoch(1, 'x', last | base)?.code).toBe('FT_ERR_EPOCH_ORDER');
  expect(bench.applier.restorable).toBe(false);
});

test('the first epoch of a session may have any number from 1', () => {
  const bench = new Bench();
  expect(bench.epoch(41, 'x')).toBeUndefined();
  expect(bench.epoch(43, 'y')?.facts['expected']).toBe(42);
});

test('one damaged piece: the epoch is never acknowledged', () => {
  const bench = new Bench().ready();
  expect(bench.epoch(2, 'a', 0)).toBeUndefined();
  expect(bench.epoch(2, 'bad', last)?.code).toBe('FT_ERR_EPOCH_BODY');
  expect(bench.acks).toEqual([1]);
});

test('a compressed body goes through the decompressor, and so does its error', () => {
  const bench = new Bench({
    decompress: (body) =>
      Buffer.from(body).toString() === 'broken'
        ? new FtError('FT_ERR_FRAME_LZ4', 'no')
        : Buffer.from(`un${Buffer.from(body).toString()}`),
  }).ready();
  bench.epoch(2, 'packed', last | lz4);
  expect(bench.machine.applied.at(-1)).toBe('unpacked');
  expect(bench.epoch(3, 'broken', last | lz4)?.code).toBe('FT_ERR_FRAME_LZ4');
});

test('what is held is bounded by the memory and some', () => {
  const bench = new Bench().ready();
  const piece = 'x'.repeat(8 * 1024 * 1024);
  let error: FtError | undefined;
  let pieces = 0;
  for (; error === undefined && pieces < 20; pieces += 1) error = bench.epoch(2, piece, 0);
  expect(error?.code).toBe('FT_ERR_HELD_BYTES');
  expect(pieces).toBe(9);
});

test('frozen: nothing is acknowledged or applied; thawed: everything, in order', () => {
  const bench = new Bench().ready();
  bench.epoch(2, 'half', 0);
  bench.applier.freeze();
  bench.epoch(2, 'whole', last);
  bench.epoch(3, 'three');
  bench.clock.advance(10);
  expect(bench.acks).toEqual([1]);
  expect(bench.applier.held).toBe(1);
  expect(bench.applier.thaw()).toBeUndefined();
  bench.clock.advance(1);
  expect(bench.acks).toEqual([1, 3]);
  expect(bench.machine.applied.slice(2)).toEqual(['half', 'whole', 'three']);
});

test('frozen and then drained: the image is that of the last acknowledged epoch', () => {
  const bench = new Bench().ready();
  bench.applier.freeze();
  bench.epoch(2, 'two');
  bench.applier.drain();
  expect(bench.machine.applied).toEqual(['scan', 'base']);
  expect(bench.acks).toEqual([1]);
});

test('a disorder that came while frozen is found when thawed', () => {
  const bench = new Bench().ready();
  bench.applier.freeze();
  expect(bench.epoch(9, 'x')).toBeUndefined();
  expect(bench.applier.thaw()?.code).toBe('FT_ERR_EPOCH_ORDER');
});

test('audit mismatches count from the base epoch on', () => {
  const bench = new Bench();
  bench.machine.mismatches = [3];
  bench.scan('scan');
  bench.epoch(1, 'early');
  bench.scan('rest', last);
  expect(bench.mismatches).toEqual([]);
  bench.epoch(2, 'base', last | base);
  bench.epoch(3, 'later');
  expect(bench.mismatches).toEqual([2, 3]);
});

describe('a backlog of the disks', () => {
  const MUCH = 16 * 1024 * 1024 + 1;

  test('acks wait until it is small again; then one ack speaks for all', () => {
    const bench = new Bench().ready();
    bench.machine.backlogBytes = MUCH;
    bench.epoch(2, 'two');
    expect(bench.acks).toEqual([1, 2]);
    bench.epoch(3, 'three');
    bench.epoch(4, 'four');
    bench.clock.advance(20);
    expect(bench.acks).toEqual([1, 2]);
    expect(bench.applier.held).toBe(4);
    expect(bench.machine.applied.at(-1)).toBe('four');
    expect(bench.stats.acksDeferred).toBe(1);
    bench.machine.backlogBytes = MUCH - 1;
    bench.clock.advance(1);
    expect(bench.acks).toEqual([1, 2, 4]);
    const { looks } = bench.machine;
    expect(looks).toBeLessThan(25);
    bench.clock.advance(20);
    expect(bench.machine.looks).toBe(looks);
    expect(bench.acks).toEqual([1, 2, 4]);
  });

  test('an epoch that finds it small acknowledges what waited, once', () => {
    const bench = new Bench().ready();
    bench.machine.backlogBytes = MUCH;
    bench.epoch(2, 'two');
    bench.epoch(3, 'three');
    bench.machine.backlogBytes = 0;
    bench.epoch(4, 'four');
    bench.epoch(5, 'five');
    expect(bench.acks).toEqual([1, 2, 5]);
    bench.clock.advance(20);
    expect(bench.acks).toEqual([1, 2, 5]);
  });

  test('the base is restorable, and promotable, before its ack', () => {
    const bench = new Bench();
    bench.machine.backlogBytes = MUCH;
    bench.scan('scan', last);
    bench.epoch(7, 'base', last | base);
    expect(bench.restorable).toBe(7);
    expect(bench.acks).toEqual([]);
    bench.applier.drain();
    expect(bench.machine.applied).toEqual(['scan', 'base']);
  });

  test('frozen: nothing is acknowledged, however small it gets; thawed: what waited is', () => {
    const bench = new Bench().ready();
    bench.machine.backlogBytes = MUCH;
    bench.epoch(2, 'two');
    bench.epoch(3, 'three');
    bench.applier.freeze();
    bench.machine.backlogBytes = 0;
    bench.clock.advance(50);
    expect(bench.acks).toEqual([1, 2]);
    expect(bench.applier.thaw()).toBeUndefined();
    bench.clock.advance(2);
    expect(bench.acks).toEqual([1, 2, 3]);
  });

  test('that does not shrink for ten seconds is a disk that hangs; said once', () => {
    const bench = new Bench().ready();
    bench.machine.backlogBytes = MUCH;
    bench.epoch(2, 'two');
    bench.epoch(3, 'three');
    bench.clock.advance(9_000);
    bench.machine.backlogBytes += 4096;
    bench.epoch(4, 'four');
    bench.clock.advance(999);
    expect(bench.stuck).toEqual([]);
    bench.clock.advance(1);
    expect(bench.stuck).toHaveLength(1);
    expect(bench.stuck[0]?.code).toBe('FT_ERR_DISK_STUCK');
    expect(bench.stuck[0]?.message).toMatch(/^Nothing of 16781313 bytes .* for 10 s: /);
    bench.clock.advance(30_000);
    expect(bench.stuck).toHaveLength(1);
    expect(bench.acks).toEqual([1, 2]);
    expect(bench.clock.timers).toBe(0);
  });

  test('that shrinks, however slowly, is waited for', () => {
    const bench = new Bench().ready();
    bench.machine.backlogBytes = MUCH + 20;
    bench.epoch(2, 'two');
    bench.epoch(3, 'three');
    for (let i = 0; i < 20; i += 1) {
      bench.clock.advance(9_999);
      bench.machine.backlogBytes -= 1;
      bench.clock.advance(1);
    }
    expect(bench.stuck).toEqual([]);
    expect(bench.acks).toEqual([1, 2]);
    bench.machine.backlogBytes -= 1;
    bench.clock.advance(1);
    expect(bench.acks).toEqual([1, 2, 3]);
    bench.clock.advance(30_000);
    expect(bench.stuck).toEqual([]);
  });

  test('frozen, nothing is said of it; thawed, it has ten seconds anew', () => {
    const bench = new Bench().ready();
    bench.machine.backlogBytes = MUCH;
    bench.epoch(2, 'two');
    bench.epoch(3, 'three');
    bench.clock.advance(9_000);
    bench.applier.freeze();
    bench.clock.advance(60_000);
    expect(bench.applier.thaw()).toBeUndefined();
    bench.clock.advance(9_999);
    expect(bench.stuck).toEqual([]);
    bench.clock.advance(1);
    expect(bench.stuck).toHaveLength(1);
  });

  test('stopped: what waited is never acknowledged', () => {
    const bench = new Bench().ready();
    bench.machine.backlogBytes = MUCH;
    bench.epoch(2, 'two');
    bench.epoch(3, 'three');
    bench.applier.stop();
    bench.machine.backlogBytes = 0;
    bench.clock.advance(50);
    expect(bench.acks).toEqual([1, 2]);
  });
});

test('begin forgets everything', () => {
  const bench = new Bench().ready();
  bench.epoch(2, 'a', 0);
  bench.applier.begin([]);
  expect(bench.applier.restorable).toBe(false);
  expect(bench.applier.held).toBe(0);
  bench.ready();
  expect(bench.machine.applied).toEqual(['scan', 'base']);
});

describe('the guest’s end', () => {
  const end = { kind: 'reset', cause: 'x' };

  test('counts when its epoch is held whole, not before', () => {
    const bench = new Bench().ready();
    expect(bench.guestEnd(2)).toBeUndefined();
    bench.epoch(2, 'a', 0);
    expect(bench.ends).toEqual([]);
    bench.epoch(2, 'b', last);
    expect(bench.ends).toEqual([end]);
    expect(bench.acks).toEqual([1, 2]);
  });

  test('frozen, it waits in line with the epochs', () => {
    const bench = new Bench().ready();
    bench.applier.freeze();
    bench.guestEnd(2);
    bench.epoch(2, 'two');
    expect(bench.ends).toEqual([]);
    expect(bench.applier.thaw()).toBeUndefined();
    expect(bench.ends).toEqual([end]);
  });

  test('of an epoch that is not the next one is refused', () => {
    expect(new Bench().ready().guestEnd(1)?.code).toBe('FT_ERR_EPOCH_ORDER');
    expect(new Bench().ready().guestEnd(3)?.code).toBe('FT_ERR_EPOCH_ORDER');
    expect(new Bench().guestEnd(0)?.code).toBe('FT_ERR_EPOCH_ORDER');
    const within = new Bench().ready();
    within.epoch(2, 'a', 0);
    expect(within.guestEnd(2)?.code).toBe('FT_ERR_EPOCH_ORDER');
    const twice = new Bench().ready();
    twice.guestEnd(2);
    expect(twice.guestEnd(2)?.code).toBe('FT_ERR_EPOCH_ORDER');
    expect(new Bench().ready().guestEnd(2, { kind: 'pause' })?.code).toBe('FT_ERR_MESSAGE');
  });

  test('is the last: no epoch follows', () => {
    const bench = new Bench().ready();
    bench.guestEnd(2);
    expect(bench.epoch(2, 'two')).toBeUndefined();
    expect(bench.epoch(3, 'three')?.code).toBe('FT_ERR_EPOCH_ORDER');
  });

  test('is forgotten with a new sync', () => {
    const bench = new Bench().ready();
    bench.guestEnd(2);
    bench.applier.begin([]);
    bench.ready();
    bench.epoch(2, 'two');
    expect(bench.ends).toEqual([]);
    expect(bench.acks).toEqual([1, 1, 2]);
  });
});
