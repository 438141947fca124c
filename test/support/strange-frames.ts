/** Frames from where none are expected: torn, bent, oversized, of the wrong kind or the wrong pair. */
import { crc32c } from '../../src/common/crc32c';
import { allocFrameBuffer } from '../../src/wire/buffer-pool';
import { encodeFrame } from '../../src/wire/encoder';
import { FrameType, PROTOCOL_VERSION } from '../../src/wire/frame';
import { type Hello, packFrame } from '../../src/wire/messages';

function hello(session: string): Hello {
  return {
    protocolVersion: PROTOCOL_VERSION,
    pair: 'drill',
    nodeId: 'stranger',
    channel: 'replication',
    session,
    machine: {
      kind: 'kvm',
      memoryBytes: 64 * 1024 * 1024,
      vcpus: 1,
      cpuFeatures: {},
      devices: ['virtio-net', 'serial'],
      disks: [],
      stateVersion: 1,
    },
    diskSyncIds: [],
  };
}

export function helloBytes(message: Hello, generation = 0): Buffer {
  const header = { type: FrameType.hello, flags: 0, generation, epoch: 0 };
  const { buffer, bytes } = packFrame(message);
  return Buffer.from(buffer.bytes.subarray(0, encodeFrame(header, buffer, bytes, crc32c)));
}

/** A frame of any type with a true checksum, such as an epoch from nobody. */
function frameBytes(type: FrameType, body: Buffer, flags = 0, epoch = 0): Buffer {
  const buffer = allocFrameBuffer(Math.max(body.length, 1));
  body.copy(buffer.body);
  const length = encodeFrame({ type, flags, generation: 1, epoch }, buffer, body.length, crc32c);
  return Buffer.from(buffer.bytes.subarray(0, length));
}

/** Puts a field into a header and makes its checksum true again. */
export function withHeaderField(frame: Buffer, write: (copy: Buffer) => void): Buffer {
  const copy = Buffer.from(frame);
  write(copy);
  copy.writeUInt32LE(crc32c(copy.subarray(0, 36)) >>> 0, 36);
  return copy;
}

export function randomBytes(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = Math.floor(Math.random() * 256);
  return bytes;
}

/** Every kind of rubbish, by name; each call makes a fresh piece. */
export const strangeFrames: Readonly<Record<string, () => Buffer>> = {
  garbage: () => randomBytes(1 + Math.floor(Math.random() * 4000)),
  nothing: () => Buffer.alloc(0),
  truncated: () => {
    const whole = helloBytes(hello('cut-short'));
    return whole.subarray(0, 1 + Math.floor(Math.random() * (whole.length - 1)));
  },
  bitFlipped: () => {
    const whole = helloBytes(hello('flipped'));
    const bit = Math.floor(Math.random() * whole.length * 8);
    whole[bit >> 3] = (whole[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    return whole;
  },
  oversized: () =>
    withHeaderField(helloBytes(hello('too-long')), (copy) => {
      copy.writeUInt32LE(0xffff_fff0, 24);
      copy.writeUInt32LE(0xffff_fff0, 28);
    }),
  otherVersion: () =>
    withHeaderField(helloBytes(hello('version')), (copy) => copy.writeUInt8(99, 4)),
  otherPair: () => helloBytes({ ...hello('other-pair'), pair: 'somebody-else' }),
  impostor: () => helloBytes(hello('impostor')),
  impostorOfTheFuture: () => helloBytes(hello('future'), 4_000_000),
  epochFromNobody: () => frameBytes(FrameType.epoch, randomBytes(500), 2, 1),
  ackFromNobody: () => frameBytes(FrameType.ack, Buffer.alloc(0), 0, 1_000_000),
  badMessage: () => frameBytes(FrameType.hello, randomBytes(300)),
  helloThenEpochs: () =>
    Buffer.concat([
      helloBytes(hello('eager')),
      ...Array.from({ length: 20 }, (_, n) =>
        frameBytes(FrameType.epoch, randomBytes(900), 2, n + 1),
      ),
    ]),
};
