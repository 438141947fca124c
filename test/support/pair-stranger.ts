/**
 * Bytes from where none are expected, as a process of its own inside the pair's namespace.
 *
 *   pair-stranger attack PORT MILLISECONDS    sends all kinds of rubbish to a standby's port
 *   pair-stranger proxy LISTEN TARGET JSON    stands between primary and standby and changes the
 *                                             primary's hello: {"memoryBytes":…, "cpuFeatures":{…},
 *                                             "protocolVersion":…, "frameVersion":…}
 *
 * Says {"event":"ready"} when it listens or begins, {"event":"done", …counts} at the end of attack.
 */
import { connect, createServer, type Socket } from 'node:net';
import { crc32c } from '../../src/common/crc32c';
import { allocFrameBuffer } from '../../src/wire/buffer-pool';
import { encodeFrame } from '../../src/wire/encoder';
import { FRAME_HEADER_BYTES, FrameType, PROTOCOL_VERSION } from '../../src/wire/frame';
import { type Hello, packMessage, unpackHello } from '../../src/wire/messages';

const MESSAGE_ROOM_BYTES = 64 * 1024;
/** How long one rubbish connection is left open when the other side does not close it. */
const PATIENCE_MS = 400;

const counts: Record<string, number> = {};

function tell(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

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

function helloBytes(message: Hello, generation = 0): Buffer {
  const buffer = allocFrameBuffer(MESSAGE_ROOM_BYTES);
  const header = { type: FrameType.hello, flags: 0, generation, epoch: 0 };
  const bytes = encodeFrame(header, buffer, packMessage(message, buffer), crc32c);
  return Buffer.from(buffer.bytes.subarray(0, bytes));
}

/** A frame of any type with a true checksum, such as an epoch from nobody. */
function frameBytes(type: FrameType, body: Buffer, flags = 0, epoch = 0): Buffer {
  const buffer = allocFrameBuffer(Math.max(body.length, 1));
  body.copy(buffer.body);
  const length = encodeFrame({ type, flags, generation: 1, epoch }, buffer, body.length, crc32c);
  return Buffer.from(buffer.bytes.subarray(0, length));
}

/** Puts a field into a header and makes its checksum true again. */
function withHeaderField(frame: Buffer, write: (copy: Buffer) => void): Buffer {
  const copy = Buffer.from(frame);
  write(copy);
  copy.writeUInt32LE(crc32c(copy.subarray(0, 36)) >>> 0, 36);
  return copy;
}

function randomBytes(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = Math.floor(Math.random() * 256);
  return bytes;
}

/** Every kind of rubbish, by name; each call makes a fresh piece. */
const kinds: Readonly<Record<string, () => Buffer>> = {
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

/** One connection that sends one piece and waits to be closed. */
function harass(port: number, kind: string, bytes: Buffer): Promise<void> {
  counts[kind] = (counts[kind] ?? 0) + 1;
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    const timer = setTimeout(() => socket.destroy(), PATIENCE_MS);
    socket.on('error', () => undefined);
    socket.on('data', () => {
      counts['answered'] = (counts['answered'] ?? 0) + 1;
    });
    socket.on('close', () => {
      clearTimeout(timer);
      resolve();
    });
    socket.on('connect', () => {
      if (bytes.length > 0) socket.write(bytes);
    });
  });
}

async function attack(port: number, durationMs: number): Promise<void> {
  tell({ event: 'ready' });
  const endMs = performance.now() + durationMs;
  const lane = async (): Promise<void> => {
    while (performance.now() < endMs) {
      for (const [kind, make] of Object.entries(kinds)) await harass(port, kind, make());
    }
  };
  await Promise.all([lane(), lane(), lane()]);
  tell({ event: 'done', counts });
}

interface Changes {
  readonly memoryBytes?: number;
  readonly cpuFeatures?: Readonly<Record<string, number>>;
  readonly protocolVersion?: number;
  readonly frameVersion?: number;
}

/** The primary's hello with the changes in it. */
function altered(frame: Buffer, changes: Changes): Buffer {
  const message = unpackHello(frame.subarray(FRAME_HEADER_BYTES));
  if (message instanceof Error) throw message;
  const { machine } = message;
  const bytes = helloBytes(
    {
      ...message,
      protocolVersion: changes.protocolVersion ?? message.protocolVersion,
      machine: {
        ...machine,
        memoryBytes: changes.memoryBytes ?? machine.memoryBytes,
        cpuFeatures: { ...machine.cpuFeatures, ...changes.cpuFeatures },
      },
    },
    Number(frame.readBigUInt64LE(8)),
  );
  const { frameVersion } = changes;
  if (frameVersion === undefined) return bytes;
  return withHeaderField(bytes, (copy) => copy.writeUInt8(frameVersion, 4));
}

function relay(client: Socket, target: number, changes: Changes): void {
  const server = connect({ host: '127.0.0.1', port: target, noDelay: true });
  let first: Buffer | undefined = Buffer.alloc(0);
  const end = (): void => {
    client.destroy();
    server.destroy();
  };
  for (const socket of [client, server]) {
    socket.on('error', end);
    socket.on('end', end);
  }
  server.on('data', (chunk) => client.write(chunk));
  client.on('data', (chunk: Buffer) => {
    if (first === undefined) {
      server.write(chunk);
      return;
    }
    first = Buffer.concat([first, chunk]);
    if (first.length < FRAME_HEADER_BYTES) return;
    const length = FRAME_HEADER_BYTES + first.readUInt32LE(24);
    if (first.length < length) return;
    server.write(altered(first.subarray(0, length), changes));
    server.write(first.subarray(length));
    first = undefined;
  });
}

const [mode, from, to, more] = process.argv.slice(2);
if (mode === 'attack') {
  void attack(Number(from), Number(to)).then(() => process.exit(0));
} else {
  const changes = JSON.parse(more ?? '{}') as Changes;
  const server = createServer((client) => relay(client, Number(to), changes));
  server.listen(Number(from), '127.0.0.1', () => tell({ event: 'ready' }));
}
