/** The wire under generated input: round trips, every cut, every bit, and noise. */
import fc from 'fast-check';
import { crc32c } from '../../src/common/crc32c';
import { allocFrameBuffer } from '../../src/wire/buffer-pool';
import { Lz4Compressor, Lz4Decompressor } from '../../src/wire/compressor';
import { FrameDecoder } from '../../src/wire/decoder';
import { encodeFrame } from '../../src/wire/encoder';
import {
  BODY_BYTES_MAX,
  FRAME_HEADER_BYTES,
  type Frame,
  FrameFlag,
  FrameType,
} from '../../src/wire/frame';
import {
  type Hello,
  type Message,
  packFrame,
  unpackAuditMismatch,
  unpackBye,
  unpackGuestEnd,
  unpackHello,
  unpackRefuse,
  unpackWelcome,
  type Welcome,
} from '../../src/wire/messages';
import { ruleOf } from '../../src/wire/rules';

interface Sent {
  type: FrameType;
  flags: number;
  generation: number;
  epoch: number;
  body: Buffer;
}

/** Any frame that the protocol allows, LZ4 aside. */
const sent: fc.Arbitrary<Sent> = fc
  .record({
    type: fc.constantFrom(...Object.values(FrameType)),
    flags: fc.nat(7),
    generation: fc.maxSafeNat(),
    epoch: fc.maxSafeNat(),
    body: fc.uint8Array({ maxLength: 300 }),
  })
  .map(({ type, flags, generation, epoch, body }) => {
    const rule = ruleOf(type);
    if (rule === undefined) throw new Error('a type without a rule');
    return {
      type,
      flags: flags & rule.flags & ~FrameFlag.lz4,
      generation,
      epoch: rule.hasEpoch ? epoch : 0,
      body: Buffer.from(body.subarray(0, rule.bodyBytesMax)),
    };
  });

function encode(frames: readonly Sent[]): Buffer {
  return Buffer.concat(
    frames.map((frame) => {
      const buffer = allocFrameBuffer(frame.body.length);
      frame.body.copy(buffer.body);
      const bytes = encodeFrame(frame, buffer, frame.body.length, crc32c);
      return buffer.bytes.subarray(0, bytes);
    }),
  );
}

/**
 * Decodes a stream that arrives in these pieces; with `placing`, what belongs to a body that is being
 * gathered is put where the decoder wants it.
 */
function decode(pieces: readonly Buffer[], bodyBytesMax = BODY_BYTES_MAX, placing = false) {
  const decoder = new FrameDecoder(crc32c, bodyBytesMax);
  const frames: Sent[] = [];
  const take = ({ type, flags, generation, epoch, body }: Frame) =>
    frames.push({ type, flags, generation, epoch, body: Buffer.from(body) });
  for (const piece of pieces) {
    const gap = placing ? decoder.gap : undefined;
    const placed = gap === undefined ? 0 : piece.copy(gap);
    decoder.push(piece.subarray(placed), take, placed);
  }
  return { frames, error: decoder.error, end: decoder.end() };
}

const split = (bytes: Buffer, cuts: readonly number[]): Buffer[] => {
  const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort(
    (a, b) => a - b,
  );
  return at.slice(1).map((end, i) => bytes.subarray(at[i], end));
};

describe('a stream of frames', () => {
  test('arrives as it was sent, in whatever pieces', () => {
    fc.assert(
      fc.property(
        fc.array(sent, { maxLength: 6 }),
        fc.array(fc.nat(3000), { maxLength: 12 }),
        fc.boolean(),
        (frames, cuts, placing) => {
          const result = decode(split(encode(frames), cuts), BODY_BYTES_MAX, placing);
          expect(result.end).toBeUndefined();
          expect(result.frames).toEqual(frames);
        },
      ),
      { numRuns: 500 },
    );
  });

  test('split into two at every byte, and into single bytes', () => {
    fc.assert(
      fc.property(fc.array(sent, { minLength: 1, maxLength: 3 }), (frames) => {
        const bytes = encode(frames);
        for (let cut = 0; cut <= bytes.length; cut++) {
          const result = decode([bytes.subarray(0, cut), bytes.subarray(cut)]);
          expect(result.frames).toEqual(frames);
        }
        const single = Array.from({ length: bytes.length }, (_, i) => bytes.subarray(i, i + 1));
        expect(decode(single).frames).toEqual(frames);
      }),
      { numRuns: 20 },
    );
  });

  test('cut off at every byte, hands out the whole frames and says that one is missing', () => {
    fc.assert(
      fc.property(fc.array(sent, { minLength: 1, maxLength: 3 }), (frames) => {
        const bytes = encode(frames);
        const ends = new Map([[0, 0]]);
        let at = 0;
        for (const [i, frame] of frames.entries()) {
          at += FRAME_HEADER_BYTES + frame.body.length;
          ends.set(at, i + 1);
        }
        let whole = 0;
        for (let cut = 0; cut <= bytes.length; cut++) {
          const clean = ends.get(cut);
          whole = clean ?? whole;
          const result = decode([bytes.subarray(0, cut)]);
          expect(result.frames).toEqual(frames.slice(0, whole));
          expect(result.end?.code).toBe(clean === undefined ? 'FT_ERR_FRAME_TRUNCATED' : undefined);
        }
      }),
      { numRuns: 20 },
    );
  });

  test('no single flipped bit goes unnoticed', () => {
    fc.assert(
      fc.property(sent, sent, (first, second) => {
        const bytes = encode([first, second]);
        const firstBits = (FRAME_HEADER_BYTES + first.body.length) * 8;
        for (let bit = 0; bit < firstBits; bit++) {
          const flipped = Buffer.from(bytes);
          flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
          const result = decode([flipped]);
          expect(result.frames).toEqual([]);
          expect(result.end?.code).toMatch(/^FT_ERR_FRAME_/);
        }
      }),
      { numRuns: 20 },
    );
  });

  test('garbage is refused and never throws', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 8 }),
        fc.boolean(),
        (pieces, magic) => {
          const bytes = pieces.map((piece) => Buffer.from(piece));
          if (magic) bytes.unshift(Buffer.from('RMLS\x01'));
          expect(decode(bytes).frames).toEqual([]);
        },
      ),
      { numRuns: 1000 },
    );
  });

  test('a length over the limit is refused before room is made for it', () => {
    const spy = jest.spyOn(Buffer, 'allocUnsafeSlow');
    fc.assert(
      fc.property(
        fc.integer({ min: 1025, max: 0xffffffff }),
        fc.integer({ min: 0, max: 0xffffffff }),
        fc.boolean(),
        (bodyBytes, rawBytes, lz4) => {
          const buffer = allocFrameBuffer(0);
          const header = { type: FrameType.epoch, flags: 0, generation: 1, epoch: 1 };
          encodeFrame(header, buffer, 0, crc32c);
          const bytes = Buffer.from(buffer.bytes);
          bytes.writeUInt16LE(lz4 ? FrameFlag.lz4 : 0, 6);
          bytes.writeUInt32LE(bodyBytes, 24);
          bytes.writeUInt32LE(lz4 ? rawBytes : bodyBytes, 28);
          bytes.writeUInt32LE(crc32c(bytes.subarray(0, 36)), 36);
          spy.mockClear();
          expect(decode([bytes], 1024).error?.code).toBe('FT_ERR_FRAME_LENGTH');
          expect(spy).not.toHaveBeenCalled();
        },
      ),
      { numRuns: 300 },
    );
    spy.mockRestore();
  });
});

describe('messages', () => {
  const name = fc.stringMatching(/^[a-zA-Z0-9._-]{1,64}$/);
  const feature = name.filter((it) => !it.endsWith('__proto__'));
  const text = fc
    .string({ maxLength: 200, unit: 'binary' })
    .filter((s) => Buffer.from(s).toString() === s);
  const word = fc.integer({ min: 0, max: 0xffffffff });
  const disk = fc.record({ bytes: fc.maxSafeNat(), readOnly: fc.boolean(), fingerprint: word });
  const syncId = fc.oneof(fc.constant(''), name);
  const disks = fc.array(fc.tuple(disk, syncId), { maxLength: 4 });
  const welcome: fc.Arbitrary<Welcome> = fc.record({
    nodeId: name,
    session: name,
    diskMaps: fc.array(fc.option(fc.uint8Array({ maxLength: 400 }), { nil: undefined }), {
      maxLength: 4,
    }),
    suspectAfterMs: fc.integer({ min: 2, max: 60_000 }),
  });
  const plain = fc.record({
    protocolVersion: fc.integer({ min: 0, max: 0xffff }),
    pair: name,
    nodeId: name,
    channel: fc.constantFrom('replication' as const, 'heartbeat' as const),
    session: name,
    machine: fc.record({
      kind: fc.constantFrom('kvm' as const, 'simulated' as const),
      memoryBytes: fc.maxSafeNat(),
      vcpus: fc.integer({ min: 0, max: 0xffff }),
      cpuFeatures: fc.dictionary(feature, word, { maxKeys: 40, noNullPrototype: true }),
      devices: fc.array(fc.stringMatching(/^[a-zA-Z0-9._:,=-]{1,64}$/), { maxLength: 8 }),
      stateVersion: word,
    }),
  });
  const hello: fc.Arbitrary<Hello> = fc.tuple(plain, disks).map(([it, pairs]) => ({
    ...it,
    machine: { ...it.machine, disks: pairs.map(([one]) => one) },
    diskSyncIds: pairs.map(([, id]) => id),
  }));
  const pack = (message: Message): Buffer => packFrame(message).buffer.body;

  test('arrive as they were sent', () => {
    fc.assert(
      fc.property(hello, (it) => expect(unpackHello(pack(it))).toEqual(it)),
      { numRuns: 500 },
    );
    fc.assert(fc.property(welcome, (it) => expect(unpackWelcome(pack(it))).toEqual(it)));
    fc.assert(
      fc.property(fc.array(word, { maxLength: 1024 }), (gfns) =>
        expect(unpackAuditMismatch(pack({ gfns }))).toEqual({ gfns }),
      ),
    );
    fc.assert(
      fc.property(text, text, text, text, (field, ours, theirs, message) => {
        const it = { code: 'FT_ERR_X', field, ours, theirs, message };
        expect(unpackRefuse(pack(it))).toEqual(it);
      }),
    );
  });

  test('whatever the bytes, the answer is a valid message or an error value', () => {
    const unpackers = [
      ...[unpackHello, unpackWelcome, unpackRefuse],
      ...[unpackAuditMismatch, unpackBye, unpackGuestEnd],
    ];
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      // Sound messages with a few bytes changed come much further.
      fc
        .tuple(
          fc.oneof(hello, welcome),
          fc.array(fc.tuple(fc.nat(600), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        )
        .map(([it, changes]) => {
          const packed = Buffer.from(pack(it));
          for (const [at, byte] of changes) packed[at % packed.length] = byte;
          return packed;
        }),
    );
    fc.assert(
      fc.property(bytes, (body) => {
        for (const unpack of unpackers) {
          const result = unpack(body);
          if (result instanceof Error) expect(result.code).toBe('FT_ERR_MESSAGE');
          else expect(unpack(pack(result))).toEqual(result);
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe('LZ4', () => {
  const compressible = fc
    .tuple(fc.uint8Array({ minLength: 1, maxLength: 64 }), fc.integer({ min: 1024, max: 20_000 }))
    .map(([seed, bytes]) => Buffer.alloc(bytes, Buffer.from(seed)));

  test('what is sent compressed is what arrives', () => {
    const into = Buffer.alloc(32_768);
    const decompressor = new Lz4Decompressor();
    fc.assert(
      fc.property(compressible, (body) => {
        const bytes = new Lz4Compressor(() => 0).compress(body, into);
        expect(bytes).toBeGreaterThan(0);
        const raw = decompressor.decompress(into.subarray(0, bytes), body.length);
        expect(Buffer.compare(raw as Uint8Array, body)).toBe(0);
      }),
    );
  });

  test('whatever the block, the answer has the length claimed or is an error value', () => {
    const decompressor = new Lz4Decompressor();
    const into = Buffer.alloc(32_768);
    fc.assert(
      fc.property(
        compressible,
        fc.array(fc.tuple(fc.nat(20_000), fc.nat(255)), { minLength: 1, maxLength: 5 }),
        fc.integer({ min: -3, max: 3 }),
        (body, changes, off) => {
          const bytes = new Lz4Compressor(() => 0).compress(body, into);
          const block = into.subarray(0, bytes);
          for (const [at, byte] of changes) block[at % bytes] = byte;
          const result = decompressor.decompress(block, body.length + off);
          if (result instanceof Error) expect(result.code).toBe('FT_ERR_FRAME_LZ4');
          else expect(result).toHaveLength(body.length + off);
        },
      ),
      { numRuns: 1000 },
    );
  });
});
