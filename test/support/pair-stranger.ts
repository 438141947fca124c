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
import { FRAME_HEADER_BYTES } from '../../src/wire/frame';
import { unpackHello } from '../../src/wire/messages';
import { helloBytes, strangeFrames, withHeaderField } from './strange-frames';

/** How long one rubbish connection is left open when the other side does not close it. */
const PATIENCE_MS = 400;

const counts: Record<string, number> = {};

function tell(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

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
      for (const [kind, make] of Object.entries(strangeFrames)) await harass(port, kind, make());
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
