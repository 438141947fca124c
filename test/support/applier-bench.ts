/** A checkpoint applier on a clock of its own, with a machine that notes what is applied. */
import { FtError } from '../../src/common/errors';
import type { ApplyResult, GuestEnd, Machine } from '../../src/machine/machine';
import { type BodyDecompressor, CheckpointApplier } from '../../src/standby/checkpoint-applier';
import { StandbyStats } from '../../src/standby/standby-stats';
import { type Frame, FrameFlag, FrameType } from '../../src/wire/frame';
import { packFrame } from '../../src/wire/messages';
import { ManualClock } from './manual-clock';

const { last, base } = FrameFlag;

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
  beginCatchUp(): readonly undefined[] {
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

export class ApplierBench {
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
    const { buffer, bytes } = packFrame(message as GuestEnd);
    const { body } = buffer;
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
