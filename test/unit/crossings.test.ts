/**
 * The machine is crossed a constant number of times per epoch, never per page: each method of Machine
 * is one call into native code (src/machine/kvm-machine.ts), so counting these calls counts crossings.
 */
import { type ApplyResult, type Cut, emptyCut, type Machine } from '../../src/machine/machine';
import { EpochPipeline } from '../../src/primary/epoch-pipeline';
import { FrameSender } from '../../src/primary/frame-sender';
import { OutputCommit } from '../../src/primary/output-commit';
import { PrimaryStats } from '../../src/primary/primary-stats';
import { CheckpointApplier } from '../../src/standby/checkpoint-applier';
import { StandbyStats } from '../../src/standby/standby-stats';
import type { Connection } from '../../src/transport/connection';
import { FrameBufferPool } from '../../src/wire/buffer-pool';
import { CHUNK_BYTES, type Frame, type FrameHeader } from '../../src/wire/frame';
import { ManualClock } from '../support/manual-clock';

const EPOCHS = 50;

/** Both sides' machine in one: hands out EPOCHS cuts, counts how often it is called. */
class CountingMachine {
  readonly calls: Record<string, number> = {};
  readonly description = { memoryBytes: 1 << 20 };
  private epoch = 0;

  constructor(
    private readonly dirtyPages: number,
    private readonly backlogBytes: number,
  ) {}

  private count(name: string): void {
    this.calls[name] = (this.calls[name] ?? 0) + 1;
  }
  nextCut(into: Buffer): Cut | undefined {
    this.count('nextCut');
    if (this.epoch === EPOCHS) return undefined;
    this.epoch += 1;
    const { epoch, dirtyPages } = this;
    // What a page with one changed word takes.
    const bytes = Math.min(into.length, 16 + 25 * dirtyPages);
    const chunk = { bytes, rawBytes: 4096 * dirtyPages, last: true };
    return { ...emptyCut(), epoch, dirtyPages, outputFrames: 1, chunk };
  }
  encodeCut(): never {
    throw new Error('Every cut here is encoded whole by nextCut.');
  }
  commit(): void {
    this.count('commit');
  }
  beginSync(): readonly undefined[] {
    return [];
  }
  verify(): undefined {
    this.count('verify');
  }
  apply(): ApplyResult {
    this.count('apply');
    return { pages: this.dirtyPages, auditMismatches: [], diskBacklogBytes: this.backlogBytes };
  }
  diskBacklogBytes(): number {
    this.count('diskBacklogBytes');
    return this.backlogBytes;
  }
}

/**
 * Ships every cut from the pipeline to the applier and its ack back; the calls it took. So many
 * frames are read in one turn.
 */
function shipEpochs(
  dirtyPages: number,
  backlogBytes = 0,
  perTurn = 1,
): Record<string, number> & { acks: number } {
  const clock = new ManualClock();
  const counting = new CountingMachine(dirtyPages, backlogBytes);
  const machine = counting as unknown as Machine;
  const stats = new PrimaryStats();
  const commit = new OutputCommit(clock, machine, stats, () => undefined);
  const decompressor = { decompress: (body: Uint8Array) => body };
  const applier = new CheckpointApplier(clock, machine, decompressor, new StandbyStats(), {
    onHeld: (epoch) => held.push(epoch),
    onRestorable: () => undefined,
    onMismatch: () => undefined,
    onGuestEnd: () => undefined,
    onDisksStuck: () => undefined,
  });
  const held: number[] = [];
  const frames: Frame[] = [];
  const connection = {
    bytesQueued: 0,
    cork() {},
    uncork() {},
    send(header: FrameHeader, buffer: { body: Buffer }, bodyBytes: number, done?: () => void) {
      const { type, flags, generation, epoch } = header;
      const body = Buffer.from(buffer.body.subarray(0, bodyBytes));
      frames.push({ type, flags, generation, epoch, rawBytes: bodyBytes, body });
      done?.();
    },
  } as unknown as Connection;
  const sender = new FrameSender(clock, new FrameBufferPool(CHUNK_BYTES), undefined, stats);
  const nothing = (): void => undefined;
  const handlers = {
    onBaseSent: nothing,
    onOverrun: nothing,
    onFinal: nothing,
    onResting: nothing,
  };
  const pipeline = new EpochPipeline(clock, machine, sender, commit, stats, handlers);
  applier.begin([]);
  pipeline.start(connection, 1, 1);
  pipeline.pump();
  for (const [at, frame] of frames.entries()) {
    expect(applier.take(frame)).toBeUndefined();
    if (at % perTurn === perTurn - 1) expect(applier.endTurn()).toBeUndefined();
  }
  for (const epoch of held) {
    expect(commit.ack(epoch)).toBeUndefined();
    if (perTurn === 1) commit.settle();
  }
  commit.settle();
  return { ...counting.calls, acks: held.length };
}

test('an epoch takes four crossings, both sides together, however many pages it has', () => {
  const few = shipEpochs(1);
  const many = shipEpochs(4096);
  expect(many).toEqual(few);
  // One nextCut more: the one that finds nothing.
  expect(few).toEqual({
    nextCut: EPOCHS + 1,
    commit: EPOCHS,
    verify: EPOCHS,
    apply: EPOCHS,
    acks: EPOCHS,
  });
});

test('epochs that are read together are acknowledged as one, and acks that are, committed as one', () => {
  expect(shipEpochs(16, 0, 10)).toEqual({
    nextCut: EPOCHS + 1,
    commit: 1,
    verify: EPOCHS,
    apply: EPOCHS,
    acks: EPOCHS / 10,
  });
});

test('a backlog of the disks is looked at by the millisecond, not by the epoch', () => {
  const calls = shipEpochs(1, 64 * 1024 * 1024);
  // The first epoch found no backlog yet; the others wait for the timer, which did not fire.
  expect(calls).toEqual({
    nextCut: EPOCHS + 1,
    commit: 1,
    verify: EPOCHS,
    apply: EPOCHS,
    acks: 1,
  });
});
