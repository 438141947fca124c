/** cutOff() closes every socket, whatever becomes of the reset, and says so. */
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { cutOff } from '../../src/transport/byte-stream';

describe('cutting a connection off', () => {
  let folder: string;
  let server: net.Server;
  let ends: net.Socket[];

  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-cut-'));
    ends = [];
  });

  afterEach(() => {
    for (const end of ends) end.destroy();
    server.close();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Both ends of a connection, and the errors that the second one saw. */
  const connection = async (at: 'tcp' | 'unix'): Promise<[net.Socket, net.Socket, string[]]> => {
    const came = new Promise<net.Socket>((resolve) => {
      server = net.createServer({ allowHalfOpen: true }, resolve);
    });
    const place = at === 'tcp' ? { port: 0, host: '127.0.0.1' } : { path: path.join(folder, 's') };
    await new Promise<void>((resolve) => server.listen(place, resolve));
    const bound = server.address();
    const client =
      typeof bound === 'object' && bound !== null
        ? net.connect(bound.port, '127.0.0.1')
        : net.connect(path.join(folder, 's'));
    const [other] = await Promise.all([
      came,
      new Promise<void>((resolve) => client.once('connect', () => resolve())),
    ]);
    const errors: string[] = [];
    client.on('error', () => undefined);
    other.on('error', (error: NodeJS.ErrnoException) => errors.push(error.code ?? ''));
    ends.push(client, other);
    return [client, other, errors];
  };

  const closed = (socket: net.Socket): Promise<void> =>
    new Promise((resolve) => socket.once('close', () => resolve()));

  test('TCP: the peer sees a reset', async () => {
    const [client, other, errors] = await connection('tcp');
    const both = Promise.all([closed(client), closed(other)]);
    other.resume();
    cutOff(client);
    await both;
    expect(errors).toEqual(['ECONNRESET']);
  });

  test('TCP whose end is on its way: it is closed all the same', async () => {
    const [client, other] = await connection('tcp');
    const gone = closed(client);
    const ended = new Promise((resolve) => other.once('end', resolve));
    other.resume();
    client.end();
    // The system is told in a later turn that the connection ends; in between, resets are refused.
    await new Promise<void>((resolve) => {
      const look = (): void => {
        if (client.writableLength === 0 && !client.writableFinished) resolve();
        else process.nextTick(look);
      };
      process.nextTick(look);
    });
    cutOff(client);
    await Promise.all([gone, ended]);
  });

  test('a UNIX socket, which knows no reset: closed, and what still comes harms nobody', async () => {
    const [client, other] = await connection('unix');
    const both = Promise.all([closed(client), closed(other)]);
    other.resume();
    other.on('end', () => other.end());
    other.write('x');
    cutOff(client);
    other.write('y');
    await both;
  });
});
