/** TCP connections: real sockets on loopback, friendly peers and hostile ones. */
import { spawn } from 'node:child_process';
import { connect, createServer, type Socket } from 'node:net';
import type { Address } from '../../src/common/address';
import { FtError } from '../../src/common/errors';
import { nativeSockets } from '../../src/machine';
import { type Connection, closedByPeer } from '../../src/transport/connection';
import { dial, LOW_WATER_BYTES, TcpConnection, type TcpOptions } from '../../src/transport/tcp';
import { TcpListener, WAITING_MAX } from '../../src/transport/tcp-listener';
import { allocFrameBuffer } from '../../src/wire/buffer-pool';
import { encodeFrame } from '../../src/wire/encoder';
import {
  BODY_BYTES_MAX,
  type FrameHeader,
  FrameType,
  PROTOCOL_VERSION,
} from '../../src/wire/frame';
import { unpackRefuse } from '../../src/wire/messages';

const LOOPBACK: Address = { host: '127.0.0.1', port: 0 };
const HEADER: FrameHeader = { type: FrameType.epoch, flags: 0, generation: 1, epoch: 1 };

interface Seen {
  epochs: number[];
  bodies: string[];
  closed: Promise<FtError | undefined>;
}

function watch(connection: Connection): Seen {
  const seen: Seen = {
    epochs: [],
    bodies: [],
    closed: new Promise((resolve) => {
      connection.onClose = resolve;
    }),
  };
  connection.onFrame = (frame) => {
    seen.epochs.push(frame.epoch);
    seen.bodies.push(Buffer.from(frame.body).toString('latin1'));
  };
  return seen;
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 5000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('waited 5 s in vain');
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

describe.each([
  ['over Node’s streams', (): TcpOptions => ({})],
  ['over plain system calls', (): TcpOptions => ({ openRaw: nativeSockets() })],
])('TcpConnection %s', (_kind, optionsOf) => {
  const options = optionsOf();
  let listener: TcpListener;
  let address: Address;
  const accepted: Connection[] = [];

  beforeEach(async () => {
    accepted.length = 0;
    listener = new TcpListener(options);
    listener.onConnection = (connection) => accepted.push(connection);
    address = await listener.listen(LOOPBACK);
  });

  afterEach(async () => {
    await listener.close();
    for (const connection of accepted) connection.close(new FtError('FT_ERR_TEST', 'over'));
  });

  async function pair(): Promise<[TcpConnection, Connection]> {
    const near = await dial(address, 1000, options);
    await until(() => accepted.length > 0);
    return [near, accepted[accepted.length - 1] as Connection];
  }

  async function stranger(): Promise<Socket> {
    const socket = connect({ host: address.host, port: address.port });
    socket.on('error', () => {});
    await new Promise((resolve) => socket.once('connect', resolve));
    await until(() => accepted.length > 0);
    return socket;
  }

  test('whoever came before the owner was ready is handed over then', async () => {
    const early = new TcpListener(options);
    const near = await dial(await early.listen(LOOPBACK), 1000, options);
    await until(() => early.waitingConnections === 1);
    early.onConnection = (connection) => accepted.push(connection);
    expect(accepted).toHaveLength(1);
    const seen = watch(accepted[0] as Connection);
    near.send(HEADER, allocFrameBuffer(0), 0);
    await until(() => seen.epochs.length === 1);
    near.close();
    await early.close();
  });

  test('frames arrive in order, singly and in bursts, and every buffer comes back', async () => {
    const [near, far] = await pair();
    watch(near);
    const seen = watch(far);
    let flushed = 0;
    for (let epoch = 1; epoch <= 50; epoch++) {
      const buffer = allocFrameBuffer(64);
      const bodyBytes = buffer.body.write(`body ${epoch}`, 'latin1');
      near.send({ ...HEADER, epoch }, buffer, bodyBytes, () => flushed++);
      if (epoch % 7 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await until(() => seen.epochs.length === 50 && flushed === 50);
    expect(seen.epochs).toEqual(Array.from({ length: 50 }, (_, i) => i + 1));
    expect(seen.bodies[49]).toBe('body 50');
    expect(near.bytesQueued).toBe(0);
    near.close();
    expect(await seen.closed).toBeUndefined();
  });

  test('what one side has sent is what the other has received, to the last byte', async () => {
    const [near, far] = await pair();
    for (const one of [near, far]) {
      watch(one);
      one.setMaxBodyBytes(BODY_BYTES_MAX);
    }
    expect([near.bytesSent, far.bytesReceived]).toEqual([0, 0]);
    let bytes = 0;
    for (const bodyBytes of [0, 1, 40, 3000, 300_000, 70_000, 0]) {
      near.send(HEADER, allocFrameBuffer(bodyBytes), bodyBytes);
      bytes += 40 + bodyBytes;
    }
    far.send(HEADER, allocFrameBuffer(7), 7);
    expect(near.bytesSent).toBe(bytes);
    await until(() => far.bytesReceived === bytes && near.bytesReceived === far.bytesSent);
    expect(far.bytesSent).toBe(47);
  });

  test('frames that leave together are told of as one turn, whose bodies are all still there', async () => {
    const [near, far] = await pair();
    watch(near);
    const views: Uint8Array[] = [];
    const turns: string[] = [];
    far.onFrame = (frame) => void views.push(frame.body);
    far.onTurn = () => {
      turns.push(views.map((body) => Buffer.from(body).toString('latin1')).join(' '));
      views.length = 0;
    };
    let flushed = 0;
    near.cork();
    for (let epoch = 1; epoch <= 5; epoch++) {
      const buffer = allocFrameBuffer(64);
      near.send({ ...HEADER, epoch }, buffer, buffer.body.write(`body ${epoch}`), () => flushed++);
    }
    expect(flushed).toBe(0);
    near.uncork();
    await until(() => turns.length > 0 && flushed === 5);
    expect(turns).toEqual(['body 1 body 2 body 3 body 4 body 5']);
    near.close();
  });

  test('of what is corked, much leaves before the uncorking; a close uncorks', async () => {
    const [near, far] = await pair();
    watch(near);
    const seen = watch(far);
    far.setMaxBodyBytes(BODY_BYTES_MAX);
    near.cork();
    near.send({ ...HEADER, epoch: 1 }, allocFrameBuffer(1 << 17), 1 << 17);
    await until(() => seen.epochs.length === 1);
    near.send({ ...HEADER, epoch: 2 }, allocFrameBuffer(8), 8);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(seen.epochs).toEqual([1]);
    near.close();
    expect(await seen.closed).toBeUndefined();
    expect(seen.epochs).toEqual([1, 2]);
  });

  test('frames sent before the far side takes them are not lost', async () => {
    const [near, far] = await pair();
    near.send(HEADER, allocFrameBuffer(0), 0);
    await new Promise((resolve) => setTimeout(resolve, 30));
    const seen = watch(far);
    await until(() => seen.epochs.length === 1);
    near.close();
  });

  test('what was sent before an orderly close still arrives', async () => {
    const [near, far] = await pair();
    const nearSeen = watch(near);
    const seen = watch(far);
    far.setMaxBodyBytes(BODY_BYTES_MAX);
    for (let epoch = 1; epoch <= 4; epoch++) {
      near.send({ ...HEADER, epoch }, allocFrameBuffer(1 << 20), 1 << 20);
    }
    near.close();
    expect(await seen.closed).toBeUndefined();
    expect(await nearSeen.closed).toBeUndefined();
    expect(seen.epochs).toEqual([1, 2, 3, 4]);
  });

  test('a handler replaced between two frames of one chunk takes the second', async () => {
    const [near, far] = await pair();
    watch(near);
    const second: number[] = [];
    far.onFrame = () => {
      far.onFrame = (frame) => second.push(frame.epoch);
    };
    near.send({ ...HEADER, epoch: 1 }, allocFrameBuffer(0), 0);
    near.send({ ...HEADER, epoch: 2 }, allocFrameBuffer(0), 0);
    near.send({ ...HEADER, epoch: 3 }, allocFrameBuffer(0), 0);
    await until(() => second.length === 2);
    expect(second).toEqual([2, 3]);
  });

  test('closing with an error resets the peer and returns every buffer', async () => {
    const [near, far] = await pair();
    const farClosed = watch(far).closed;
    const nearClosed = watch(near).closed;
    let flushed = 0;
    for (let i = 0; i < 40; i++) {
      near.send(HEADER, allocFrameBuffer(1 << 16), 1 << 16, () => flushed++);
    }
    const why = new FtError('FT_ERR_TEST', 'enough');
    near.close(why);
    expect(await nearClosed).toBe(why);
    // Reset, end within a frame, or end: which one the far side sees depends on what it had read.
    expect([undefined, 'FT_ERR_CONNECTION_LOST', 'FT_ERR_FRAME_TRUNCATED']).toContain(
      (await farClosed)?.code,
    );
    // Each of them says that the peer's kernel ended it; what this side did itself says nothing.
    expect([closedByPeer(await farClosed), closedByPeer(await nearClosed)]).toEqual([true, false]);
    await until(() => flushed === 40);
    near.send(HEADER, allocFrameBuffer(0), 0, () => flushed++);
    await until(() => flushed === 41);
  });

  test('a connection that is closing in order can still be cut off', async () => {
    const [near, far] = await pair();
    watch(near);
    const nearClosed = new Promise((resolve) => {
      near.onClose = resolve;
    });
    let flushed = 0;
    for (let i = 0; i < 100; i++) {
      near.send(HEADER, allocFrameBuffer(1 << 16), 1 << 16, () => flushed++);
    }
    near.close();
    const why = new FtError('FT_ERR_TEST', 'enough');
    near.close(why);
    expect(await nearClosed).toBe(why);
    await until(() => flushed === 100);
    far.close();
  });

  test('an idle one that is closing in order is cut off, and its socket is freed', async () => {
    const sockets = (): number =>
      process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length;
    const before = sockets();
    const [near, far] = await pair();
    watch(near);
    expect(sockets()).toBeGreaterThanOrEqual(2);
    // The listener's side: an end first, then a cut while the end is under way.
    far.close();
    far.close(new FtError('FT_ERR_TEST', 'enough'));
    await until(() => sockets() <= before);
  });

  test('what is sent from within onDrain and onFlushed arrives whole, and in order', async () => {
    const [near, far] = await pair();
    watch(near);
    far.setMaxBodyBytes(BODY_BYTES_MAX);
    let epoch = 0;
    const send = (bytes: number, more: () => void = () => undefined): void => {
      epoch += 1;
      const buffer = allocFrameBuffer(bytes);
      buffer.body.fill(epoch);
      near.send({ ...HEADER, epoch }, buffer, bytes, more);
    };
    near.onDrain = () => {
      if (epoch > 400) return;
      near.cork();
      for (let i = 0; i < 40; i++) send(100_003 + i, () => epoch < 420 && send(1003));
      near.uncork();
    };
    for (let i = 0; i < 80; i++) send(100_003);
    await new Promise((resolve) => setTimeout(resolve, 20));
    const seen = watch(far);
    await until(() => epoch > 400 && seen.epochs.length === epoch);
    expect(seen.epochs).toEqual(Array.from({ length: epoch }, (_, i) => i + 1));
    near.close();
    expect(await seen.closed).toBeUndefined();
  });

  test('onDrain comes when the queue falls under the low-water mark', async () => {
    const [near, far] = await pair();
    let drains = 0;
    watch(near);
    near.onDrain = () => drains++;
    far.setMaxBodyBytes(BODY_BYTES_MAX);
    for (let i = 0; i < 8; i++) near.send(HEADER, allocFrameBuffer(1 << 20), 1 << 20);
    expect(near.bytesQueued).toBeGreaterThan(LOW_WATER_BYTES);
    await new Promise((resolve) => setTimeout(resolve, 20));
    const seen = watch(far);
    await until(() => near.bytesQueued === 0 && seen.epochs.length === 8);
    expect(drains).toBeGreaterThanOrEqual(1);
  });

  test.each([
    [
      'garbage',
      Buffer.from('GET / HTTP/1.1\r\nHost: example\r\n\r\n'.repeat(3)),
      'FT_ERR_FRAME_MAGIC',
    ],
    ['a body over the handshake limit', headerOf(BODY_BYTES_MAX), 'FT_ERR_FRAME_LENGTH'],
  ])('%s from a stranger ends its connection and no other', async (_name, bytes, code) => {
    const [near, far] = await pair();
    const good = watch(far);
    watch(near);
    accepted.length = 0;
    const socket = await stranger();
    const bad = watch(accepted[0] as Connection);
    socket.write(bytes);
    expect((await bad.closed)?.code).toBe(code);
    expect(bad.epochs).toEqual([]);
    near.send(HEADER, allocFrameBuffer(0), 0);
    await until(() => good.epochs.length === 1);
    near.close();
  });

  test('an end within a frame is told from an end between frames', async () => {
    const socket = await stranger();
    const seen = watch(accepted[0] as Connection);
    socket.end(headerOf(100).subarray(0, 17));
    expect((await seen.closed)?.code).toBe('FT_ERR_FRAME_TRUNCATED');
  });

  test('a peer of another protocol version is told so', async () => {
    const socket = await stranger();
    const seen = watch(accepted[0] as Connection);
    const reply: Buffer[] = [];
    socket.on('data', (chunk) => reply.push(chunk));
    const ended = new Promise((resolve) => socket.once('end', resolve));
    const header = headerOf(0);
    header[4] = PROTOCOL_VERSION + 1;
    socket.write(header);
    expect((await seen.closed)?.code).toBe('FT_ERR_FRAME_VERSION');
    await ended;
    const refuse = unpackRefuse(Buffer.concat(reply).subarray(40));
    expect(refuse).toMatchObject({
      field: 'protocolVersion',
      ours: `${PROTOCOL_VERSION}`,
      theirs: `${PROTOCOL_VERSION + 1}`,
    });
  });

  test('a reset by a stranger is an error value', async () => {
    const socket = await stranger();
    const seen = watch(accepted[0] as Connection);
    socket.resetAndDestroy();
    expect((await seen.closed)?.code).toBe('FT_ERR_CONNECTION_LOST');
    expect(closedByPeer(await seen.closed)).toBe(true);
  });

  test('no more than 16 strangers may dither over their handshake', async () => {
    const troubles: string[] = [];
    listener.onTrouble = (error) => troubles.push(error.code);
    const sockets: Socket[] = [];
    for (let i = 0; i < WAITING_MAX; i++) sockets.push(await stranger());
    await until(() => accepted.length === WAITING_MAX);
    for (const connection of accepted) watch(connection);
    // One more: whoever dithers longest makes room for it.
    const first = new Promise((resolve) => sockets[0]?.once('close', resolve));
    const near = await dial(address, 1000, options);
    await first;
    await until(() => accepted.length === WAITING_MAX + 1);
    expect(troubles).toEqual(['FT_ERR_TOO_MANY_HANDSHAKES']);
    expect(listener.waitingConnections).toBe(WAITING_MAX);
    // One that finishes its handshake is no more among them.
    (accepted.at(-1) as Connection).setMaxBodyBytes(BODY_BYTES_MAX);
    expect(listener.waitingConnections).toBe(WAITING_MAX - 1);
    const next = await dial(address, 1000, options);
    await until(() => accepted.length === WAITING_MAX + 2);
    expect(troubles).toHaveLength(1);
    for (const socket of [...sockets, near, next]) {
      if (socket instanceof TcpConnection) socket.close();
      else socket.destroy();
    }
  });

  test('a taken port is said in words', async () => {
    const second = new TcpListener();
    const error = await second.listen(address).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(FtError);
    expect(error).toMatchObject({ code: 'FT_ERR_PORT_TAKEN' });
    expect((error as FtError).message).toContain(`127.0.0.1:${address.port}`);
  });

  test('an address of another machine cannot be listened at', async () => {
    const listen = new TcpListener().listen({ host: '192.0.2.1', port: 7001 });
    await expect(listen).rejects.toMatchObject({ code: 'FT_ERR_LISTEN' });
  });

  test('after close the port is free', async () => {
    await listener.close();
    const again = new TcpListener();
    expect(await again.listen(address)).toEqual(address);
    await again.close();
  });
});

describe('dial', () => {
  test('nobody there', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    await new Promise((resolve) => server.close(resolve));
    const error = dial({ host: '127.0.0.1', port }, 1000);
    await expect(error).rejects.toMatchObject({ code: 'FT_ERR_DIAL_REFUSED' });
  });

  test('a name that cannot be resolved', async () => {
    const error = dial({ host: 'no-such-host.invalid', port: 1 }, 3000);
    await expect(error).rejects.toBeInstanceOf(FtError);
  });

  test('nobody answers in time', async () => {
    // A stopped listener accepts nothing; once its backlog is full the kernel ignores further SYNs.
    const program =
      "const s=require('net').createServer(); s.listen({host:'127.0.0.1',port:0,backlog:1}," +
      '()=>process.stdout.write(String(s.address().port)))';
    const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'ignore'] });
    try {
      const port = await new Promise<number>((resolve) =>
        child.stdout.once('data', (text: Buffer) => resolve(Number(text))),
      );
      child.kill('SIGSTOP');
      await new Promise((resolve) => setTimeout(resolve, 50));
      const codes: string[] = [];
      for (let i = 0; i < 4; i++) {
        const result = await dial({ host: '127.0.0.1', port }, 200).catch((e: FtError) => e);
        if (result instanceof FtError) codes.push(result.code);
        else result.close(new FtError('FT_ERR_TEST', 'over'));
      }
      expect(codes).toContain('FT_ERR_DIAL_TIMEOUT');
    } finally {
      child.kill('SIGKILL');
    }
  });
});

/** A valid header of an epoch that announces `bodyBytes`, without the body. */
function headerOf(bodyBytes: number): Buffer {
  const buffer = allocFrameBuffer(bodyBytes);
  encodeFrame(HEADER, buffer, bodyBytes, () => 0);
  return Buffer.from(buffer.bytes.subarray(0, 40));
}
