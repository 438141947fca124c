/**
 * The judge of the disk is only worth something if it can fail: a true history and a true image are
 * judged clean, and every kind of violation is found in a doctored one, with a readable story.
 */
import { BLOCK_BYTES, BlockKind, inspectBlock, makeBlock } from '../../src/drill/oracle/disk-block';
import {
  type BlockReader,
  DISK_DAMAGE_KINDS,
  DISK_LOSS_KINDS,
  type DiskVerdict,
  type DiskViolationKind,
  judgeDisk,
} from '../../src/drill/oracle/disk-oracle';
import { History } from '../../src/drill/oracle/oracle-history';
import { At, Op, REQUEST_BYTES, Status, writeRequest } from '../../src/drill/oracle/oracle-layout';
import { ReferenceBeacon } from '../support/oracle-model';

const BOOT_ID = 0xfeed_0000_1234n;
const REGION = { disk: 0, first: 1000, count: 8, newest: 21 };

/** One client of the reference guest's disk; what was heard and what lies there can be doctored. */
class Scene {
  readonly history = new History();
  readonly beacon = new ReferenceBeacon(BOOT_ID);
  readonly image: BlockReader = (_disk, number) =>
    this.beacon.blocks.get(number) ?? Buffer.alloc(BLOCK_BYTES);
  private nextId = 1;
  private nowUs = 1_000_000;

  /** Sends and serves; without `isHeard` the answer is lost. */
  ask(op: number, a: bigint, b = 0n, doctor?: (answer: Buffer) => void, isHeard = true): void {
    const request = Buffer.alloc(REQUEST_BYTES);
    writeRequest(request, 0, { op, client: 1, requestId: this.nextId++, a, b, c: 0n });
    const index = this.history.add(request, this.nowUs++);
    const answer = Buffer.from(this.beacon.serve(request));
    doctor?.(answer);
    this.nowUs += 100;
    if (isHeard) this.history.answer(index, answer, this.nowUs++);
  }

  write(block: bigint, sequence: bigint, isHeard = true): void {
    this.ask(Op.diskWrite, block, sequence, undefined, isHeard);
  }

  read(block: bigint, doctor?: (answer: Buffer) => void): void {
    this.ask(Op.diskRead, block, 0n, doctor);
  }

  /** Puts another block where `number` lies. */
  put(number: bigint, fields: Partial<Parameters<typeof makeBlock>[0]>): void {
    const whole = { kind: BlockKind.request, number, sequence: 0n, bootId: BOOT_ID };
    this.beacon.blocks.set(number, makeBlock({ ...whole, ...fields }));
  }

  /** The first half of the block becomes that of another write of the same block. */
  tear(number: bigint, sequence: bigint): void {
    const old = this.beacon.blocks.get(number) ?? Buffer.alloc(BLOCK_BYTES);
    const { kind } = inspectBlock(old);
    const torn = makeBlock({ kind, number, sequence, bootId: BOOT_ID });
    old.copy(torn, BLOCK_BYTES / 2, BLOCK_BYTES / 2);
    this.beacon.blocks.set(number, torn);
  }

  judge(): DiskVerdict {
    return judgeDisk(this.history, { image: this.image, region: REGION });
  }
}

/** Writes, overwrites, reads, a discard, one write that nobody answered, and the load's region. */
function trueScene(): Scene {
  const scene = new Scene();
  scene.read(5n);
  for (let round = 1n; round <= 3n; round++) {
    for (let block = 0n; block < 10n; block++) {
      scene.write(block, round * 100n + block);
      if (block % 3n === 0n) scene.read(block);
    }
  }
  scene.write(9n, 999n, false);
  scene.ask(Op.diskDiscard, 0n, 900n);
  for (let block = 0n; block < 10n; block++) scene.read(block);
  for (let sequence = 1n; sequence <= BigInt(REGION.newest); sequence++) {
    const number = BigInt(REGION.first) + ((sequence - 1n) % BigInt(REGION.count));
    scene.put(number, { kind: BlockKind.load, sequence });
  }
  return scene;
}

test('a true history and a true image are clean', () => {
  expect(trueScene().judge()).toEqual({
    writes: 32,
    acknowledged: 31,
    reads: 23,
    blocks: 10,
    imageBlocks: 10,
    loadBlocks: 8,
    lost: 0,
    torn: 0,
    damaged: 0,
    byKind: {},
    stories: [],
  });
});

test('a write that nobody answered may have happened or not', () => {
  const scene = trueScene();
  scene.put(9n, { sequence: 309n });
  scene.read(9n);
  expect(scene.judge().byKind).toEqual({});
});

test('so may a discard', () => {
  const scene = trueScene();
  scene.ask(Op.diskDiscard, 4n, 901n, undefined, false);
  scene.put(4n, { sequence: 304n });
  scene.read(4n);
  expect(scene.judge().byKind).toEqual({});
  scene.beacon.blocks.delete(4n);
  expect(scene.judge().byKind).toEqual({});
});

test('so may one that was refused, but the refusal is told', () => {
  for (const kept of [308n, 400n]) {
    const scene = trueScene();
    const refuse = (answer: Buffer): void => {
      answer.writeUInt16LE(Status.ioError, At.status);
    };
    scene.ask(Op.diskWrite, 8n, 400n, refuse);
    scene.put(8n, { sequence: kept });
    scene.read(8n);
    expect(scene.judge().byKind).toEqual({ 'disk-failed': 1 });
  }
});

test('a region that was written only in part is judged as far as it was written', () => {
  const scene = trueScene();
  for (let n = 3; n < REGION.count; n++) scene.beacon.blocks.delete(BigInt(REGION.first + n));
  for (let n = 0n; n < 3n; n++) {
    scene.put(BigInt(REGION.first) + n, { kind: BlockKind.load, sequence: n + 1n });
  }
  const region = { ...REGION, newest: 3 };
  const verdict = judgeDisk(scene.history, { image: scene.image, region });
  expect(verdict).toMatchObject({ byKind: {}, loadBlocks: 3 });
});

/** What makes each kind of violation, and a word that its story must contain. */
const doctored: readonly (readonly [DiskViolationKind, string, (scene: Scene) => void])[] = [
  [
    'disk-lost',
    'the guest read sequence 205, expected sequence 305',
    (scene) => {
      scene.read(5n, (answer) => answer.writeBigUInt64LE(205n, At.value));
    },
  ],
  [
    'disk-lost',
    'the guest read an empty block, expected sequence 305',
    (scene) => {
      scene.read(5n, (answer) => answer.writeBigUInt64LE(0n, At.detail2));
    },
  ],
  [
    'disk-lost',
    'the image holds sequence 204, expected sequence 304',
    (scene) => {
      scene.put(4n, { sequence: 204n });
    },
  ],
  ['disk-lost', 'the image holds an empty block', (scene) => scene.beacon.blocks.delete(4n)],
  [
    'disk-lost',
    'the guest read sequence 300, expected nothing',
    (scene) => {
      // The discard came undone.
      scene.put(0n, { sequence: 300n });
      scene.read(0n);
      scene.beacon.blocks.delete(0n);
    },
  ],
  [
    'disk-lost',
    'the image holds sequence 300, expected nothing',
    (scene) => {
      scene.put(0n, { sequence: 300n });
    },
  ],
  ['disk-not-read-back', 'sequence 500 was never read back', (scene) => scene.write(3n, 500n)],
  [
    'disk-torn',
    'the guest read a block whose checksum is wrong',
    (scene) => {
      scene.read(5n, (answer) => answer.writeBigUInt64LE(2n, At.detail2));
    },
  ],
  ['disk-torn', 'the image holds a block whose checksum is wrong', (scene) => scene.tear(4n, 204n)],
  [
    'disk-torn',
    'the image holds a block whose checksum is wrong',
    (scene) => {
      // A single bit somewhere in the pattern.
      const block = Buffer.from(scene.image(0, 4n));
      block.writeUInt8(block.readUInt8(2000) ^ 16, 2000);
      scene.beacon.blocks.set(4n, block);
    },
  ],
  ['disk-misplaced', 'block 6', (scene) => scene.put(4n, { number: 6n, sequence: 304n })],
  ['disk-misplaced', 'kind 2', (scene) => scene.put(4n, { kind: 2, sequence: 304n })],
  [
    'disk-misplaced',
    'the guest read block 6',
    (scene) => {
      scene.read(5n, (answer) => answer.writeBigUInt64LE(6n, At.detail0));
    },
  ],
  ['disk-foreign', 'boot id 1234', (scene) => scene.put(4n, { bootId: 0x1234n, sequence: 304n })],
  [
    'disk-foreign',
    'the guest read boot id 77',
    (scene) => {
      scene.read(5n, (answer) => answer.writeBigUInt64LE(0x77n, At.detail1));
    },
  ],
  [
    'disk-invented',
    'sequence 1000, expected sequence 304',
    (scene) => {
      scene.put(4n, { sequence: 1000n });
    },
  ],
  [
    'disk-invented',
    'expected nothing',
    (scene) => {
      scene.put(50n, { sequence: 1n });
      scene.read(50n);
      scene.beacon.blocks.delete(50n);
    },
  ],
  [
    'disk-failed',
    'status 5',
    (scene) => {
      scene.read(5n, (answer) => answer.writeUInt16LE(Status.ioError, At.status));
    },
  ],
  [
    'load-lost',
    'sequence 13 of the load, expected 21',
    (scene) => {
      scene.put(1004n, { kind: BlockKind.load, sequence: 13n });
    },
  ],
  ['load-lost', 'a blank block of the load', (scene) => scene.beacon.blocks.delete(1000n)],
  ['load-torn', 'a torn block of the load', (scene) => scene.tear(1004n, 13n)],
  [
    'load-foreign',
    'block 1003 of another writer',
    (scene) => {
      scene.put(1003n, { sequence: 20n });
    },
  ],
];

test.each(doctored)('%s: %s', (kind, word, doctor) => {
  const scene = trueScene();
  doctor(scene);
  const verdict = scene.judge();
  expect(verdict.byKind).toEqual({ [kind]: 1 });
  expect(verdict.stories).toHaveLength(1);
  expect(verdict.stories[0]).toContain(word);
  const counted = { lost: verdict.lost, torn: verdict.torn, damaged: verdict.damaged };
  expect(counted.lost + counted.torn + counted.damaged).toBe(1);
  expect(counted.lost).toBe((DISK_LOSS_KINDS as readonly string[]).includes(kind) ? 1 : 0);
});

test('every kind has a doctored history', () => {
  const kinds = new Set(doctored.map(([kind]) => kind));
  expect([...kinds].sort()).toEqual([...DISK_LOSS_KINDS, ...DISK_DAMAGE_KINDS].sort());
});
