/** The console of real processes: a socket on both sides of a pair, and standard streams. */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { Pair } from '../../src/drill/pair/pair';
import { until } from '../../src/drill/process/time';
import { kvmDescribe } from '../support/kvm';

/** A client attached to a console socket. */
class Attached {
  text = '';
  ended = false;
  private constructor(readonly socket: net.Socket) {
    socket.on('data', (data) => {
      this.text += data.toString('latin1');
    });
    socket.on('close', () => {
      this.ended = true;
    });
    socket.on('error', () => undefined);
  }

  static connect(file: string): Promise<Attached> {
    return new Promise((resolve, reject) => {
      const socket = net.connect(file);
      const attached = new Attached(socket);
      socket.once('connect', () => resolve(attached));
      socket.once('error', reject);
    });
  }

  has(words: string, timeoutMs = 5000): Promise<void> {
    return until(`"${words}" on the console`, () => this.text.includes(words), timeoutMs);
  }
}

kvmDescribe('the console', () => {
  let folder: string;
  let pair: Pair;
  const clients: Attached[] = [];
  const attach = async (name: string): Promise<Attached> => {
    const client = await Attached.connect(path.join(folder, name));
    clients.push(client);
    return client;
  };

  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-console-'));
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) client.socket.destroy();
    await pair.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test('a socket: replayed on attach, one client, silent on a standby until it takes over', async () => {
    pair = new Pair({
      machine: 'kvm',
      name: 'console',
      slotFlags: (slot) => ['--console', `unix:${path.join(folder, slot.name)}`],
    });
    await pair.start();
    expect(statSync(path.join(folder, 'a')).mode & 0o777).toBe(0o600);

    const first = await attach('a');
    await first.has('beacon: up');
    const second = await attach('a');
    await second.has('another client is attached');
    await until('the second to be turned away', () => second.ended, 2000);
    first.socket.destroy();
    const again = await attach('a');
    await again.has('beacon: up');

    const waiting = await attach('b');
    await waiting.has('standby; the guest runs elsewhere');
    expect(waiting.text).not.toContain('beacon: up');
    await pair.killActive();
    await until('the killed one’s socket to close', () => again.ended, 2000);
    // The same client is on the running guest's console now, and stays attached.
    waiting.socket.write('typed');
    expect(waiting.ended).toBe(false);

    // The killed process left its socket file; the next one takes its place.
    await pair.rejoin();
    const standby = await attach('a');
    await standby.has('standby; the guest runs elsewhere');
  });
});
