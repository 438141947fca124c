/**
 * The judge of the disk: says whether every write that was answered is there, in what the guest read
 * back later and in the image file once the guest is gone. Pure: it is handed a reader of blocks.
 *
 * Each block belongs to one client, which has one request under way at most, so all requests for a
 * block happened one after the other, and what it must hold is known:
 *
 *   answered write 3 ─▶ read: must be 3 ─▶ write 4, unanswered ─▶ read: 3 or 4 ─▶ …
 *                                                                  └ also in the image
 *
 * A write that was never answered, or refused with an I/O error, may have happened or not. A discard
 * is a write that leaves the block blank: the VMM promises as much (it punches a hole).
 */
import { type BlockFindings, BlockKind, inspectBlock } from './disk-block';
import type { History, RecordView } from './oracle-history';
import { At, isDiskOp, Op, Status } from './oracle-layout';

/** What can be wrong. The first group means that an answered write is gone. */
export const DISK_LOSS_KINDS = ['disk-lost', 'disk-not-read-back', 'load-lost'] as const;
export const DISK_DAMAGE_KINDS = [
  'disk-torn',
  'disk-misplaced',
  'disk-foreign',
  'disk-invented',
  'disk-failed',
  'load-torn',
  'load-foreign',
] as const;
export type DiskViolationKind =
  | (typeof DISK_LOSS_KINDS)[number]
  | (typeof DISK_DAMAGE_KINDS)[number];

/** Where a block was looked at, for the story. */
type Place = 'the guest read' | 'the image holds';

/** Gives block `number` of disk `disk`, BLOCK_BYTES long. */
export type BlockReader = (disk: number, number: bigint) => Buffer;

/** The region of the guest's only disk load since boot, after it has come to rest. */
export interface LoadRegion {
  readonly disk: number;
  readonly first: number;
  readonly count: number;
  /** Its writes, all of which ended well: the sequence of the last. */
  readonly newest: number;
}

export interface DiskVerdict {
  /** Writes and discards asked for, and those answered with success. */
  readonly writes: number;
  readonly acknowledged: number;
  readonly reads: number;
  /** Different blocks that were written by requests. */
  readonly blocks: number;
  /** Blocks read from the image and judged: of requests, and of the load's region. */
  readonly imageBlocks: number;
  readonly loadBlocks: number;
  /** Violations in which an answered write is gone. */
  readonly lost: number;
  readonly torn: number;
  /** All other violations. */
  readonly damaged: number;
  readonly byKind: Readonly<Partial<Record<DiskViolationKind, number>>>;
  readonly stories: readonly string[];
}

export interface DiskJudgeOptions {
  /** The surviving image; the guest must be stopped. */
  readonly image?: BlockReader | undefined;
  /** Judged when there is an image. */
  readonly region?: LoadRegion | undefined;
  /** Every write must have been read back by the guest later. Default true. */
  readonly readBack?: boolean;
}

/** Judges the disk requests of a history after the clients have come to rest. */
export function judgeDisk(history: History, options: DiskJudgeOptions = {}): DiskVerdict {
  return new DiskJudge(history, options).run();
}

const STORIES_MAX = 50;
const DISK_SHIFT = 56n;
/** Stands for a sequence where a block is blank. */
const BLANK = -1n;

/** What is known of one block. */
interface BlockState {
  readonly disk: number;
  readonly number: bigint;
  /** The last answered write. */
  acknowledged: bigint | undefined;
  /** Writes after it, or without an answer, that may have happened. */
  readonly uncertain: Set<bigint>;
  readSince: boolean;
}

class DiskJudge {
  private readonly blocks = new Map<string, BlockState>();
  private readonly byKind: Partial<Record<DiskViolationKind, number>> = {};
  private readonly stories: string[] = [];
  private bootId: bigint | undefined;
  private writes = 0;
  private acknowledged = 0;
  private reads = 0;
  private imageBlocks = 0;
  private loadBlocks = 0;

  constructor(
    private readonly history: History,
    private readonly options: DiskJudgeOptions,
  ) {}

  run(): DiskVerdict {
    for (const index of this.collect()) this.replay(this.history.view(index));
    if (this.options.readBack !== false) this.checkReadBack();
    const { image, region } = this.options;
    if (image !== undefined) this.checkImage(image);
    if (image !== undefined && region !== undefined) this.checkRegion(image, region);
    const sum = (kinds: readonly DiskViolationKind[]): number =>
      kinds.reduce((total, kind) => total + (this.byKind[kind] ?? 0), 0);
    const torn = sum(['disk-torn', 'load-torn']);
    const lost = sum(DISK_LOSS_KINDS);
    return {
      writes: this.writes,
      acknowledged: this.acknowledged,
      reads: this.reads,
      blocks: this.blocks.size,
      imageBlocks: this.imageBlocks,
      loadBlocks: this.loadBlocks,
      lost,
      torn,
      damaged: sum([...DISK_LOSS_KINDS, ...DISK_DAMAGE_KINDS]) - lost - torn,
      byKind: this.byKind,
      stories: this.stories,
    };
  }

  /** The answered disk requests by sequence number; notes the writes that nobody answered. */
  private collect(): number[] {
    const order: number[] = [];
    for (let index = 0; index < this.history.length; index++) {
      const record = this.history.view(index);
      const op = record.requests[record.requestAt + At.op];
      if (!isDiskOp(op)) continue;
      if (op !== Op.diskRead) this.writes++;
      if (record.answeredUs !== 0) order.push(index);
      else if (op !== Op.diskRead) this.blockOf(record).uncertain.add(sequenceOf(record));
    }
    return order.sort((x, y) => this.history.sequence(x) - this.history.sequence(y));
  }

  private replay(record: RecordView): void {
    const { requests, requestAt, answers, answerAt } = record;
    const block = this.blockOf(record);
    const status = answers.readUInt16LE(answerAt + At.status);
    this.bootId ??= answers.readBigUInt64LE(answerAt + At.bootId);
    const isWrite = requests[requestAt + At.op] !== Op.diskRead;
    if (status !== Status.ok) {
      this.add('disk-failed', block, `the guest answered with status ${status}`);
      if (isWrite) block.uncertain.add(sequenceOf(record));
    } else if (isWrite) {
      this.acknowledged++;
      block.acknowledged = sequenceOf(record);
      block.readSince = false;
    } else {
      this.reads++;
      block.readSince = true;
      this.compare('the guest read', block, {
        condition: CONDITIONS[Number(answers.readBigUInt64LE(answerAt + At.detail2))] ?? 'torn',
        kind: Number(answers.readBigUInt64LE(answerAt + At.detail3)),
        number: answers.readBigUInt64LE(answerAt + At.detail0),
        sequence: answers.readBigUInt64LE(answerAt + At.value),
        bootId: answers.readBigUInt64LE(answerAt + At.detail1),
      });
    }
  }

  /** The one rule, for what the guest read and for what the image holds. */
  private compare(place: Place, block: BlockState, found: BlockFindings): void {
    const { acknowledged, uncertain } = block;
    const expected =
      acknowledged === undefined || acknowledged === BLANK ? 'nothing' : `sequence ${acknowledged}`;
    const sequence = found.condition === 'blank' ? BLANK : found.sequence;
    const isKnown = uncertain.has(sequence) || sequence === (acknowledged ?? BLANK);
    if (found.condition === 'torn') {
      this.add(
        'disk-torn',
        block,
        `${place} a block whose checksum is wrong, expected ${expected}`,
      );
    } else if (sequence === BLANK) {
      if (!isKnown) this.add('disk-lost', block, `${place} an empty block, expected ${expected}`);
    } else if (found.number !== block.number || found.kind !== BlockKind.request) {
      this.add('disk-misplaced', block, `${place} block ${found.number} of kind ${found.kind}`);
    } else if (this.bootId !== undefined && found.bootId !== this.bootId) {
      const others = `boot id ${found.bootId.toString(16)}`;
      this.add('disk-foreign', block, `${place} ${others}, expected ${this.bootId.toString(16)}`);
    } else if (!isKnown) {
      const isOld = acknowledged === BLANK || sequence < (acknowledged ?? BLANK);
      const what = `${place} sequence ${sequence}, expected ${expected}`;
      this.add(isOld ? 'disk-lost' : 'disk-invented', block, what);
    }
  }

  private checkReadBack(): void {
    for (const block of this.blocks.values()) {
      if (block.acknowledged === undefined || block.readSince) continue;
      this.add('disk-not-read-back', block, `sequence ${block.acknowledged} was never read back`);
    }
  }

  private checkImage(image: BlockReader): void {
    for (const block of this.blocks.values()) {
      this.imageBlocks++;
      this.compare('the image holds', block, inspectBlock(image(block.disk, block.number)));
    }
  }

  /**
   * The load writes its region in turn, with sequences that begin at 1 and grow by one: its newest
   * sequence says what every block must hold.
   */
  private checkRegion(image: BlockReader, region: LoadRegion): void {
    const { disk, first, count, newest } = region;
    for (let n = 0; n < Math.min(count, newest); n++) {
      const block = { disk, number: BigInt(first + n) };
      const expected = BigInt(newest - ((newest - 1 - n) % count));
      const found = inspectBlock(image(disk, block.number));
      this.loadBlocks++;
      const isOurs = found.kind === BlockKind.load && found.number === block.number;
      if (found.condition !== 'whole') {
        const kind = found.condition === 'torn' ? 'load-torn' : 'load-lost';
        this.add(kind, block, `the image holds a ${found.condition} block of the load`);
      } else if (!isOurs || (this.bootId !== undefined && found.bootId !== this.bootId)) {
        this.add('load-foreign', block, `the image holds block ${found.number} of another writer`);
      } else if (found.sequence !== expected) {
        const what = `the image holds sequence ${found.sequence} of the load`;
        this.add('load-lost', block, `${what}, expected ${expected}`);
      }
    }
  }

  private blockOf(record: RecordView): BlockState {
    const number = record.requests.readBigUInt64LE(record.requestAt + At.a);
    const disk = Number(record.requests.readBigUInt64LE(record.requestAt + At.c) >> DISK_SHIFT);
    const name = `${disk}/${number}`;
    const known = this.blocks.get(name);
    if (known !== undefined) return known;
    const state: BlockState = {
      disk,
      number,
      acknowledged: undefined,
      uncertain: new Set(),
      readSince: false,
    };
    this.blocks.set(name, state);
    return state;
  }

  private add(
    kind: DiskViolationKind,
    block: { readonly disk: number; readonly number: bigint },
    what: string,
  ): void {
    this.byKind[kind] = (this.byKind[kind] ?? 0) + 1;
    if (this.stories.length >= STORIES_MAX) return;
    this.stories.push(`${kind}: disk ${block.disk}, block ${block.number}: ${what}`);
  }
}

const CONDITIONS = ['blank', 'whole', 'torn'] as const;

/** What a write, or a discard, leaves in the block. */
function sequenceOf(record: RecordView): bigint {
  if (record.requests[record.requestAt + At.op] === Op.diskDiscard) return BLANK;
  return record.requests.readBigUInt64LE(record.requestAt + At.b);
}
