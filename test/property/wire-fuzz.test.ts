/**
 * A wire fuzzer: sound streams, mutated at random for FT_FUZZ_SECONDS (5 by default), decoded in
 * random pieces. FT_FUZZ_SEED replays a run; a failure names its seed and round.
 *
 * Held in every round: nothing throws; what is handed out was sound (its own checksum says so); no
 * body is over the limit; a dead decoder stays dead; every message unpacks to a value or an
 * error value.
 */
import { crc32c } from '../../src/common/crc32c';
import { FtError } from '../../src/common/errors';
import { allocFrameBuffer } from '../../src/wire/buffer-pool';
import { Lz4Compressor, Lz4Decompressor } from '../../src/wire/compressor';
import { FrameDecoder } from '../../src/wire/decoder';
import { encodeFrame } from '../../src/wire/encoder';
import { type Frame, FrameFlag, FrameType } from '../../src/wire/frame';
import { writeHeartbeat } from '../../src/wire/heartbeat';
import {
  packFrame,
  unpackAuditMismatch,
  unpackBye,
  unpackGuestEnd,
  unpackHello,
  unpackRefuse,
  unpackWelcome,
} from '../../src/wire/messages';

const SECONDS = Number(process.env['FT_FUZZ_SECONDS'] ?? 5);
const SEED = Number(process.env['FT_FUZZ_SEED'] ?? 20_260_101);
const LIMIT_BYTES = 16 * 1024;

/** xorshift32: small, and the same everywhere. */
class Random {
  constructor(private state: number) {
    if (this.state === 0) this.state = 1;
  }

  /** 0 … below `limit`. */
  below(limit: number): number {
    this.state ^= this.state << 13;
    this.state ^= this.state >>> 17;
    this.state ^= this.state << 5;
    return (this.state >>> 0) % limit;
  }
}

function frameOf(random: Random): Buffer {
  let buffer = allocFrameBuffer(LIMIT_BYTES);
  const kind = random.below(7);
  const header = {
    type: FrameType.epoch as FrameType,
    flags: 0,
    generation: 1,
    epoch: 5,
    rawBytes: 0,
  };
  let bytes = random.below(random.below(8) === 0 ? 5000 : 100);
  if (kind === 0) {
    header.type = FrameType.bye;
    header.epoch = 0;
    ({ buffer, bytes } = packFrame({ reason: 'x'.repeat(random.below(50)) }));
  } else if (kind === 1) {
    header.type = FrameType.auditMismatch;
    const gfns = Array.from({ length: random.below(20) }, () => random.below(1 << 20));
    ({ buffer, bytes } = packFrame({ gfns }));
  } else if (kind === 2) {
    header.type = FrameType.hello;
    header.epoch = 0;
    ({ buffer, bytes } = packFrame({
      protocolVersion: 1,
      pair: 'web',
      nodeId: 'alpha',
      channel: 'replication',
      session: 's',
      machine: {
        kind: 'kvm',
        memoryBytes: 1 << 28,
        vcpus: 1,
        cpuFeatures: { 'cpuid.1.0.ecx': random.below(1 << 30) },
        devices: ['virtio-net'],
        disks: [{ bytes: 1 << 30, readOnly: false, fingerprint: 0 }],
        stateVersion: 1,
      },
      diskSyncIds: ['s'],
    }));
  } else if (kind === 3) {
    header.type = random.below(2) === 0 ? FrameType.ack : FrameType.heartbeat;
    const [echo, received, sent] = [random.below(1 << 30), random.below(9), random.below(9)];
    const beat = { sequence: 1 + random.below(1 << 30), echo, received, sent };
    bytes = header.type === FrameType.ack ? 0 : writeHeartbeat(beat, buffer.body);
  } else if (kind === 4) {
    const raw = Buffer.alloc(1024 + random.below(8000), random.below(256));
    bytes = new Lz4Compressor(() => 0).compress(raw, buffer.body);
    header.flags = FrameFlag.lz4;
    header.rawBytes = raw.length;
  } else {
    for (let i = 0; i < bytes; i++) buffer.body[i] = random.below(256);
  }
  if ((header.flags & FrameFlag.lz4) === 0) header.rawBytes = bytes;
  return Buffer.from(buffer.bytes.subarray(0, encodeFrame(header, buffer, bytes, crc32c)));
}

/** Changes the stream in one of the ways in which streams go wrong. */
function mutate(stream: Buffer, random: Random): Buffer {
  const at = random.below(stream.length);
  switch (random.below(7)) {
    case 0: // a bit
      stream[at] = (stream[at] as number) ^ (1 << random.below(8));
      return stream;
    case 1: // a byte
      stream[at] = random.below(256);
      return stream;
    case 2: // a piece is missing
      return Buffer.concat([stream.subarray(0, at), stream.subarray(at + 1 + random.below(60))]);
    case 3: // a piece comes twice
      return Buffer.concat([stream.subarray(0, at), stream.subarray(random.below(at + 1))]);
    case 4: // an end
      return stream.subarray(0, at);
    case 5: // an interesting number somewhere
      stream.writeUInt32LE(
        [0, 1, 0x7fffffff, 0x80000000, 0xffffffff, LIMIT_BYTES, LIMIT_BYTES + 1][
          random.below(7)
        ] as number,
        Math.min(at, stream.length - 4),
      );
      return stream;
    default: // a header field with a checksum that vouches for it: past the first line of defence
      for (let offset = 0; offset + 40 <= stream.length; offset++) {
        if (stream.toString('latin1', offset, offset + 4) !== 'RMLS' || random.below(3) > 0)
          continue;
        stream[offset + 4 + random.below(32)] = random.below(256);
        stream.writeUInt32LE(crc32c(stream.subarray(offset, offset + 36)), offset + 36);
        break;
      }
      return stream;
  }
}

function checkFrame(frame: Frame, decompressor: Lz4Decompressor): void {
  expect(frame.body.length).toBeLessThanOrEqual(LIMIT_BYTES);
  expect(frame.rawBytes).toBeLessThanOrEqual(LIMIT_BYTES);
  expect(Number.isSafeInteger(frame.generation) && Number.isSafeInteger(frame.epoch)).toBe(true);
  const { body } = frame;
  let result: unknown;
  if ((frame.flags & FrameFlag.lz4) !== 0) result = decompressor.decompress(body, frame.rawBytes);
  else if (frame.type === FrameType.hello) result = unpackHello(body);
  else if (frame.type === FrameType.welcome) result = unpackWelcome(body);
  else if (frame.type === FrameType.refuse) result = unpackRefuse(body);
  else if (frame.type === FrameType.auditMismatch) result = unpackAuditMismatch(body);
  else if (frame.type === FrameType.bye) result = unpackBye(body);
  else if (frame.type === FrameType.guestEnd) result = unpackGuestEnd(body);
  if (result instanceof Error) expect(result).toBeInstanceOf(FtError);
}

test(
  `mutated streams for ${SECONDS} s`,
  () => {
    const until = performance.now() + SECONDS * 1000;
    const decompressor = new Lz4Decompressor();
    const codes = new Map<string, number>();
    let rounds = 0;
    let frames = 0;
    for (; performance.now() < until; rounds++) {
      const random = new Random(SEED + rounds * 2_654_435);
      try {
        let stream: Buffer = Buffer.concat(
          Array.from({ length: 1 + random.below(4) }, () => frameOf(random)),
        );
        const changes = random.below(4);
        for (let i = 0; i < changes && stream.length >= 4; i++) stream = mutate(stream, random);
        const decoder = new FrameDecoder(crc32c, LIMIT_BYTES);
        for (let at = 0; at < stream.length; ) {
          const next = Math.min(stream.length, at + 1 + random.below(700));
          const before = decoder.error;
          decoder.push(stream.subarray(at, next), (frame) => {
            if (before !== undefined) throw new Error('a dead decoder handed out a frame');
            frames++;
            checkFrame(frame, decompressor);
          });
          if (before !== undefined && decoder.error !== before) throw new Error('error changed');
          at = next;
        }
        const error = decoder.end();
        if (changes === 0) expect(error).toBeUndefined();
        codes.set(error?.code ?? 'sound', (codes.get(error?.code ?? 'sound') ?? 0) + 1);
      } catch (thrown) {
        throw new Error(`FT_FUZZ_SEED=${SEED}, round ${rounds}: ${String(thrown)}`, {
          cause: thrown,
        });
      }
    }
    // The fuzzer is worth its time only if it gets everywhere.
    expect(rounds).toBeGreaterThan(100 * SECONDS);
    expect(frames).toBeGreaterThan(rounds / 2);
    for (const what of [
      'HEADER_CRC',
      'BODY_CRC',
      'MAGIC',
      'LENGTH',
      'FLAGS',
      'TYPE',
      'TRUNCATED',
    ]) {
      expect([...codes.keys()]).toContain(`FT_ERR_FRAME_${what}`);
    }
    process.stdout.write(`wire fuzz: ${rounds} streams, ${frames} frames handed out\n`);
  },
  SECONDS * 1000 + 30_000,
);
