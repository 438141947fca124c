/**
 * The oracle is only worth something if it can fail: true histories are judged clean, and for every
 * kind of violation a doctored history is found out, with a readable story.
 */

import {
  judge,
  LOSS_KINDS,
  REGRESSION_KINDS,
  type ViolationKind,
} from '../../src/drill/oracle/oracle';
import { History } from '../../src/drill/oracle/oracle-history';
import {
  At,
  chainHash,
  Op,
  REQUEST_BYTES,
  Status,
  writeRequest,
} from '../../src/drill/oracle/oracle-layout';
import { ReferenceBeacon } from '../support/oracle-model';

const BOOT_ID = 0x1234_5678_9abcn;

/** A client side of the reference guest, which lets a test doctor what was heard. */
class Scene {
  readonly history = new History();
  beacon = new ReferenceBeacon(BOOT_ID);
  nowUs = 1_000_000;
  private readonly nextId = new Map<number, number>();

  request(client: number, op: number, a = 0n, b = 0n): Buffer {
    const requestId = (this.nextId.get(client) ?? 0) + 1;
    this.nextId.set(client, requestId);
    const bytes = Buffer.alloc(REQUEST_BYTES);
    writeRequest(bytes, 0, { op, client, requestId, a, b, c: 0n });
    return bytes;
  }

  send(bytes: Buffer): number {
    return this.history.add(bytes, this.nowUs++);
  }

  /** Sends, serves, lets `doctor` change the answer, records it. */
  ask(client: number, op: number, a = 0n, b = 0n, doctor?: (answer: Buffer) => void): number {
    const bytes = this.request(client, op, a, b);
    const index = this.send(bytes);
    const answer = Buffer.from(this.beacon.serve(bytes));
    doctor?.(answer);
    this.nowUs += 100;
    this.history.answer(index, answer, this.nowUs);
    this.nowUs += 1;
    return index;
  }

  incr(client = 1, doctor?: (answer: Buffer) => void): number {
    return this.ask(client, Op.incr, 0n, 0n, doctor);
  }

  /** The guest forgets what it did since `keep`, as after a failover without output commit. */
  rollBack(during: () => void): void {
    const keep = this.beacon.checkpoint();
    during();
    this.beacon.restore(keep);
  }

  kinds(): ViolationKind[] {
    return Object.keys(judge(this.history).byKind).sort() as ViolationKind[];
  }
}

/** A busy true history: several clients, overlapping requests, retries, duplicates. */
function trueScene(): Scene {
  const scene = new Scene();
  for (let round = 0; round < 200; round++) {
    const batch = [1, 2, 3, 4].map((client) => {
      const op = [Op.incr, Op.put, Op.get, Op.stats][(round + client) % 4] ?? Op.incr;
      const key = BigInt((round * 7 + client) % 16);
      const bytes = scene.request(client, op, key, BigInt(round * 10 + client));
      return { bytes, index: scene.send(bytes) };
    });
    for (const { bytes, index } of batch.reverse()) {
      const answer = scene.beacon.serve(bytes);
      scene.nowUs += 10;
      if (scene.history.answer(index, answer, scene.nowUs) !== 'first')
        throw new Error('not first');
      if (round % 10 !== 0) continue;
      scene.history.again(index);
      const twin = scene.history.answer(index, scene.beacon.serve(bytes), scene.nowUs);
      if (twin !== 'same') throw new Error('a duplicate differs');
    }
  }
  for (let key = 0n; key < 16n; key++) scene.ask(9, Op.get, key);
  return scene;
}

describe('oracle: true histories', () => {
  test('a busy history of several clients is clean', () => {
    const verdict = judge(trueScene().history);
    expect(verdict.violations.map((violation) => violation.story)).toEqual([]);
    expect(verdict).toMatchObject({ requests: 816, answered: 816, lost: 0, regressed: 0 });
    expect(verdict).toMatchObject({ sequenceMax: 816, counter: 200, keys: 8, retries: 80 });
    expect(verdict.bootId).toBe(BOOT_ID.toString(16));
  });

  test('an empty history is clean', () => {
    expect(judge(new History())).toMatchObject({ requests: 0, lost: 0, regressed: 0 });
  });

  test('a history that joins a guest already running needs only its first number', () => {
    const scene = new Scene();
    const elsewhere = new Scene();
    elsewhere.beacon = scene.beacon;
    for (let i = 0; i < 5; i++) elsewhere.incr(7);
    for (let i = 0; i < 5; i++) scene.incr();
    expect(judge(scene.history, { firstSequence: 6 }).violations).toEqual([]);
    expect(judge(scene.history).byKind).toMatchObject({ 'sequence-missing': 5 });
  });

  test('a guest that was lost may have served what it never answered, and no more', () => {
    const scene = new Scene();
    scene.incr();
    for (const client of [2, 3]) {
      const bytes = scene.request(client, Op.incr);
      scene.send(bytes);
      scene.beacon.serve(bytes);
    }
    scene.incr();
    expect(judge(scene.history, { guestLost: true }).violations).toEqual([]);
    expect(judge(scene.history).byKind).toEqual({ unanswered: 2, 'sequence-missing': 2 });
    const elsewhere = new Scene();
    elsewhere.beacon = scene.beacon;
    elsewhere.incr(7);
    scene.incr();
    expect(judge(scene.history, { guestLost: true }).byKind).toEqual({ 'sequence-missing': 1 });
  });

  test('the hash is FNV-1a 64 as written in the protocol', () => {
    const request = Buffer.alloc(REQUEST_BYTES);
    const fields = { op: Op.put, client: 77, requestId: 2 ** 31 + 5, a: 2n ** 64n - 1n, b: 3n };
    writeRequest(request, 0, { ...fields, c: 2n ** 63n });
    const previous = Buffer.alloc(8);
    previous.writeBigUInt64LE(0xfedc_ba98_7654_3210n);
    let expected = 0xcbf29ce484222325n;
    for (const byte of [...previous, request[At.op] ?? 0, ...request.subarray(8)]) {
      expected = ((expected ^ BigInt(byte)) * 0x100000001b3n) & (2n ** 64n - 1n);
    }
    const hash = new Uint32Array(2);
    chainHash(hash, previous, 0, request, 0);
    expect((BigInt(hash[1] ?? 0) << 32n) | BigInt(hash[0] ?? 0)).toBe(expected);
  });
});

/** For each kind: how a lying guest, network or host produces it. */
const doctored: Record<ViolationKind, (scene: Scene) => void> = {
  unanswered: (scene) => {
    scene.send(scene.request(2, Op.incr));
  },
  'put-lost': (scene) => {
    scene.ask(1, Op.put, 5n, 50n);
    scene.rollBack(() => scene.ask(1, Op.put, 5n, 51n));
    scene.incr();
    scene.ask(1, Op.get, 5n);
  },
  'sequence-missing': (scene) => {
    const bytes = scene.request(3, Op.get, 99n);
    scene.beacon.serve(bytes);
    scene.incr();
  },
  'not-read-back': (scene) => {
    scene.ask(1, Op.put, 5n, 50n);
  },
  'boot-id-changed': (scene) => {
    scene.incr(1, (answer) => answer.writeBigUInt64LE(BOOT_ID + 1n, At.bootId));
  },
  contradiction: (scene) => {
    const bytes = scene.request(1, Op.incr);
    const index = scene.send(bytes);
    const answer = scene.beacon.serve(bytes);
    scene.history.answer(index, answer, ++scene.nowUs);
    const other = Buffer.from(answer);
    other.writeBigUInt64LE(9999n, At.value);
    expect(scene.history.answer(index, other, ++scene.nowUs)).toBe('contradiction');
  },
  'stray-answer': (scene) => {
    const bytes = scene.request(8, Op.get, 1n);
    scene.history.stray(new ReferenceBeacon(BOOT_ID).serve(bytes), scene.nowUs);
  },
  'wrong-echo': (scene) => {
    scene.ask(1, Op.put, 5n, 50n, (answer) => answer.writeBigUInt64LE(51n, At.value));
    scene.ask(1, Op.get, 5n);
  },
  refused: (scene) => {
    scene.incr(1, (answer) => answer.writeUInt16LE(Status.badArgument, At.status));
  },
  'sequence-repeated': (scene) => {
    scene.rollBack(() => scene.incr(1));
    scene.incr(2);
  },
  'chain-broken': (scene) => {
    scene.incr();
    scene.incr(1, (answer) => answer.writeBigUInt64LE(7n, At.previousHash));
  },
  'hash-wrong': (scene) => {
    scene.incr(1, (answer) => answer.writeBigUInt64LE(7n, At.hash));
  },
  'counter-back': (scene) => {
    scene.incr();
    scene.incr(1, (answer) => answer.writeBigUInt64LE(1n, At.value));
  },
  'counter-jumped': (scene) => {
    scene.incr(1, (answer) => answer.writeBigUInt64LE(1000n, At.value));
  },
  'value-invented': (scene) => {
    scene.ask(1, Op.put, 5n, 50n);
    scene.ask(1, Op.get, 5n, 0n, (answer) => answer.writeBigUInt64LE(12n, At.value));
  },
  'order-broken': (scene) => {
    const early = scene.request(1, Op.get, 77n);
    const late = scene.beacon.serve(early);
    scene.incr(2);
    const index = scene.history.add(early, ++scene.nowUs);
    scene.history.answer(index, late, ++scene.nowUs);
  },
  'clock-back': (scene) => {
    scene.incr();
    scene.incr(1, (answer) => answer.writeBigUInt64LE(1n, At.uptimeNs));
  },
};

describe('oracle: doctored histories', () => {
  test.each([...LOSS_KINDS, ...REGRESSION_KINDS])('finds %s', (kind) => {
    const scene = trueScene();
    doctored[kind](scene);
    scene.incr(5);
    const verdict = judge(scene.history);
    expect(Object.keys(verdict.byKind)).toContain(kind);
    const violation = verdict.violations.find((candidate) => candidate.kind === kind);
    expect(violation?.story).toMatch(/client \d+.*(request \d+)/);
    expect(verdict.lost + verdict.regressed).toBeGreaterThan(0);
    const isLoss = (LOSS_KINDS as readonly string[]).includes(kind);
    expect(isLoss ? verdict.lost : verdict.regressed).toBeGreaterThan(0);
  });

  test('a guest rolled back under acknowledged answers is found in many ways', () => {
    const scene = trueScene();
    scene.rollBack(() => {
      scene.incr(1);
      scene.ask(2, Op.put, 3n, 333n);
    });
    scene.incr(3);
    scene.incr(4);
    scene.ask(9, Op.get, 3n);
    const kinds = scene.kinds();
    for (const kind of ['sequence-repeated', 'counter-back', 'put-lost', 'order-broken'] as const) {
      expect(kinds).toContain(kind);
    }
  });

  test('a rebooted guest is found', () => {
    const scene = trueScene();
    scene.beacon = new ReferenceBeacon(BOOT_ID + 1n);
    scene.incr();
    expect(scene.kinds()).toEqual(expect.arrayContaining(['boot-id-changed', 'counter-back']));
  });

  test('a put without an answer may have been served, and is no second violation', () => {
    const scene = trueScene();
    const bytes = scene.request(2, Op.put, 3n, 777n);
    scene.send(bytes);
    scene.beacon.serve(bytes);
    scene.ask(9, Op.get, 3n);
    expect(scene.kinds()).toEqual(['sequence-missing', 'unanswered']);
  });

  test('stories are bounded, counts are not', () => {
    const scene = trueScene();
    for (let i = 0; i < 80; i++) scene.send(scene.request(100 + i, Op.incr));
    const verdict = judge(scene.history, { storiesMax: 10 });
    expect(verdict.violations).toHaveLength(10);
    expect(verdict.byKind.unanswered).toBe(80);
  });
});
