/**
 * The oracle's clients against a reference guest on a loopback port: on a bad network nothing is
 * unanswered, and a guest that forgets what it said is found out through real sockets, too.
 */
import dgram from 'node:dgram';
import { judge } from '../../src/drill/oracle/oracle';
import { OracleClients } from '../../src/drill/oracle/oracle-client';
import { At, Op } from '../../src/drill/oracle/oracle-layout';
import { ArrivalLog } from '../../src/drill/oracle/oracle-meter';
import { ReferenceBeacon } from '../support/oracle-model';

/** A UDP server around the reference guest that can lose, repeat and hold packets. */
class Server {
  readonly beacon = new ReferenceBeacon(77n);
  dropOneIn = 0;
  mute = false;
  private readonly socket = dgram.createSocket('udp4');
  private count = 0;

  async open(): Promise<number> {
    this.socket.on('message', (bytes, from) => {
      this.count++;
      if (this.mute || (this.dropOneIn > 0 && this.count % this.dropOneIn === 0)) return;
      const answer = this.beacon.serve(bytes);
      if (this.dropOneIn > 0 && this.count % this.dropOneIn === 1) return;
      this.socket.send(answer, from.port, from.address);
      if (this.dropOneIn > 0) this.socket.send(answer, from.port, from.address);
    });
    await new Promise<void>((resolve) => this.socket.bind(0, '127.0.0.1', resolve));
    return this.socket.address().port;
  }

  close(): void {
    this.socket.close();
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

describe('oracle clients', () => {
  let server: Server;
  let clients: OracleClients;

  beforeEach(async () => {
    server = new Server();
    const port = await server.open();
    clients = new OracleClients({ host: '127.0.0.1', port, clients: 8, ratePerSecond: 2000 });
    await clients.open();
  });

  afterEach(() => {
    clients.close();
    server.close();
  });

  test('on a network that loses and repeats, every request is answered and all is clean', async () => {
    server.dropOneIn = 9;
    clients.start();
    await sleep(600);
    expect(await clients.rest(5000)).toBe(0);
    expect(await clients.readBack(5000)).toBe(0);
    const verdict = judge(clients.history);
    expect(verdict.violations.map((violation) => violation.story)).toEqual([]);
    expect(verdict.unanswered).toBe(0);
    expect(verdict.requests).toBeGreaterThan(200);
    expect(verdict.retries).toBeGreaterThan(10);
  });

  test('a guest that rolls back under acknowledged answers is found', async () => {
    clients.start();
    await sleep(100);
    const old = server.beacon.checkpoint();
    await sleep(100);
    server.beacon.restore(old);
    await sleep(100);
    await clients.rest(2000);
    await clients.readBack(2000);
    const verdict = judge(clients.history);
    expect(Object.keys(verdict.byKind)).toEqual(
      expect.arrayContaining(['sequence-repeated', 'counter-back']),
    );
  });

  test('a silent guest leaves requests unanswered, and the silence is measured', async () => {
    clients.start();
    await sleep(100);
    server.mute = true;
    const mutedUs = performance.now() * 1000;
    await sleep(150);
    server.mute = false;
    await sleep(150);
    expect(await clients.rest(2000)).toBe(0);
    const offsetUs = Number(process.hrtime.bigint() / 1000n) - performance.now() * 1000;
    const silence = clients.arrivals.longestSilence(mutedUs + offsetUs, 500);
    const silentMs = silence === undefined ? 0 : (silence.toUs - silence.fromUs) / 1000;
    expect(silentMs).toBeGreaterThan(140);
    server.mute = true;
    clients.start();
    await sleep(50);
    expect(await clients.rest(100)).toBeGreaterThan(0);
    expect(judge(clients.history).byKind.unanswered).toBeGreaterThan(0);
  });

  test('the control client gets its answer, and an error when there is none', async () => {
    const answer = await clients.ask1({ op: Op.stats }, 1000);
    expect(answer.readBigUInt64LE(At.sequence)).toBe(1n);
    await expect(clients.ask1({ op: 99 }, 1000)).rejects.toThrow('status 1');
    server.mute = true;
    await expect(clients.ask1({ op: Op.stats }, 100)).rejects.toThrow('no answer');
  });
});

describe('oracle meter', () => {
  test('the longest silence that touches a stretch of time', () => {
    const log = new ArrivalLog();
    for (const us of [0, 100, 200, 50_200, 50_300, 400_000]) log.add(us);
    expect(log.longestSilence(150, 10)).toEqual({ fromUs: 200, toUs: 50_200 });
    expect(log.longestSilence(60_000, 1)).toEqual({ fromUs: 50_300, toUs: 400_000 });
    expect(log.longestSilence(500_000, 1)).toBeUndefined();
  });
});
