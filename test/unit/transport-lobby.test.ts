/** The lobby before a listener's door, with real sockets: who waits, who enters, who is forgotten. */
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { sleep } from '../../src/drill/process/time';
import { Gate } from '../../src/transport/gate';
import { HOLD_MS, Lobby } from '../../src/transport/lobby';

describe('the lobby', () => {
  let folder: string;
  let server: net.Server;
  let lobby: Lobby;
  let entered: net.Socket[];
  let turnedAway: string[];
  let clients: net.Socket[];

  const open = async (perSecond: number): Promise<void> => {
    const rate = { burst: 2, perSecond };
    const gate = new Gate({ perAddress: rate, strangers: rate }, performance.now());
    lobby = new Lobby(
      gate,
      (socket) => entered.push(socket),
      (host) => turnedAway.push(host),
    );
    server = net.createServer((socket) => lobby.arrived(socket, 'all'));
    await new Promise<void>((resolve) => server.listen(path.join(folder, 'x.sock'), resolve));
  };

  const come = async (): Promise<net.Socket> => {
    const socket = net.connect(path.join(folder, 'x.sock'));
    socket.on('error', () => undefined);
    clients.push(socket);
    await new Promise((resolve) => socket.once('connect', resolve));
    return socket;
  };

  const until = async (what: () => boolean, ms: number): Promise<void> => {
    const end = performance.now() + ms;
    while (!what() && performance.now() < end) await sleep(10);
  };

  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-lobby-'));
    [entered, turnedAway, clients] = [[], [], []];
  });

  afterEach(() => {
    for (const socket of [...clients, ...entered]) socket.destroy();
    lobby.close();
    server.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test('sockets without an address are of the place that their server names', async () => {
    await open(20);
    for (let n = 0; n < 3; n += 1) await come();
    await until(() => entered.length + lobby.size === 3, 2000);
    expect(entered.length).toBeGreaterThanOrEqual(2);
    await until(() => entered.length === 3, 2000);
    expect([entered.length, lobby.size, turnedAway]).toEqual([3, 0, []]);
  });

  test('who waits too long is cut off, and its server hears of it', async () => {
    await open(0.001);
    for (let n = 0; n < 3; n += 1) await come();
    await until(() => turnedAway.length === 1, HOLD_MS + 2000);
    expect([entered.length, lobby.size, turnedAway]).toEqual([2, 0, ['all']]);
  });

  test('who goes away while it waits does not enter, and takes no try', async () => {
    await open(3);
    for (let n = 0; n < 2; n += 1) await come();
    await come();
    await until(() => lobby.size === 1, 1000);
    const [held] = (lobby as unknown as { held: { socket: net.Socket }[] }).held;
    held?.socket.destroy();
    await until(() => lobby.size === 0, 1000);
    await sleep(400);
    expect([entered.length, lobby.size, turnedAway]).toEqual([2, 0, []]);
  });
});
